"""Whether the objects of a dataset have an up: told from their boxes alone, or not at all.

Where a picture may as well be turned by a quarter, as from a microscope or an aircraft, a class has as many boxes that
are taller than wide as the other way round, and objects are as large below as above. People, windows and cars are not
like that. What is symmetric by chance, in few images, is not told from what is so by nature: then nothing is claimed.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_ELONGATED = 1.1  # longer over shorter side from which a box stands or lies
_FEWEST_IMAGES, _FEWEST_OBJECTS = 20, 200
_SYMMETRIC = 0.15  # that lean and depth stay below where there is no up
_DRAWS, _UPPER = 200, 95.0  # of images with replacement; percentile
_MOST_IMAGES = 5_000


@dataclass(frozen=True)
class Direction:
    """What the boxes say of up and down.

    Args:
        lean: 0: each class stands as often as it lies; 1: each does one of them only. None: too little to tell.
        depth: correlation of an object's size with its height in the picture, -1..1.
        most_lean: what ``lean`` might be with other images: 95 of 100 draws lie below.
        most_depth: the same for the absolute value of ``depth``.
    """

    lean: float | None = None
    depth: float = 0.0
    most_lean: float = 1.0
    most_depth: float = 1.0

    @property
    def is_present(self) -> bool:
        """Whether they stand, or lie, or recede."""
        return self.lean is not None and max(self.lean, abs(self.depth)) >= _SYMMETRIC

    @property
    def is_absent(self) -> bool:
        """Whether objects lie in every direction, which is claimed only where there is enough to see it."""
        return self.lean is not None and self.most_lean < _SYMMETRIC and self.most_depth < _SYMMETRIC


def direction_of(
    boxes: NDArray[np.floating], size_hw: NDArray[np.integer], image: NDArray[np.int64], labels: NDArray[np.int64]
) -> Direction:
    """Measures it.

    Args:
        boxes: [n, 4], xyxy px.
        size_hw: [n, 2], height and width of the image of each.
        image: [n], which image each is in.
        labels: [n], 1..K.
    """
    width, height = (boxes[:, 2:] - boxes[:, :2]).astype(np.float64).T
    stands, lies = height > _ELONGATED * width, width > _ELONGATED * height
    present, row = np.unique(image, return_inverse=True)
    if len(present) < _FEWEST_IMAGES or int((stands | lies).sum()) < _FEWEST_OBJECTS:
        return Direction()
    used = row < _MOST_IMAGES
    images, classes = min(len(present), _MOST_IMAGES), int(labels.max())
    cell = (row * classes + labels - 1)[used]
    tall, wide = (
        np.bincount(cell, weights=which[used], minlength=images * classes).reshape(images, classes)
        for which in (stands, lies)
    )
    size = np.log(width * height) / 2
    place = (boxes[:, 1] + boxes[:, 3]) / 2 / size_hw[:, 0]
    terms = (np.ones_like(size), size, place, size * size, place * place, size * place)
    sums = np.stack([np.bincount(row[used], weights=term[used], minlength=images) for term in terms], axis=1)
    rng = np.random.default_rng(0)
    draws = rng.multinomial(images, np.full(images, 1 / images), size=_DRAWS).astype(np.float64)
    return Direction(
        lean=float(_lean(tall.sum(axis=0), wide.sum(axis=0))),
        depth=float(_correlation(sums.sum(axis=0))),
        most_lean=float(np.percentile(_lean(draws @ tall, draws @ wide), _UPPER)),
        most_depth=float(np.percentile(np.abs(_correlation(draws @ sums)), _UPPER)),
    )


def _lean(tall: NDArray[np.float64], wide: NDArray[np.float64]) -> NDArray[np.float64]:
    """Root mean square of (tall - wide) / (tall + wide) over the objects of the classes [..., K]: [...].

    What chance alone would give, one object a class, is taken off.
    """
    number = tall + wide
    apart = np.divide((tall - wide) ** 2, number, out=np.zeros_like(number), where=number > 0)
    excess = (apart - (number > 0)).sum(axis=-1) / np.maximum(number.sum(axis=-1), 1)
    lean: NDArray[np.float64] = np.sqrt(np.maximum(excess, 0))
    return lean


def _correlation(sums: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of sums of 1, x, y, x², y² and xy, [..., 6]: [...]; 0 where one of them does not vary."""
    number, x, y, xx, yy, xy = np.moveaxis(sums, -1, 0)
    product = (number * xx - x * x) * (number * yy - y * y)
    scale = np.sqrt(np.maximum(product, 0))
    found: NDArray[np.float64] = np.divide(number * xy - x * y, scale, out=np.zeros_like(scale), where=scale > 1e-9)
    return found
