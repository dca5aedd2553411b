"""Checking what stands under ``segmentation`` before pycocotools sees it, which misreads some of it."""

import math
from typing import Any

from finemask.ops.rle import rle_from_segmentation
from finemask.ops.rle_crop import run_lengths
from finemask.types import Rle

MIN_POLYGON_NUMBERS = 6


def checked_rle(segmentation: Any, height: int, width: int) -> Rle:
    """Polygons, compressed or uncompressed RLE as a compressed RLE of the image's size.

    Raises:
        ValueError: a polygon of fewer than three points (pycocotools takes four numbers for a box), an odd
            count or something that is not a number in it, or an RLE that does not describe height × width
            pixels.
    """
    if isinstance(segmentation, list):
        for polygon in segmentation:
            _check_polygon(polygon)
    rle = rle_from_segmentation(segmentation, height, width)
    if isinstance(segmentation, dict) and not isinstance(segmentation["counts"], list):
        runs = run_lengths(rle["counts"])
        if int(runs.sum()) != height * width or (runs < 0).any():
            raise ValueError(f"the RLE's counts add up to {int(runs.sum())}, the image has {height * width} pixels")
    return rle


def _check_polygon(polygon: Any) -> None:
    if not isinstance(polygon, list) or not all(is_number(value) for value in polygon):
        raise ValueError("a polygon must be a list of finite numbers [x0, y0, x1, y1, …]")
    if len(polygon) < MIN_POLYGON_NUMBERS or len(polygon) % 2:
        raise ValueError(f"a polygon of {len(polygon)} numbers; it takes pairs of x and y, and at least three of them")


def is_number(value: Any) -> bool:
    """A finite int or float; a bool is none."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


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
