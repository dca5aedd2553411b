"""What an augmentation is.

Two kinds live in files of their own, so that neither's library is imported in vain.

An augmentation gets the image and the label maps and returns both, changed alike. It never sees boxes: those
are read off the maps afterwards, so a box cannot disagree with its mask, and an instance cannot keep its
label and lose its box.
"""

from typing import Protocol

import numpy as np
from numpy.typing import NDArray


class Augmentation(Protocol):
    """Changes an image and its label maps alike.

    Args:
        image: uint8 [H, W, 3], RGB.
        layers: uint8 [L, H, W], label maps: to be moved by nearest neighbour only, 0 where nothing is.
        rng: the only source of randomness allowed; it differs by seed, epoch and image.

    Returns:
        Image and label maps of one common size, which may differ from H, W.
    """

    def __call__(
        self, image: NDArray[np.uint8], layers: NDArray[np.uint8], rng: np.random.Generator
    ) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """Must not change its arguments."""
        ...


class NoAugmentation:
    """Leaves everything as it is."""

    def __call__(
        self, image: NDArray[np.uint8], layers: NDArray[np.uint8], rng: np.random.Generator
    ) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """See ``Augmentation``."""
        return image, layers
