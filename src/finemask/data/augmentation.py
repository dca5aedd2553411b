"""Augmentations: their two protocols, chains of them, and the transforms of albumentations and torchvision.

There are two kinds, each a protocol, and each of them is given all its randomness:

* An ``Augmentation`` changes one image: it gets the image and the label maps and returns both, changed alike.
  Flips, crops, colour and large-scale jitter are of this kind.
* A ``SceneAugmentation`` also sees which instances there are, and may draw other images of the dataset to make
  one out of several. Copy-paste and mosaic are of this kind, and so is ``Chain``, which puts augmentations of
  both kinds one after another.

Neither ever sees boxes: those are read off the maps afterwards, so a box cannot disagree with its mask, and an
instance cannot keep its label and lose its box.
"""

import os
import random
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, Protocol, TypeAlias, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray

from finemask.errors import ConfigError

# albumentations asks the package index for its latest version while being imported, unless told not to; a
# configuration imports it for its transforms, after this file.
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")

_CHANGES_THE_TYPE = {
    *("Normalize", "ToFloat", "FromFloat", "ToTensorV2", "ToTensor3D"),  # of albumentations
    *("Normalize", "ToDtype", "ConvertImageDtype", "ToPILImage", "ToPureTensor"),  # of torchvision
}
ImageAndLayers: TypeAlias = tuple[NDArray[np.uint8], NDArray[np.uint8]]


class Augmentation(Protocol):
    """Changes an image and its label maps alike.

    Args:
        image: uint8 [H, W, 3], RGB.
        layers: uint8 [L, H, W], label maps: to be moved by nearest neighbour only, 0 where nothing is.
        rng: the only source of randomness allowed; it differs by seed, epoch and image.

    Returns:
        Image and label maps of one common size, which may differ from H, W.
    """

    def __call__(self, image: NDArray[np.uint8], layers: NDArray[np.uint8], rng: np.random.Generator) -> ImageAndLayers:
        """Must not change its arguments."""
        ...


class Scene(NamedTuple):
    """An image and the instances in it, crowds left out.

    An instance that an augmentation has moved out of sight may keep its row; it has no pixels then.
    """

    image: NDArray[np.uint8]  # [H, W, 3], RGB
    layers: NDArray[np.uint8]  # [L, H, W], label maps; see ``finemask.ops.layers``
    slots: NDArray[np.int64]  # [N, 2], layer and value of each instance
    labels: NDArray[np.int64]  # [N], 1..K


Draw: TypeAlias = Callable[[np.random.Generator], Scene]
"""Another scene of the dataset, chosen by the generator that is handed over."""


@runtime_checkable
class SceneAugmentation(Protocol):
    """Makes one scene out of a scene and others of the dataset."""

    def augment_scene(self, scene: Scene, draw: Draw, rng: np.random.Generator) -> Scene:
        """One scene, whose instances may be fewer or more than before. Must not change its arguments.

        Args:
            scene: the image whose turn it is.
            draw: gives another scene each time it is called. In a ``Chain``, one that went through the same
                steps as ``scene`` so far.
            rng: the only source of randomness allowed, for ``draw`` as well.
        """
        ...


class NoAugmentation:
    """Leaves everything as it is."""

    def __call__(self, image: NDArray[np.uint8], layers: NDArray[np.uint8], rng: np.random.Generator) -> ImageAndLayers:
        """See ``Augmentation``."""
        return image, layers


class PerImage:
    """Adapts an ``Augmentation`` to the protocol of scenes: it draws no others.

    Args:
        augment: of one image.
    """

    def __init__(self, augment: Augmentation) -> None:
        self._augment = augment

    def augment_scene(self, scene: Scene, draw: Draw, rng: np.random.Generator) -> Scene:
        """See ``SceneAugmentation``."""
        image, layers = self._augment(scene.image, scene.layers, rng)
        return scene._replace(image=image, layers=layers)


def as_scene_augmentation(augment: Augmentation | SceneAugmentation) -> SceneAugmentation:
    """Either kind as a ``SceneAugmentation``."""
    return augment if isinstance(augment, SceneAugmentation) else PerImage(augment)


class Chain:
    """Composes named augmentations, in the order they are given.

    A step that mixes images, such as copy-paste, draws images that went through the steps before it, each with
    random choices of its own. So jitter, then copy-paste, is the recipe of Ghiasi et al. (2021): both images are
    jittered, then instances of one are pasted into the other. Steps after it see the mixed image.

    The names are free. They are what a command line says to change a step, as in ``augment.paste.blend_px=2``.

    Args:
        steps: of either kind.

    Raises:
        ConfigError: a step is no augmentation.
    """

    def __init__(self, **steps: Augmentation | SceneAugmentation) -> None:
        for name, step in steps.items():
            if not callable(step) and not isinstance(step, SceneAugmentation):
                raise ConfigError(
                    f"the step is {step!r}, which is no augmentation",
                    where=f"augment.{name}",
                    remedy=f"Give it a _target_; to leave a step out, write '~augment.{name}'.",
                )
        self._steps = [as_scene_augmentation(step) for step in steps.values()]

    def augment_scene(self, scene: Scene, draw: Draw, rng: np.random.Generator) -> Scene:
        """See ``SceneAugmentation``."""
        for step in self._steps:
            scene = step.augment_scene(scene, draw, rng)
            draw = _after(step, draw)
        return scene


