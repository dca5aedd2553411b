"""Instances of an image that is too large to be held: the same on a picture of it that fits on a screen."""

from dataclasses import replace

import numpy as np

from finemask.inference.instances import Instances
from finemask.ops.images.image_reading import AS_THE_FILE_SAYS, ImageReading
from finemask.ops.images.shrinking import MOST_PX, read_shrunk, shrink_factor, shrunk_mask
from finemask.ops.images.window_reader import open_image


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
    factor = shrink_factor(height, width, most_px)
    assert instances.path is not None
    with open_image(instances.path, (height, width), free_memory_bytes=free_memory_bytes, reading=reading) as reader:
        picture = read_shrunk(reader, (0, 0, width, height), factor)
    return replace(
        instances,
        boxes=(instances.boxes / factor).astype(np.float32),
        rles=[shrunk_mask(rle, factor) for rle in instances.rles],
        image_size_hw=picture.shape[:2],
        image=picture,
        pixel_m=None if instances.pixel_m is None else instances.pixel_m * factor,
    )
