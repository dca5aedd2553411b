"""What an augmentation is.

There are two kinds, each a protocol, and each of them is given all its randomness:

* An ``Augmentation`` changes one image: it gets the image and the label maps and returns both, changed alike.
  Flips, crops, colour and large-scale jitter are of this kind.
* A ``SceneAugmentation`` also sees which instances there are, and may draw other images of the dataset to make
  one out of several. Copy-paste and mosaic are of this kind, and so is ``Chain``, which puts augmentations of
  both kinds one after another.

Neither ever sees boxes: those are read off the maps afterwards, so a box cannot disagree with its mask, and an
instance cannot keep its label and lose its box.

Every kind of augmentation lives in a file of its own, so that no library is imported in vain.
"""

from collections.abc import Callable
from typing import NamedTuple, Protocol, TypeAlias, runtime_checkable

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

    def __call__(
        self, image: NDArray[np.uint8], layers: NDArray[np.uint8], rng: np.random.Generator
    ) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """See ``Augmentation``."""
        return image, layers
