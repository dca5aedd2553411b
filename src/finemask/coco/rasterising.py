"""Polygons and run lengths, packed small, rasterised inside their own window.

pycocotools' rasteriser, whose pixels evaluation counts, rounds every polygon coordinate to fifths of a pixel
before it does anything else: ``(int)(5 * x + 0.5)``. That integer is therefore all that needs keeping (int32,
*fifths*).

Rasterising in a window must not shift the polygon: the rasteriser interpolates in floating point and
truncates toward zero, so a shifted polygon can differ by a pixel. Instead the image is cut off right and
below the polygon (the rasteriser simply clips there), and the empty columns to the left are taken off the
first run of what it returns. Both are exact, and cost hardly depends on the size of the image.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from finemask.coco.columns import PackedSegments, take_ragged
from finemask.coco.polygon_runs import runs_of_polygons
from finemask.ops.mask_runs import MaskRuns
from finemask.ops.rle import as_text, foreground, rle_from_edges, run_lengths
from finemask.types import Rle

FIFTHS_LIMIT = 5_000_000
"""Coordinates beyond a million px are refused: the rasteriser's memory grows with the outline's length."""


def to_fifths(coordinates: NDArray[np.float64]) -> NDArray[np.int32]:
    """Coordinates in px as the integers pycocotools makes of them (C truncation, toward zero).

    Args:
        coordinates: float64, finite, below a million px.
    """
    scaled = 5.0 * coordinates
    scaled += 0.5
    return scaled.astype(np.int32)  # which truncates as C does


def from_fifths(fifths: NDArray[np.int16] | NDArray[np.int32]) -> NDArray[np.float64]:
    """Coordinates in px that pycocotools rounds to exactly these fifths.

    They aim at the middle of the interval that is rounded to each integer, so no floating-point error can
    matter; below zero that interval lies on the other side, because C truncates toward zero.
    """
    return (fifths - (fifths < 0)) / 5.0


def crop_of_polygons(
    parts: Sequence[NDArray[np.int16] | NDArray[np.int32]], window_xyxy: tuple[int, int, int, int]
) -> NDArray[np.bool_]:
    """Pixels of the union of polygons, as pycocotools would set them in the full image.

    Args:
        parts: fifths x0, y0, x1, y1, …; at least three points each.
        window_xyxy: px, inside the image, from ``window_of_fifths``.

    Returns:
        bool [y1 - y0, x1 - x0].
    """
    x0, y0, x1, y1 = window_xyxy
    outlines: Any = [from_fifths(part) for part in parts]  # the stubs know lists of floats only
    rles: Any = coco_mask.frPyObjects(outlines, y1, x1)
    rle: Any = rles[0] if len(rles) == 1 else coco_mask.merge(rles)
    counts = _shorten_first_run(rle["counts"], x0 * y1)
    return coco_mask.decode({"size": [y1, x1 - x0], "counts": counts})[y0:].view(np.bool_)


def runs_of_outlines(segments: PackedSegments, rows: NDArray[np.int64], size_hw: tuple[int, int]) -> MaskRuns:
    """The same pixels, of annotations of one image, each the union of its polygons, drawn at once.

    Args:
        segments: of the file.
        rows: int64 [M], annotations that are stored as polygons.
        size_hw: of the image, px.
    """
    number = segments.first_part[rows + 1] - segments.first_part[rows]
    ends = number.cumsum()
    parts = np.arange(number.sum()) + (segments.first_part[rows] - (ends - number)).repeat(number)
    lengths = segments.part_lengths[parts].astype(np.int64)
    points = take_ragged(segments.points, segments.part_starts[parts], lengths)
    return runs_of_polygons(points, lengths, number, size_hw)


def crop_of_counts(counts: bytes, window_xyxy: tuple[int, int, int, int]) -> NDArray[np.bool_]:
    """Pixels of a mask stored as the compressed counts of its window.

    Args:
        counts: from ``window_of_runs``.
        window_xyxy: px, likewise.

    Returns:
        bool [y1 - y0, x1 - x0].
    """
    x0, y0, x1, y1 = window_xyxy
    return coco_mask.decode({"size": [y1 - y0, x1 - x0], "counts": counts}).view(np.bool_)


def rles_of_image(segments: PackedSegments, rows: range, size_hw: tuple[int, int]) -> list[Rle]:
    """The masks of annotations that stand one after another, as pycocotools encodes them in the full image.

    Args:
        segments: of the file.
        rows: of annotations of one image.
        size_hw: of the image, px.
    """
    counts = np.diff(segments.first_part[rows.start : rows.stop + 1]).tolist()
    parts = slice(segments.first_part[rows.start], segments.first_part[rows.stop])
    lengths = segments.part_lengths[parts].astype(np.int64)
    points = from_fifths(take_ragged(segments.points, segments.part_starts[parts], lengths))
    outlines: Any = [points[end - n : end] for end, n in zip(lengths.cumsum().tolist(), lengths.tolist(), strict=True)]
    drawn: Any = iter(coco_mask.frPyObjects(outlines, *size_hw) if outlines else ())
    return [
        as_text(next(drawn) if number == 1 else coco_mask.merge([next(drawn) for _ in range(number)]))
        if number
        else _rle_of_window(segments, row, size_hw)
        for row, number in zip(rows, counts, strict=True)
    ]


def _rle_of_window(segments: PackedSegments, row: int, size_hw: tuple[int, int]) -> Rle:
    height, width = size_hw
    x0, y0, _, y1 = segments.window(row)
    starts, stops = foreground(run_lengths(segments.counts(row)))
    columns, rows = np.divmod(starts, max(y1 - y0, 1))
    edges = _edges((columns + x0) * height + rows + y0, stops - starts, height * width)
    return rle_from_edges(edges, size_hw)


def window_of_fifths(low_high: NDArray[np.int32], size_wh: NDArray[np.int32]) -> NDArray[np.int32]:
    """Windows that surely hold every pixel of polygons, clipped to their images.

    Args:
        low_high: [N, 4], least x and y, greatest x and y in fifths.
        size_wh: [N, 2], width and height of the image each polygon lies in.

    Returns:
        int32 [N, 4], xyxy px; zeros where the polygon lies outside the image.
    """
    low = np.clip(low_high[:, :2] // 5 - 1, 0, size_wh)
    high = np.clip(low_high[:, 2:] // 5 + 2, 0, size_wh)
    window = np.concatenate([low, high], axis=1).astype(np.int32)
    window[(low >= high).any(axis=1)] = 0
    return window


def window_of_runs(runs: NDArray[np.int64], height: int, width: int) -> tuple[bytes, tuple[int, int, int, int]]:
    """Cuts a mask given as run lengths down to a window that holds it.

    Args:
        runs: column-major lengths, zeros first.
        height: rows of the image.
        width: columns of the image.

    Returns:
        Compressed counts of the window, and the window xyxy px; ``b""`` and zeros for an empty mask.

    Raises:
        ValueError: the runs do not fill the image exactly.
    """
    if runs.size and runs.min() < 0:
        raise ValueError("its run lengths hold a negative run")
    if int(runs.sum()) != height * width:
        raise ValueError(
            f"its run lengths cover {int(runs.sum())} pixels, its image has {height} × {width} = {height * width}"
        )
    starts, stops = foreground(runs)
    if not starts.size:
        return b"", (0, 0, 0, 0)
    x0, x1 = int(starts[0]) // height, (int(stops[-1]) - 1) // height + 1
    within_columns = bool((starts // height == (stops - 1) // height).all())
    y0 = int((starts % height).min()) if within_columns else 0
    y1 = int(((stops - 1) % height).max()) + 1 if within_columns else height
    # A run that goes on into the next column is the same in the window only if that has the full height, which it
    # has unless all runs stay within their columns.
    columns, rows = np.divmod(starts, height)
    edges = _edges((columns - x0) * (y1 - y0) + rows - y0, stops - starts, (x1 - x0) * (y1 - y0))
    return rle_from_edges(edges, (y1 - y0, x1 - x0))["counts"].encode(), (x0, y0, x1, y1)


def _edges(starts: NDArray[np.int64], lengths: NDArray[np.int64], pixels: int) -> NDArray[np.int64]:
    """Where zeros and ones take turns, from runs of ones in an image of so many pixels."""
    edges = np.empty(2 * len(starts) + 2, dtype=np.int64)
    edges[0], edges[-1] = 0, pixels
    edges[1:-1:2], edges[2:-1:2] = starts, starts + lengths
    return edges


def _shorten_first_run(counts: bytes, by: int) -> bytes:
    """Takes pixels off the first of compressed counts, the only one no other is a difference from."""
    value, digit, used = 0, 32, 0
    while digit & 32:
        digit = counts[used] - 48
        value |= (digit & 31) << (5 * used)
        used += 1
    value -= by  # a first run is never negative, so its sign bit needs no care
    head = bytearray()
    while value >= 16:  # the top bit of the last digit is the sign
        head.append((value & 31 | 32) + 48)
        value >>= 5
    head.append(value + 48)
    return bytes(head) + counts[used:]