def _after(step: SceneAugmentation, draw: Draw) -> Draw:
    """Draws what ``draw`` does, and has the step done to it."""
    return lambda rng: step.augment_scene(draw(rng), draw, rng)


class AlbumentationsAugmentation:
    """Transforms of albumentations 2.0.8 on image and label maps.

    Label maps travel as ``masks`` and are always moved by nearest neighbour; boxes are never handed over.

    Args:
        transforms: albumentations transforms, nested ``OneOf``, ``SomeOf`` and the like included.

    Raises:
        ConfigError: a transform normalises or converts the image, or fills masks with something that is no
            instance.
    """

    def __init__(self, transforms: Sequence[Any]) -> None:
        import albumentations
        import cv2

        for transform in _nested(transforms):
            if not isinstance(transform, albumentations.BasicTransform | albumentations.BaseCompose):
                raise ConfigError(
                    f"{type(transform).__name__} is not an albumentations transform",
                    where="augment.transforms",
                    remedy="Transforms of torchvision go with augment=torch",
                )
            _refuse_change_of_type(transform)
            fill = getattr(transform, "fill_mask", None)
            if fill is not None and np.any(np.asarray(fill) != 0):
                raise ConfigError(
                    f"{type(transform).__name__} has fill_mask={fill!r}; new pixels would belong to a random instance",
                    where="augment.transforms",
                    remedy="Leave fill_mask at 0",
                )
        self._compose = albumentations.Compose(list(transforms), mask_interpolation=cv2.INTER_NEAREST)

    def __call__(self, image: NDArray[np.uint8], layers: NDArray[np.uint8], rng: np.random.Generator) -> ImageAndLayers:
        """See ``Augmentation``.

        Raises:
            ConfigError: the transforms returned another type, or image and maps of different size.
        """
        # set_random_seed would build a generator for every transform; sharing one is the cheap way
        self._compose.set_random_state(rng, random.Random(int(rng.integers(2**63))))
        out = self._compose(image=image, masks=layers)
        return _still_uint8(out["image"], np.asarray(out["masks"]))


class TorchAugmentation:
    """Transforms of ``torchvision.transforms.v2`` on image and label maps; v2 moves masks by nearest neighbour.

    Args:
        transforms: v2 transforms, applied in order.

    Raises:
        ConfigError: a transform normalises or converts the image.
    """

    def __init__(self, transforms: Sequence[torch.nn.Module]) -> None:
        from torchvision.transforms import v2

        for transform in _nested(transforms):
            _refuse_change_of_type(transform)
        self._transforms = v2.Compose(list(transforms))

    def __call__(self, image: NDArray[np.uint8], layers: NDArray[np.uint8], rng: np.random.Generator) -> ImageAndLayers:
        """See ``Augmentation``.

        Raises:
            ConfigError: the transforms returned another type, or image and maps of different size.
        """
        from torchvision import tv_tensors

        with torch.random.fork_rng(devices=[]):  # v2 draws from the global generator; leave it as it was
            torch.manual_seed(int(rng.integers(2**63)))
            moved, maps = self._transforms(
                tv_tensors.Image(torch.from_numpy(image).permute(2, 0, 1)), tv_tensors.Mask(torch.from_numpy(layers))
            )
        return _still_uint8(moved.permute(1, 2, 0).numpy(), maps.numpy())


def _nested(transforms: Sequence[Any]) -> Iterator[Any]:
    """Transforms and those inside ``OneOf``, ``Compose``, ``RandomApply`` and the like."""
    for transform in transforms:
        yield transform
        yield from _nested(getattr(transform, "transforms", ()))


def _refuse_change_of_type(transform: Any) -> None:
    name = type(transform).__name__
    if name in _CHANGES_THE_TYPE:
        raise ConfigError(
            f"{name} must not be among the augmentations: the model normalises and resizes the uint8 image "
            "itself, so it would be done twice in training and once in prediction",
            where="augment.transforms",
            remedy="Take it out; mean and standard deviation are set at the model",
        )


def _still_uint8(image: NDArray[Any], layers: NDArray[Any]) -> ImageAndLayers:
    """What transforms returned, contiguous; raises where it is no longer an image and its label maps."""
    if image.dtype != np.uint8 or layers.dtype != np.uint8 or image.shape != (*layers.shape[1:], 3):
        raise ConfigError(
            f"augmentation turned the image into {image.dtype} {list(image.shape)} "
            f"and its label maps into {layers.dtype} {list(layers.shape)}",
            where="augment.transforms",
            remedy="Images must stay uint8 RGB and keep the size of their label maps",
        )
    return np.ascontiguousarray(image), np.ascontiguousarray(layers)
