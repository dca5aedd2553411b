"""Albumentations 2.0.8 behind the ``Augmentation`` protocol. The only file that imports it."""

import os
import random
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from finemask.errors import ConfigError

# It asks the package index for its latest version while being imported, unless told not to.
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")

import albumentations as A  # noqa: N812
import cv2

_CHANGES_THE_TYPE = {"Normalize", "ToFloat", "FromFloat", "ToTensorV2", "ToTensor3D"}


class AlbumentationsAugmentation:
    """Runs albumentations transforms on image and label maps.

    Label maps travel as ``masks`` and are always moved by nearest neighbour; boxes are never handed over.

    Args:
        transforms: albumentations transforms, nested ``OneOf``, ``SomeOf`` and the like included.

    Raises:
        ConfigError: a transform normalises or converts the image, or fills masks with something that is no
            instance.
    """

    def __init__(self, transforms: Sequence[Any]) -> None:
        for transform in _flatten(transforms):
            _check(transform)
        self._compose = A.Compose(list(transforms), mask_interpolation=cv2.INTER_NEAREST)

    def __call__(
        self, image: NDArray[np.uint8], layers: NDArray[np.uint8], rng: np.random.Generator
    ) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """See ``Augmentation``.

        Raises:
            ConfigError: the transforms returned another type, or image and maps of different size.
        """
        # set_random_seed would build a generator for every transform; sharing one is the cheap way
        self._compose.set_random_state(rng, random.Random(int(rng.integers(2**63))))
        out = self._compose(image=image, masks=layers)
        image, layers = out["image"], np.asarray(out["masks"])
        if image.dtype != np.uint8 or layers.dtype != np.uint8 or image.shape != (*layers.shape[1:], 3):
            raise ConfigError(
                f"augmentation turned the image into {image.dtype} {list(image.shape)} "
                f"and its label maps into {layers.dtype} {list(layers.shape)}",
                where="augment.transforms",
                remedy="Images must stay uint8 RGB and keep the size of their label maps",
            )
        return np.ascontiguousarray(image), np.ascontiguousarray(layers)


def _flatten(transforms: Sequence[Any]) -> Iterator[Any]:
    for transform in transforms:
        if isinstance(transform, A.BaseCompose):
            yield from _flatten(transform.transforms)
        else:
            yield transform


def _check(transform: Any) -> None:
    name = type(transform).__name__
    if not isinstance(transform, A.BasicTransform):
        raise ConfigError(
            f"{name} is not an albumentations transform",
            where="augment.transforms",
            remedy="Transforms of torchvision go with augment=torch",
        )
    if name in _CHANGES_THE_TYPE:
        raise ConfigError(
            f"{name} must not be among the augmentations: the model normalises and resizes the uint8 image "
            "itself, so it would be done twice in training and once in prediction",
            where="augment.transforms",
            remedy="Take it out; mean and standard deviation are set at the model",
        )
    fill = getattr(transform, "fill_mask", None)
    if fill is not None and np.any(np.asarray(fill) != 0):
        raise ConfigError(
            f"{name} has fill_mask={fill!r}; new pixels would belong to a random instance",
            where="augment.transforms",
            remedy="Leave fill_mask at 0",
        )
