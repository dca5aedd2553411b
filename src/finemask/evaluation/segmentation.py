"""Checking what stands under ``segmentation`` before pycocotools sees it, which misreads some of it."""

import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

from finemask.ops.mask_runs import counts_fit
from finemask.ops.rle import rle_from_segmentation, run_lengths
from finemask.types import Rle

MIN_POLYGON_NUMBERS = 6
_LARGEST = sys.float_info.max


def checked_rle(segmentation: Any, height: int, width: int) -> Rle:
    """Polygons, compressed or uncompressed RLE as a compressed RLE of the image's size.

    Raises:
        ValueError: as of ``as_rle``, or an RLE that does not describe height × width pixels.
    """
    rle = as_rle(segmentation, height, width)
    if isinstance(segmentation, dict) and not isinstance(segmentation["counts"], list):
        check_counts(rle)
    return rle


def as_rle(segmentation: Any, height: int, width: int) -> Rle:
    """The same without a look at what compressed counts add up to; ``first_misfit`` does that for many at once.

    Raises:
        ValueError: a polygon of fewer than three points (pycocotools takes four numbers for a box), an odd count or
            something that is not a number in it, or an RLE of another size.
    """
    if isinstance(segmentation, list):
        for polygon in segmentation:
            _check_polygon(polygon)
    return rle_from_segmentation(segmentation, height, width)


def check_counts(rle: Rle) -> None:
    """Refuses compressed counts that do not describe the pixels of their size.

    Raises:
        ValueError: they do not.
    """
    runs, pixels = run_lengths(rle["counts"]), rle["size"][0] * rle["size"][1]
    if int(runs.sum()) != pixels or (runs < 0).any():
        raise ValueError(f"the RLE's counts add up to {int(runs.sum())}, the image has {pixels} pixels")


def first_misfit(rles: Sequence[Rle]) -> tuple[int, str] | None:
    """Position of the first RLE that ``check_counts`` refuses, and why; a hundred times quicker than one by one."""
    if not rles:
        return None
    pixels = np.array([rle["size"][0] * rle["size"][1] for rle in rles], dtype=np.int64)
    fits = counts_fit([rle["counts"].encode("utf-8") for rle in rles], pixels)
    for position in np.flatnonzero(~fits).tolist():
        try:
            check_counts(rles[position])
        except ValueError as error:
            return position, str(error)
    return None


def _check_polygon(polygon: Any) -> None:
    if not isinstance(polygon, list) or not all(is_number(value) for value in polygon):
        raise ValueError("a polygon must be a list of finite numbers [x0, y0, x1, y1, …]")
    if len(polygon) < MIN_POLYGON_NUMBERS or len(polygon) % 2:
        raise ValueError(f"a polygon of {len(polygon)} numbers; it takes pairs of x and y, and at least three of them")


def is_number(value: Any) -> bool:
    """A finite int or float that a float can hold; a bool is none."""
    return isinstance(value, int | float) and not isinstance(value, bool) and -_LARGEST <= value <= _LARGEST


def checked_box(box: Any) -> list[float]:
    """A box as four floats, xywh px.

    Raises:
        ValueError: it is not four finite numbers, or a side is negative.
    """
    if not isinstance(box, list | tuple) or len(box) != 4 or not all(is_number(value) for value in box):
        raise ValueError(f"bbox must be four finite numbers [x, y, width, height], not {box!r}")
    if box[2] < 0 or box[3] < 0:
        raise ValueError(f"bbox {list(box)} has a negative side; it is [x, y, width, height]")
    return [float(value) for value in box]
