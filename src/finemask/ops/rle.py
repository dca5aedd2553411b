"""Run-length encodings as COCO writes them: column-major runs, zeros first.

pycocotools is the reference throughout: its rasteriser decides which pixels a polygon covers, here and in
evaluation alike.
"""

from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from finemask.types import Rle

_MOST_DIGITS = 8  # of five bits: beyond the pixels of any image


def crop_to_rle(crop: NDArray[np.bool_], x0: int, y0: int, height: int, width: int) -> Rle:
    """Encodes a mask of which only a crop is known; everything outside it is zero.

    Args:
        crop: bool [h, w], wholly inside the image.
        x0: column of the crop's left edge in the image.
        y0: row of the crop's upper edge in the image.
        height: of the image, px.
        width: of the image, px.

    Returns:
        The very string that pycocotools' ``encode`` gives for the full-size mask.
    """
    h, w = crop.shape
    columns = np.zeros((w, h + 2), dtype=np.int8)
    columns[:, 1:-1] = crop.T
    column, row = np.nonzero(np.diff(columns, axis=1))
    edges = (column + x0) * height + (row + y0)  # a run's first pixel and the pixel after its last, in turn
    starts, ends = edges[0::2], edges[1::2]
    # A run that reaches the image's lower edge goes on at the top of the next column.
    joined = ends[:-1] == starts[1:]
    if joined.any():
        starts = starts[np.concatenate([[True], ~joined])]
        ends = ends[np.concatenate([~joined, [True]])]
    boundaries = np.empty(2 * len(starts) + 2, dtype=np.int64)
    boundaries[0], boundaries[-1] = 0, height * width
    boundaries[1:-1:2], boundaries[2:-1:2] = starts, ends
    return rle_from_edges(boundaries, (height, width))


def rle_from_edges(edges: NDArray[np.int64], size_hw: tuple[int, int]) -> Rle:
    """Encodes the runs between pixels at which zeros and ones take turns.

    Args:
        edges: int64, ascending, from 0 to height times width; column-major, zeros first.
        size_hw: of the image, px.
    """
    counts = np.diff(edges)
    if len(counts) > 1 and counts[-1] == 0:
        counts = counts[:-1]
    return _compress(counts.tolist(), *size_hw)


def mask_to_rle(mask: NDArray[Any]) -> Rle:
    """Encodes a mask [H, W]; non-zero is foreground."""
    encoded = coco_mask.encode(np.asfortranarray(mask != 0, dtype=np.uint8))
    return as_text(encoded)


def rle_to_mask(rle: Rle) -> NDArray[np.uint8]:
    """Decodes to uint8 [H, W], 0 or 1."""
    return np.asarray(coco_mask.decode(_as_coco(rle)), dtype=np.uint8)


def rle_area(rle: Rle) -> int:
    """Foreground pixels."""
    return int(coco_mask.area(_as_coco(rle)))


def rle_box_xywh(rle: Rle) -> list[float]:
    """Tight box, xywh px; zeros for an empty mask."""
    return [float(value) for value in coco_mask.toBbox(_as_coco(rle))]


def mask_iou(one: Sequence[Rle], other: Sequence[Rle], *, of_first: bool = False) -> NDArray[np.float64]:
    """Intersection over union of every pair of masks; no mask is decoded.

    Args:
        one: N masks.
        other: M masks of the same size.
        of_first: the share of the first mask's pixels instead of that of the union.

    Returns:
        float64 [N, M], 0..1; 0 with a mask that has no pixels, itself included.
    """
    if not one or not other:
        return np.zeros((len(one), len(other)))
    found = coco_mask.iou(rles_for_coco(one), rles_for_coco(other), [of_first] * len(other))
    return np.nan_to_num(np.array(found, dtype=np.float64).reshape(len(one), len(other)))


def rle_from_polygons(polygons: Sequence[Sequence[float] | NDArray[np.float64]], height: int, width: int) -> Rle:
    """The union of polygons, each [x0, y0, x1, y1, …] px, rasterised by pycocotools."""
    outlines: Any = list(polygons)  # the stubs know whole numbers only
    parts = coco_mask.frPyObjects(outlines, height, width)
    return as_text(coco_mask.merge(parts))


def rle_from_segmentation(segmentation: Any, height: int, width: int) -> Rle:
    """Whatever a COCO file holds under ``segmentation``: polygons, compressed or uncompressed RLE.

    Raises:
        ValueError: it is none of these, or its size is not [height, width].
    """
    if isinstance(segmentation, list):
        if not segmentation:
            raise ValueError("an empty segmentation")
        return rle_from_polygons(segmentation, height, width)
    if not isinstance(segmentation, dict) or not {"size", "counts"} <= segmentation.keys():
        raise ValueError(f"a segmentation is a list of polygons or an RLE, not {type(segmentation).__name__}")
    size = segmentation["size"]
    if not isinstance(size, list | tuple) or len(size) != 2:
        raise ValueError(f"the RLE's size is {size!r}, not [height, width]")
    if list(size) != [height, width]:
        raise ValueError(f"the RLE is {size[0]} × {size[1]} (height × width), the image {height} × {width}")
    counts = segmentation["counts"]
    if isinstance(counts, list):
        total = sum(counts)
        if total != height * width or min(counts, default=0) < 0:
            raise ValueError(f"the RLE's counts add up to {total}, the image has {height * width} pixels")
        return _compress(counts, height, width)
    return Rle(size=[height, width], counts=counts if isinstance(counts, str) else bytes(counts).decode("ascii"))


