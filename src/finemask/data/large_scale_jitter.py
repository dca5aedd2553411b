"""Large-scale jitter: an image much smaller or larger than it was, on a canvas of fixed size."""

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from finemask.data.resize import resize_window
from finemask.data.settings import canvas_side, colour, interval


class LargeScaleJitter:
    """Resizes an image by a random factor and crops or pads it to a square (Ghiasi et al. 2021).

    At a factor of 1 the longer side of the image is the side of the square. Below, the image is put at a random
    place and surrounded by one colour; above, a random part of it is shown.

    Args:
        size: side of the square in px. The model resizes once more unless this is its ``min_size``.
        scale: least and greatest factor; 0.1 and 2 in the paper, which also calls 0.8 to 1.25 standard.
        fill: RGB around a small image. The default is ImageNet's mean, which the model turns into 0.

    Raises:
        ConfigError: a value out of range.
    """

    def __init__(self, size: int, scale: Sequence[float] = (0.1, 2.0), fill: Sequence[int] = (124, 116, 104)) -> None:
        self._size = canvas_side(size, "size of LargeScaleJitter")
        self._scale = interval(scale, "scale of LargeScaleJitter", least=0.01)
        self._fill = colour(fill, "fill of LargeScaleJitter")

    def __call__(
        self, image: NDArray[np.uint8], layers: NDArray[np.uint8], rng: np.random.Generator
    ) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """See ``Augmentation``."""
        height, width = image.shape[:2]
        factor = rng.uniform(*self._scale) * self._size / max(height, width)
        y0, y1, top, bottom = self._along(height, factor, rng)
        x0, x1, left, right = self._along(width, factor, rng)
        moved, maps = resize_window(image, layers, (x0, y0, x1, y1), (bottom - top, right - left))
        border = top, self._size - bottom, left, self._size - right
        canvas = cv2.copyMakeBorder(moved, *border, cv2.BORDER_CONSTANT, value=self._fill)
        canvas_maps = np.zeros((len(layers), self._size, self._size), dtype=np.uint8)
        canvas_maps[:, top:bottom, left:right] = maps
        return np.asarray(canvas, dtype=np.uint8), canvas_maps

    def _along(self, length: int, factor: float, rng: np.random.Generator) -> tuple[int, int, int, int]:
        """On one axis: the part of the image that is shown, and the part of the canvas that it fills."""
        shown = max(1, min(length, round(self._size / factor)))
        filled = max(1, min(self._size, round(shown * factor)))
        start = int(rng.integers(length - shown + 1))
        place = int(rng.integers(self._size - filled + 1))
        return start, start + shown, place, place + filled
