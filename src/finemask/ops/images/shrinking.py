"""A picture, or a part of it, at a whole fraction of its size, read strip by strip; and masks on the same grid."""

from math import ceil
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from finemask.ops.images.window_reader import Window, WindowReader
from finemask.ops.rle import crop_to_rle, rle_to_crop
from finemask.types import Rle

MOST_PX = 4096  # of the longer side of a picture that people look at
_STRIP_BYTES = 2**26


def shrink_factor(height: int, width: int, most_px: int = MOST_PX) -> int:
    """The least whole number of px that has to become one, for a longer side of at most ``most_px``."""
    return max(1, ceil(max(height, width) / most_px))


def read_shrunk(reader: WindowReader, window: Window, factor: int) -> NDArray[np.uint8]:
    """A window at a fraction of its size: a pixel is the mean of the ``factor`` × ``factor`` that it stands for.

    Args:
        reader: of the picture.
        window: inside it.
        factor: at least 1.

    Returns:
        RGB, uint8 [⌈h / factor⌉, ⌈w / factor⌉, 3]; no more than 64 MiB of the window are held besides.

    Raises:
        DataError: the file is damaged.
    """
    x0, y0, x1, y1 = window
    if factor == 1:
        return reader.read(window)
    small = np.empty((ceil((y1 - y0) / factor), ceil((x1 - x0) / factor), 3), dtype=np.uint8)
    rows = max(1, _STRIP_BYTES // (3 * (x1 - x0) * factor))  # of the small picture
    for row in range(0, len(small), rows):
        top = y0 + row * factor
        strip = reader.read((x0, top, x1, min(top + rows * factor, y1)))
        small[row : row + rows] = _means(strip, factor)
    return small


def shrunk_mask(rle: Rle, factor: int) -> Rle:
    """A mask at a fraction of its size: a pixel is set if half of those it stands for are; what is smaller goes."""
    height, width = rle["size"]
    small_hw = (ceil(height / factor), ceil(width / factor))
    mask, x0, y0 = rle_to_crop(rle)
    if not mask.size:
        return crop_to_rle(np.zeros((0, 0), dtype=np.bool_), 0, 0, *small_hw)
    on_grid = np.pad(mask.astype(np.float32), ((y0 % factor, -(y0 + mask.shape[0]) % factor), (x0 % factor, 0)))
    on_grid = np.pad(on_grid, ((0, 0), (0, -on_grid.shape[1] % factor)))
    return crop_to_rle(np.asarray(_means(on_grid, factor) >= 0.5), x0 // factor, y0 // factor, *small_hw)


def _means(values: NDArray[Any], factor: int) -> NDArray[Any]:
    """Means of squares of so many pixels; at the lower and right edge of what there is of them."""
    height, width = values.shape[:2]
    beyond = ((0, -height % factor), (0, -width % factor), *((0, 0),) * (values.ndim - 2))
    values = np.pad(values, beyond, mode="edge")
    size = (values.shape[1] // factor, values.shape[0] // factor)
    return np.asarray(cv2.resize(values, size, interpolation=cv2.INTER_AREA))
