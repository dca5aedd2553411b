"""What an image looks like, in eight numbers; and whether it looks like any of a set of images."""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

FEATURES = (
    "lightness", "contrast", "redness", "yellowness", "colourfulness", "fine detail", "detail", "coarse detail",
)  # fmt: skip
FEWEST = 10  # images that say anything of others
MOST = 100  # that are kept of a set
_SIDE_PX = 256  # longer side of what is looked at; smaller images are not enlarged
_LEAST_SPREAD = (3.0, 2.0, 1.5, 1.5, 1.0, 0.1, 0.1, 0.1)  # below these, images of one kind are the same
_QUANTILE, _MARGIN = 0.95, 1.25  # of the distances within a set; both are judged in scripts/measure_drift.py
_DETAIL = slice(5, 8)  # these are logarithms
_FLAT = 0.05  # detail of an image without any, for the logarithm


def look_of(image: NDArray[np.uint8]) -> NDArray[np.float64]:
    """The look of an image, [8], in the order of ``FEATURES``.

    In CIELAB: mean and standard deviation of L (0..100); means of a (green to red) and b (blue to yellow); mean
    distance from those; and the decimal logarithm of the mean absolute Laplacian of L at full, half and quarter size.

    Args:
        image: uint8 [H, W, 3], RGB.
    """
    height, width = image.shape[:2]
    scale = min(1.0, _SIDE_PX / max(height, width))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    small = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    lightness, a, b = cv2.split(cv2.cvtColor(small.astype(np.float32) / 255, cv2.COLOR_RGB2LAB))
    colours = np.hypot(a - a.mean(), b - b.mean()).mean()
    details = []
    level = lightness
    for _ in range(3):
        details.append(np.log10(np.abs(cv2.Laplacian(level, cv2.CV_32F)).mean() + _FLAT))
        level = cv2.resize(level, [max(1, side // 2) for side in level.shape[::-1]], interpolation=cv2.INTER_AREA)
    return np.array([lightness.mean(), lightness.std(), a.mean(), b.mean(), colours, *details], dtype=np.float64)


@dataclass(frozen=True, slots=True)
class LooksOfASet:
    """The looks of a set of images, and how far from the nearest of them an image still looks like them.

    Args:
        spread: [8], what a difference of each feature is counted in.
        looks: of at most ``MOST`` images, each [8].
        limit: distance up to which an image is like them: 1.25 times what 95 of 100 of them have to the nearest other.
    """

    spread: tuple[float, ...]
    looks: tuple[tuple[float, ...], ...]
    limit: float

    @classmethod
    def of(cls, looks: Sequence[NDArray[np.float64]]) -> "LooksOfASet | None":
        """Of the looks of some images, at most ``MOST`` of them, evenly spread; None of fewer than ``FEWEST``."""
        if len(looks) < FEWEST:
            return None
        rows = np.linspace(0, len(looks) - 1, min(len(looks), MOST)).round().astype(int)
        chosen = np.round(np.stack(looks)[rows], 2)
        spread = np.round(np.maximum(chosen.std(axis=0), _LEAST_SPREAD), 3)
        apart = np.sqrt((((chosen[:, None] - chosen[None]) / spread) ** 2).mean(axis=2))
        np.fill_diagonal(apart, np.inf)
        nearest = np.maximum(apart.min(axis=1), 0.1)  # a set of equal images has a limit, too
        limit = round(float(_MARGIN * np.quantile(nearest, _QUANTILE)), 4)
        return cls(tuple(spread.tolist()), tuple(map(tuple, chosen.tolist())), limit)

    def drift(self, look: NDArray[np.float64]) -> float:
        """How unlike all of the set an image is, by its look [8]: above 1 it is."""
        differences = (np.array(self.looks) - look) / np.array(self.spread)
        return float(np.sqrt((differences**2).mean(axis=1)).min()) / self.limit

    def in_words(self, look: NDArray[np.float64]) -> str:
        """By what an image differs most: ``lightness 8, theirs 41 to 78``."""
        own = np.array(self.looks)
        low, high = own.min(axis=0), own.max(axis=0)
        beyond = np.maximum(low - look, look - high) / np.array(self.spread)
        worst = int(beyond.argmax())
        if beyond[worst] <= 0:
            return "no single feature of it, but a combination that none of them has"
        values = np.stack([look, low, high])
        values[:, _DETAIL] = 10 ** values[:, _DETAIL]
        value, least, most = (f"{one:.3g}" for one in values[:, worst].tolist())
        return f"{FEATURES[worst]} {value}, theirs {least} to {most}"
