"""Instances of an image that is too large to be held: the same on a picture of it that fits on a screen."""

from dataclasses import replace
from math import ceil
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from finemask.inference.instances import Instances
from finemask.ops.images.image_reading import AS_THE_FILE_SAYS, ImageReading
from finemask.ops.images.window_reader import open_image
from finemask.ops.rle import crop_to_rle, rle_to_crop
from finemask.types import Rle

MOST_PX = 4096  # of the longer side
_STRIP_BYTES = 2**26


def shrunk(
    instances: Instances,
    reading: ImageReading = AS_THE_FILE_SAYS,
    free_memory_bytes: float | None = None,
    most_px: int = MOST_PX,
) -> Instances:
    """Instances and picture at the largest whole fraction of their size that is no longer than ``most_px``.

    A pixel is the mean of those that it stands for, and of a mask if half of them are; what is smaller goes.

    Args:
        instances: of an image file, which is read again, strip by strip.
        reading: of files that hold more than one 8-bit picture.
        free_memory_bytes: what the pixels of the file may take; None: unlimited.
        most_px: of the longer side.

    Raises:
        DataError: the file cannot be read.
    """
    height, width = instances.image_size_hw
    factor = ceil(max(height, width) / most_px)
    small_hw = (ceil(height / factor), ceil(width / factor))
    picture = np.empty((*small_hw, 3), dtype=np.uint8)
    rows = max(1, _STRIP_BYTES // (3 * width * factor)) * factor
    assert instances.path is not None
    with open_image(instances.path, (height, width), free_memory_bytes=free_memory_bytes, reading=reading) as reader:
        for y in range(0, height, rows):
            strip = reader.read((0, y, width, min(y + rows, height)))
            small = _means(strip, factor)
            picture[y // factor : y // factor + len(small)] = small
    return replace(
        instances,
        boxes=(instances.boxes / factor).astype(np.float32),
        rles=[_shrunk_mask(rle, factor, small_hw) for rle in instances.rles],
        image_size_hw=small_hw,
        image=picture,
    )


def _shrunk_mask(rle: Rle, factor: int, small_hw: tuple[int, int]) -> Rle:
    mask, x0, y0 = rle_to_crop(rle)
    if not mask.size:
        return crop_to_rle(np.zeros((1, 1), dtype=np.bool_), 0, 0, *small_hw)
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
