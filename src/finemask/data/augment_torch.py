"""torchvision.transforms.v2 behind the ``Augmentation`` protocol."""

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torchvision import tv_tensors
from torchvision.transforms import v2

from finemask.errors import ConfigError

_CHANGES_THE_TYPE = (v2.Normalize, v2.ToDtype, v2.ConvertImageDtype, v2.ToPILImage, v2.ToPureTensor)


class TorchAugmentation:
    """Runs torchvision v2 transforms on image and label maps; v2 itself moves masks by nearest neighbour.

    Args:
        transforms: v2 transforms, applied in order.

    Raises:
        ConfigError: a transform normalises or converts the image.
    """

    def __init__(self, transforms: Sequence[nn.Module]) -> None:
        self._transforms = v2.Compose(list(transforms))
        for transform in _flatten(transforms):
            if isinstance(transform, _CHANGES_THE_TYPE):
                raise ConfigError(
                    f"{type(transform).__name__} must not be among the augmentations: the model normalises "
                    "and resizes the uint8 image itself, so it would be done twice in training and once in "
                    "prediction",
                    where="augment.transforms",
                    remedy="Take it out; mean and standard deviation are set at the model",
                )

    def __call__(
        self, image: NDArray[np.uint8], layers: NDArray[np.uint8], rng: np.random.Generator
    ) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """See ``Augmentation``.

        Raises:
            ConfigError: the transforms returned another type, or image and maps of different size.
        """
        with torch.random.fork_rng(devices=[]):  # v2 draws from the global generator; leave it as it was
            torch.manual_seed(int(rng.integers(2**63)))
            moved, maps = self._transforms(
                tv_tensors.Image(torch.from_numpy(image).permute(2, 0, 1)),
                tv_tensors.Mask(torch.from_numpy(layers)),
            )
        if moved.dtype != torch.uint8 or maps.dtype != torch.uint8 or moved.shape != (3, *maps.shape[1:]):
            raise ConfigError(
                f"augmentation turned the image into {moved.dtype} {list(moved.shape)} "
                f"and its label maps into {maps.dtype} {list(maps.shape)}",
                where="augment.transforms",
                remedy="Images must stay uint8 RGB and keep the size of their label maps",
            )
        return (
            np.ascontiguousarray(moved.permute(1, 2, 0).numpy()),
            np.ascontiguousarray(maps.numpy()),
        )


def _flatten(transforms: Iterable[nn.Module]) -> Iterator[nn.Module]:
    """Transforms and those inside ``Compose``, ``RandomApply`` and the like, which are no submodules."""
    for transform in transforms:
        yield transform
        yield from _flatten(getattr(transform, "transforms", ()))