def _compress(counts: list[int], height: int, width: int) -> Rle:
    uncompressed: Any = {"size": [height, width], "counts": counts}
    return as_text(coco_mask.frPyObjects(uncompressed, height, width))


def rles_for_coco(rles: Sequence[Rle]) -> list[Any]:
    """The same as pycocotools takes them: counts as bytes."""
    return [_as_coco(rle) for rle in rles]


def as_text(encoded: Any) -> Rle:
    """What pycocotools encodes, whose counts are bytes, with the text that JSON and other evaluators want."""
    return Rle(size=[int(side) for side in encoded["size"]], counts=encoded["counts"].decode("ascii"))


def _as_coco(rle: Rle) -> Any:
    return {"size": rle["size"], "counts": rle["counts"].encode("ascii")}


def rle_to_crop(rle: Rle) -> tuple[NDArray[np.bool_], int, int]:
    """The tight crop of a compressed RLE.

    Args:
        rle: compressed, ``size`` [H, W].

    Returns:
        ``(crop, x0, y0)``: bool [h, w] and the px position of its upper left corner; a crop of [0, 0] at
        (0, 0) for an empty mask.

    Raises:
        ValueError: the counts do not fit the size.
    """
    height, width = rle["size"]
    runs = run_lengths(rle["counts"])
    if len(runs) and runs.sum() != height * width:
        raise ValueError(f"the RLE's counts add up to {runs.sum()}, its size to {height * width}")
    starts, stops = foreground(runs)
    if not len(starts):
        return np.zeros((0, 0), dtype=np.bool_), 0, 0
    x0, x1 = int(starts[0] // height), int((stops[-1] - 1) // height) + 1
    steps = np.zeros((x1 - x0) * height + 1, dtype=np.int8)
    steps[starts - x0 * height] = 1
    steps[stops - x0 * height] -= 1  # a run that begins where another ends leaves 0: the two are one
    columns = np.cumsum(steps[:-1], dtype=np.int8).view(np.bool_).reshape(x1 - x0, height)
    rows = np.flatnonzero(columns.any(axis=0))
    y0, y1 = int(rows[0]), int(rows[-1]) + 1
    return columns[:, y0:y1].T, x0, y0


def foreground(runs: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """First pixel of each run of ones, and the one after its last, int64; empty runs left out.

    Args:
        runs: int64, column-major lengths, zeros first.
    """
    ends = np.cumsum(runs)
    starts, stops = ends[: max(len(runs) - 1, 0) : 2], ends[1::2]
    filled = stops > starts
    return (starts, stops) if filled.all() else (starts[filled], stops[filled])


def run_lengths(counts: str | bytes) -> NDArray[np.int64]:
    """Run lengths int64 [runs] of COCO's compressed string, zeros first.

    Raises:
        ValueError: not such a string.
    """
    content = counts.encode() if isinstance(counts, str) else counts
    digits = np.frombuffer(content, dtype=np.uint8) - np.uint8(48)  # wraps where it is too small
    if (digits > 63).any() or (len(digits) and digits[-1] >= 32):
        where = "it ends in the middle of a number" if (digits <= 63).all() else "it holds other characters"
        raise ValueError(f"its compressed RLE is damaged: {where}")
    if np.diff((digits < 32).nonzero()[0], prepend=-1).max(initial=0) > _MOST_DIGITS:
        raise ValueError("its compressed RLE is damaged: it holds a number beyond all pixels")
    runs, _ = counted_numbers([content])
    runs[1::2] = np.cumsum(runs[1::2])
    runs[2::2] = np.cumsum(runs[2::2])
    return runs


def counted_numbers(counts: Sequence[bytes]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The numbers in compressed counts, int64 [M], and where those of each mask begin, int64 [N + 1].

    Each number is digits of five bits, lowest first, plus 48: bit 5 says that another follows, bit 4 of the last is
    the sign. From a mask's fourth number on, each is the difference from the number two before.

    Args:
        counts: of N masks.
    """
    digits = np.frombuffer(b"".join(counts), dtype=np.uint8) - np.uint8(48)
    lasts = (digits < 32).nonzero()[0]
    first = lasts.searchsorted([0, *accumulate(map(len, counts))])
    highest = lasts.copy()  # place of the last digit
    highest[1:] -= lasts[:-1] + 1
    numbers = ((digits[lasts].astype(np.int64) ^ 16) - 16) << (5 * highest)
    for place in range(1, int(highest.max(initial=0)) + 1):
        longer = (highest >= place).nonzero()[0]
        numbers[longer] += (digits[lasts[longer] - place].astype(np.int64) & 31) << (5 * (highest[longer] - place))
    return numbers, first
