"""Pictures whose pixels are numbers of instances."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from finemask.errors import DataError
from finemask.ops.rle import crop_to_rle
from finemask.types import Rle

CLASS_FACTOR = 1000  # Cityscapes and MOTS: class × 1000 + number

CITYSCAPES_THINGS = {
    24: "person", 25: "rider", 26: "car", 27: "truck", 28: "bus", 29: "caravan", 30: "trailer", 31: "train",
    32: "motorcycle", 33: "bicycle",
}  # fmt: skip
"""Classes of Cityscapes that have instances, by their ids."""


def read_numbers(path: Path) -> NDArray[np.int64]:
    """A picture's pixels as whole numbers.

    Args:
        path: grey of 1, 8, 16 or 32 bits, palette (the index counts, not the colour), or RGB, where every colour
            is a number: red × 65536 + green × 256 + blue.

    Returns:
        int64 [H, W].

    Raises:
        DataError: it cannot be read, or holds fractions.
    """
    try:
        with Image.open(path) as image:
            if image.mode in ("LA", "La"):
                values = np.asarray(image.convert("LA").convert("L"))
            elif image.mode in ("L", "P", "1", "F") or image.mode.startswith("I"):
                values = np.asarray(image)
            else:
                rgb = np.asarray(image.convert("RGB"), dtype=np.int64)
                return (rgb[..., 0] << 16) + (rgb[..., 1] << 8) + rgb[..., 2]
    except Exception as error:  # Pillow's plugins raise nearly anything on damaged files
        raise DataError(f"this mask cannot be read ({error})", where=path) from error
    numbers = values.astype(np.int64)
    if values.dtype.kind == "f" and not np.array_equal(numbers, values):
        raise DataError("this mask holds fractions, numbers of instances were expected", where=path)
    return numbers


def masks_of(numbers: NDArray[np.int64]) -> dict[int, Rle]:
    """The mask of every number but 0.

    Args:
        numbers: [H, W].

    Returns:
        Number to mask, ascending.
    """
    height, width = numbers.shape
    values, ranks = np.unique(numbers, return_inverse=True)
    ranks = ranks.reshape(numbers.shape)
    found = {}
    for rank, window in enumerate(ndimage.find_objects(ranks + 1)):
        value = int(values[rank])
        if value != 0 and window is not None:
            crop = ranks[window] == rank
            found[value] = crop_to_rle(crop, window[1].start, window[0].start, height, width)
    return found


def palette_index(rgb: NDArray[np.int64]) -> NDArray[np.int64]:
    """The index that a colour has in Pascal VOC's palette; other colours give some number too.

    Args:
        rgb: as ``read_numbers`` gives it for RGB pictures.
    """
    index = np.zeros_like(rgb)
    for bit in range(8):  # bit 3 i + c of the index is bit 7 - i of channel c
        for channel, shift in enumerate((16, 8, 0)):
            place = 3 * (7 - bit) + channel
            if place < 8:
                index |= ((rgb >> (shift + bit)) & 1) << place
    return index
