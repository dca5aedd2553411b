"""Packs segmentations as they are read, one annotation after another."""

from array import array
from collections.abc import Iterator
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from finemask.coco.columns import PackedSegments, offsets_of, take_ragged
from finemask.coco.entries import Fault, whole
from finemask.coco.rasterising import FIFTHS_LIMIT, to_fifths, window_of_fifths, window_of_runs
from finemask.coco.segmentation import coordinate_fault, counted_runs, read_outlines, rle_size_fault
from finemask.ops.rle import rle_from_edges

_PENDING = 2**17  # coordinates that wait as float64 until they are packed together
_FIRST_PIXELS = 8  # in images up to this size outlines may well lie in the first pixel
_INT16 = 32_000  # leaves room for the arithmetic on fifths


class SegmentPacker:
    """Takes segmentations as COCO files hold them; call one of the ``add``s for each annotation, then ``pack`` once.

    What is no plain mask is left out and remembered: image sizes, without which it cannot be judged, are asked for at
    the end only, since files may name them after the annotations.
    """

    def __init__(self) -> None:
        self._num_parts, self._part_lengths = array("i"), array("i")
        self._points = array("h")
        self._pending, self._pending_rows, self._pending_starts = array("d"), array("q"), array("q")
        self._fifths_low_high, self._extents = array("i"), array("f")  # four of each an outlined annotation
        self._sums = array("d")  # of the coordinates of each
        self._rle_rows, self._rle_lengths, self._rle_bytes = array("q"), array("q"), bytearray()
        self._rle_windows, self._rle_sizes = array("i"), array("q")  # four and two of each
        self._boxes: list[tuple[int, tuple[float, float, float, float]]] = []
        self._odd: tuple[int, Any] | None = None  # the first segmentation that is no plain mask
        self._far: tuple[int, float] | None = None  # the first coordinate that is none

    def add(self, segmentation: Any) -> None:
        """Packs the segmentation of the next annotation, whatever it is."""
        row = len(self._num_parts)
        self._num_parts.append(0)
        if isinstance(segmentation, list):
            plain = self._add_polygons(row, segmentation)
        else:
            plain = isinstance(segmentation, dict) and self._add_rle(row, segmentation)
        if not plain and self._odd is None:
            self._odd = row, segmentation

    def add_box(self, box_xywh: tuple[float, float, float, float] | None) -> None:
        """The next annotation has no segmentation: its mask is its box, px, rounded outward, or it has none."""
        if box_xywh is not None:
            self._boxes.append((len(self._num_parts), box_xywh))
        self._num_parts.append(0)

    def first_fault(self, heights: NDArray[np.int32], widths: NDArray[np.int32]) -> tuple[int, Fault] | None:
        """The first annotation that has no mask because of its segmentation, and why; None if there is none.

        Args:
            heights: int32 [A], px, of the image of each annotation added.
            widths: int32 [A].
        """
        self._pack_pending()
        found: list[tuple[int, Fault]] = []
        if self._odd is not None:
            row, segmentation = self._odd
            (outline,) = read_outlines([(segmentation, int(heights[row]), int(widths[row]))])
            found.append((row, outline.faults[0]))
        if self._far is not None:
            row, value = self._far
            rule, message = coordinate_fault(value, int(heights[row]), int(widths[row])) or ("", "")
            found.append((row, Fault(rule, message)))
        rows, sizes = np.frombuffer(self._rle_rows, np.int64), np.frombuffer(self._rle_sizes, np.int64).reshape(-1, 2)
        wrong = np.flatnonzero((sizes[:, 0] != heights[rows]) | (sizes[:, 1] != widths[rows]))
        if wrong.size:
            row, (height, width) = int(rows[wrong[0]]), sizes[wrong[0]].tolist()
            rle = {"size": [height, width]}
            fault = rle_size_fault(rle, int(heights[row]), int(widths[row]), height * width)
            assert fault is not None, "it is another"
            found.append((row, fault))
        found.extend(self._misread_polygons(heights, widths))
        return min(found, default=None, key=lambda pair: pair[0])

    def pack(self, heights: NDArray[np.int32], widths: NDArray[np.int32], order: NDArray[np.int64]) -> PackedSegments:
        """The packed segments of all annotations.

        Args:
            heights: int32 [A], px, of the image of each annotation added.
            widths: int32 [A].
            order: int64 [A], which annotation comes first, second, ….
        """
        self._pack_pending()
        windows, boxes = self._windows_and_boxes(heights, widths)
        rle_starts, rle_lengths = self._rle_places(heights, widths, windows)
        alone = rle_lengths > 0
        boxes[alone] = windows[alone]
        num_parts = np.frombuffer(self._num_parts, np.int32)
        part_lengths = np.frombuffer(self._part_lengths, np.int32)
        first_part = offsets_of(num_parts)[:-1][order]
        num_parts = num_parts[order]
        return PackedSegments(
            windows=windows[order],
            boxes_xyxy=boxes[order],
            first_part=offsets_of(num_parts),
            part_starts=take_ragged(offsets_of(part_lengths)[:-1], first_part, num_parts),
            part_lengths=take_ragged(part_lengths, first_part, num_parts),
            points=np.frombuffer(self._points, self._points.typecode),
            first_byte=offsets_of(rle_lengths[order]),
            rle_bytes=take_ragged(np.frombuffer(self._rle_bytes, np.uint8), rle_starts[order], rle_lengths[order]),
        )

    def _windows_and_boxes(
        self, heights: NDArray[np.int32], widths: NDArray[np.int32]
    ) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """Those of polygons, [A, 4] each; zeros elsewhere."""
        total = len(self._num_parts)
        windows, boxes = np.zeros((total, 4), dtype=np.int32), np.zeros((total, 4), dtype=np.float32)
        outlined = np.flatnonzero(np.frombuffer(self._num_parts, np.int32))
        size_wh = np.stack([widths[outlined], heights[outlined]], axis=1)
        windows[outlined] = window_of_fifths(np.frombuffer(self._fifths_low_high, np.int32).reshape(-1, 4), size_wh)
        self._fifths_low_high = array("i")
        extents = np.frombuffer(self._extents, np.float32).reshape(-1, 4)
        boxes[outlined] = np.clip(extents, 0, np.concatenate([size_wh, size_wh], axis=1).astype(np.float32))
        self._extents, self._sums = array("f"), array("d")
        return windows, boxes

    def _misread_polygons(self, heights: NDArray[np.int32], widths: NDArray[np.int32]) -> Iterator[tuple[int, Fault]]:
        """Numbers that stand where polygons belong and are none: fractions of the image, and run lengths."""
        outlined = np.flatnonzero(np.frombuffer(self._num_parts, np.int32))
        size_wh = np.stack([widths[outlined], heights[outlined]], axis=1)
        extents = np.frombuffer(self._extents, np.float32).reshape(-1, 4)
        large = size_wh.min(axis=1, initial=_FIRST_PIXELS + 1) > _FIRST_PIXELS
        if large.any() and extents[large].min() >= 0 and extents[large].max() <= 1:
            message = "all polygons lie between 0 and 1: they are fractions of the image, not pixels"
            yield int(outlined[large][0]), Fault("coordinates-normalised", message)
        # they cover the image as run lengths do, and lie outside of it as coordinates
        covers = np.frombuffer(self._sums, np.float64) == size_wh.astype(np.int64).prod(axis=1)
        outside = extents.max(axis=1, initial=0) > size_wh.max(axis=1, initial=0)
        rows = np.flatnonzero(covers & outside & (extents.min(axis=1, initial=0) >= 0))
        if rows.size:
            message = "its polygon consists of the counts of run lengths"
            yield int(outlined[rows[0]]), Fault("run-lengths-as-polygon", message)

    def _rle_places(
        self, heights: NDArray[np.int32], widths: NDArray[np.int32], windows: NDArray[np.int32]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Where the counts of each annotation start and how many bytes they are, int64 [A]; fills in windows."""
        rows = np.frombuffer(self._rle_rows, np.int64)
        starts, lengths = np.zeros(len(windows), dtype=np.int64), np.zeros(len(windows), dtype=np.int64)
        starts[rows] = offsets_of(self._rle_lengths)[:-1]
        lengths[rows] = np.frombuffer(self._rle_lengths, np.int64)
        windows[rows] = np.frombuffer(self._rle_windows, np.int32).reshape(-1, 4)
        for row, bbox in self._boxes:
            counts, windows[row] = _window_of_box(bbox, int(heights[row]), int(widths[row]))
            starts[row], lengths[row] = len(self._rle_bytes), len(counts)
            self._rle_bytes += counts
        return starts, lengths

    def _add_polygons(self, row: int, parts: list[Any]) -> bool:
        start, first_part = len(self._pending), len(self._part_lengths)
        for part in parts:
            try:
                if type(part) is not list or len(part) % 2 or len(part) < 6:
                    raise ValueError
                self._pending.extend(part)
            except (TypeError, OverflowError, ValueError):
                del self._pending[start:], self._part_lengths[first_part:]
                return False
            self._part_lengths.append(len(part))
        if not parts:
            return False
        self._num_parts[row] = len(parts)
        self._pending_rows.append(row)
        self._pending_starts.append(start)
        if len(self._pending) >= _PENDING:
            self._pack_pending()
        return True

    def _pack_pending(self) -> None:
        """Turns waiting coordinates into fifths and keeps the extent of each annotation."""
        if not self._pending:
            return
        coordinates = np.frombuffer(self._pending, np.float64)
        starts = np.frombuffer(self._pending_starts, np.int64)
        limit = FIFTHS_LIMIT / 5
        if not (coordinates.max() < limit and coordinates.min() > -limit):  # NaN fails both
            far = np.flatnonzero(~(np.abs(coordinates) < limit))
            if self._far is None:
                row = self._pending_rows[int(np.searchsorted(starts, far[0], side="right")) - 1]
                self._far = row, float(coordinates[far[0]])
            coordinates = coordinates.copy()
            coordinates[far] = 0.0
        fifths = to_fifths(coordinates)
        low_high = _extents(fifths, starts)
        if self._points.typecode == "h" and (low_high.min() < -_INT16 or low_high.max() > _INT16):
            self._points = array("i", np.frombuffer(self._points, np.int16).astype(np.int32).tobytes())
        self._points.frombytes(fifths.astype(self._points.typecode).tobytes())
        self._fifths_low_high.frombytes(low_high.tobytes())
        self._extents.frombytes(_extents(coordinates, starts).astype(np.float32).tobytes())
        self._sums.frombytes(np.add.reduceat(coordinates, starts).tobytes())
        self._pending, self._pending_rows, self._pending_starts = array("d"), array("q"), array("q")

    def _add_rle(self, row: int, rle: dict[str, Any]) -> bool:
        """Packs an RLE by the size it states; whether that is its image's is seen at the end."""
        counts, size = rle.get("counts"), rle.get("size")
        sides = [whole(side) for side in size] if isinstance(size, list) and len(size) == 2 else []
        if not isinstance(counts, str | list) or not sides or None in sides:
            return False
        height, width = cast(list[int], sides)
        try:
            packed, window = window_of_runs(counted_runs(counts), height, width)
        except ValueError:
            return False
        self._rle_rows.append(row)
        self._rle_sizes.extend((height, width))
        self._rle_windows.extend(window)
        self._rle_lengths.append(len(packed))
        self._rle_bytes += packed
        return True


def _window_of_box(
    box_xywh: tuple[float, float, float, float], height: int, width: int
) -> tuple[bytes, tuple[int, int, int, int]]:
    """A crowd region without a mask: its box, rounded outward."""
    x, y, w, h = box_xywh
    x0, y0 = (int(np.clip(np.floor(low), 0, most)) for low, most in ((x, width), (y, height)))
    x1, y1 = (int(np.clip(np.ceil(high), 0, most)) for high, most in ((x + w, width), (y + h, height)))
    if x0 >= x1 or y0 >= y1:
        return b"", (0, 0, 0, 0)
    pixels = (x1 - x0) * (y1 - y0)
    rle = rle_from_edges(np.array([0, 0, pixels]), (y1 - y0, x1 - x0))
    return rle["counts"].encode(), (x0, y0, x1, y1)


def _extents(coordinates: NDArray[Any], starts: NDArray[np.int64]) -> NDArray[Any]:
    """Least x and y, greatest x and y of consecutive groups of points, [N, 4]."""
    points = coordinates.reshape(-1, 2)
    low = np.minimum.reduceat(points, starts // 2, axis=0)
    high = np.maximum.reduceat(points, starts // 2, axis=0)
    return np.concatenate([low, high], axis=1)
