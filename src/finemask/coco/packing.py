"""Packs segmentations as they are read, one annotation after another."""

from array import array
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from finemask.coco.columns import PackedSegments, offsets_of, take_ragged
from finemask.coco.fifths import FIFTHS_LIMIT, to_fifths, window_of_fifths, window_of_runs
from finemask.ops.rle import run_lengths

_PENDING = 2**17  # coordinates that wait as float64 until they are packed together
_FIRST_PIXELS = 8  # in images up to this size outlines may well lie in the first pixel
_INT16 = 32_000  # leaves room for the arithmetic on fifths


class UnusableSegmentError(Exception):
    """An annotation whose segmentation cannot be used.

    Args:
        row: its position among those added.
        reason: why, as the end of a sentence.
        rule: what ``finemask data check`` calls it.
    """

    def __init__(self, row: int, reason: str, rule: str) -> None:
        super().__init__(row, reason, rule)
        self.row, self.reason, self.rule = row, reason, rule


class SegmentPacker:
    """Takes segmentations as COCO files hold them; call ``add`` for each, then ``pack`` once.

    Image sizes are asked for at the end only, since files may name them after the annotations.
    """

    def __init__(self) -> None:
        self._num_parts, self._part_lengths = array("i"), array("i")
        self._points = array("h")
        self._pending, self._pending_rows, self._pending_starts = array("d"), array("q"), array("q")
        self._fifths_low_high, self._extents = array("i"), array("f")  # four of each an outlined annotation
        self._sums = array("d")  # of the coordinates of each
        self._rle_rows, self._rle_lengths, self._rle_bytes = array("q"), array("q"), bytearray()
        self._rle_windows, self._rle_sizes = array("i"), array("q")  # four and two of each
        self._boxes: list[tuple[int, Any]] = []
        self._odd_size: Any = None
        self._damaged: UnusableSegmentError | None = None

    def add(self, segmentation: Any, bbox: Any, *, iscrowd: bool) -> None:
        """Packs the next annotation.

        Args:
            segmentation: polygons or RLE; a crowd region may have none.
            bbox: xywh px, looked at for such a crowd only.
            iscrowd: whether it is one.

        Raises:
            UnusableSegmentError: it, or one added before it, cannot be used.
        """
        row = len(self._num_parts)
        self._num_parts.append(0)
        if isinstance(segmentation, list) and segmentation:
            self._add_polygons(row, segmentation)
            if len(self._pending) >= _PENDING:
                self._pack_pending()
        elif isinstance(segmentation, dict) and isinstance(segmentation.get("counts"), str | list):
            self._add_rle(row, segmentation["counts"], segmentation.get("size"))
        elif segmentation:
            reason = "its segmentation is neither a list of polygons nor an RLE with size and counts"
            spelt = isinstance(segmentation, str) and segmentation.lstrip()[:1] in ("[", "{")
            raise UnusableSegmentError(row, reason, "segmentation-text" if spelt else "segmentation-invalid")
        elif iscrowd:
            self._boxes.append((row, bbox))
        else:
            reason = "it has no segmentation; a box alone is not enough, masks are needed"
            raise UnusableSegmentError(row, reason, "mask-missing")

    def pack(self, heights: NDArray[np.int32], widths: NDArray[np.int32], order: NDArray[np.int64]) -> PackedSegments:
        """The packed segments of all annotations.

        Args:
            heights: int32 [A], px, of the image of each annotation added.
            widths: int32 [A].
            order: int64 [A], which annotation comes first, second, ….

        Raises:
            UnusableSegmentError: one cannot be used, or its RLE does not fit its image.
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
        size_whwh = np.concatenate([size_wh, size_wh], axis=1).astype(np.float32)
        large = size_wh.min(axis=1, initial=_FIRST_PIXELS + 1) > _FIRST_PIXELS
        if large.any() and extents[large].min() >= 0 and extents[large].max() <= 1:
            reason = "all polygons lie between 0 and 1: they are fractions of the image, not pixels"
            raise UnusableSegmentError(int(outlined[large][0]), reason, "coordinates-normalised")
        self._refuse_run_lengths(outlined, size_wh, extents)
        boxes[outlined] = np.clip(extents, 0, size_whwh)
        self._extents = array("f")
        return windows, boxes

    def _refuse_run_lengths(
        self, outlined: NDArray[np.int64], size_wh: NDArray[np.int32], extents: NDArray[np.float32]
    ) -> None:
        """Refuses polygons whose numbers cover the image as run lengths do, and lie outside of it as coordinates."""
        sums = np.frombuffer(self._sums, np.float64)
        runs = (sums == size_wh.astype(np.int64).prod(axis=1)) & (
            extents.max(axis=1, initial=0) > size_wh.max(axis=1, initial=0)
        )
        rows = np.flatnonzero(runs & (extents.min(axis=1, initial=0) >= 0))
        self._sums = array("d")
        if rows.size:
            reason = "its polygon consists of the counts of run lengths"
            raise UnusableSegmentError(int(outlined[rows[0]]), reason, "run-lengths-as-polygon")

    def _rle_places(
        self, heights: NDArray[np.int32], widths: NDArray[np.int32], windows: NDArray[np.int32]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Where the counts of each annotation start and how many bytes they are, int64 [A]; fills in windows."""
        rows = self._checked_rle_rows(heights, widths)
        starts, lengths = np.zeros(len(windows), dtype=np.int64), np.zeros(len(windows), dtype=np.int64)
        starts[rows] = offsets_of(self._rle_lengths)[:-1]
        lengths[rows] = np.frombuffer(self._rle_lengths, np.int64)
        windows[rows] = np.frombuffer(self._rle_windows, np.int32).reshape(-1, 4)
        for row, bbox in self._boxes:
            counts, windows[row] = _window_of_box(row, bbox, int(heights[row]), int(widths[row]))
            starts[row], lengths[row] = len(self._rle_bytes), len(counts)
            self._rle_bytes += counts
        return starts, lengths

    def _add_polygons(self, row: int, parts: list[Any]) -> None:
        start = len(self._pending)
        for part in parts:
            try:
                if not isinstance(part, list) or len(part) % 2 or len(part) < 6:
                    raise ValueError
                self._pending.extend(part)
            except (TypeError, OverflowError, ValueError):
                raise UnusableSegmentError(row, *_fault_of(part, parts)) from None
            self._part_lengths.append(len(part))
        self._num_parts[row] = len(parts)
        self._pending_rows.append(row)
        self._pending_starts.append(start)

    def _pack_pending(self) -> None:
        """Turns waiting coordinates into fifths and keeps the extent of each annotation."""
        if not self._pending:
            return
        coordinates = np.frombuffer(self._pending, np.float64)
        starts = np.frombuffer(self._pending_starts, np.int64)
        limit = FIFTHS_LIMIT / 5
        if not (coordinates.max() < limit and coordinates.min() > -limit):  # NaN fails both
            first = np.flatnonzero(~(np.abs(coordinates) < limit))[0]
            row = self._pending_rows[int(np.searchsorted(starts, first, side="right")) - 1]
            reason = "a polygon has a coordinate that is not finite, or beyond a million px"
            is_far = np.isfinite(coordinates[first])
            raise UnusableSegmentError(row, reason, "polygon-far-away" if is_far else "polygon-not-finite")
        fifths = to_fifths(coordinates)
        low_high = _extents(fifths, starts)
        if self._points.typecode == "h" and (low_high.min() < -_INT16 or low_high.max() > _INT16):
            self._points = array("i", np.frombuffer(self._points, np.int16).astype(np.int32).tobytes())
        self._points.frombytes(fifths.astype(self._points.typecode).tobytes())
        self._fifths_low_high.frombytes(low_high.tobytes())
        self._extents.frombytes(_extents(coordinates, starts).astype(np.float32).tobytes())
        self._sums.frombytes(np.add.reduceat(coordinates, starts).tobytes())
        self._pending, self._pending_rows, self._pending_starts = array("d"), array("q"), array("q")

    def _add_rle(self, row: int, counts: Any, size: Any) -> None:
        """Packs an RLE by the size it states; whether that is its image's is seen at the end."""
        packed, window, size_hw = b"", (0, 0, 0, 0), _size_hw(size)
        if size_hw is None:
            self._odd_size = size if self._odd_size is None else self._odd_size
        else:
            try:
                packed, window = window_of_runs(_runs(counts), *size_hw)
            except ValueError as error:
                self._damaged = self._damaged or UnusableSegmentError(row, str(error), "rle-counts")
        self._rle_rows.append(row)
        self._rle_sizes.extend(size_hw or (-1, -1))
        self._rle_windows.extend(window)
        self._rle_lengths.append(len(packed))
        self._rle_bytes += packed

    def _checked_rle_rows(self, heights: NDArray[np.int32], widths: NDArray[np.int32]) -> NDArray[np.int64]:
        """Which annotations are RLEs; refuses those that do not fit their image or are damaged."""
        rows, sizes = np.frombuffer(self._rle_rows, np.int64), np.frombuffer(self._rle_sizes, np.int64).reshape(-1, 2)
        wrong = np.flatnonzero((sizes[:, 0] != heights[rows]) | (sizes[:, 1] != widths[rows]))
        if wrong.size and (self._damaged is None or rows[wrong[0]] <= self._damaged.row):
            row = int(rows[wrong[0]])
            size = sizes[wrong[0]].tolist()
            stated = self._odd_size if size == [-1, -1] else size
            reason = f"its RLE has the size {stated}, its image [{heights[row]}, {widths[row]}]"
            raise UnusableSegmentError(row, reason, "rle-size")
        if self._damaged is not None:
            raise self._damaged
        return rows


def _fault_of(part: Any, parts: list[Any]) -> tuple[str, str]:
    """Why something is no polygon, and the rule of ``finemask data check`` that says so."""
    kinds = {type(value) for value in part} if isinstance(part, list) else {type(part)}
    are_points = len(parts) >= 3 and all(isinstance(other, list) and len(other) == 2 for other in parts)
    is_nested = kinds <= {list, dict, int, float} and (not isinstance(part, list) or kinds & {list, dict})
    if are_points or is_nested:
        return "its polygons must be a list of lists [[x0, y0, x1, y1, …], …]", "segmentation-nesting"
    if str in kinds or (isinstance(part, list) and not kinds <= {int, float}):
        return "a polygon holds something that is not a number", "polygon-not-numbers"
    if not isinstance(part, list):
        return f"one of its polygons is {part!r}", "segmentation-invalid"
    if len(part) == 4:
        return "a polygon has 2 points, it needs at least 3", "polygon-is-box"
    if len(part) % 2:
        return f"a polygon has {len(part)} numbers, which is not a whole number of points", "polygon-odd"
    if len(part) < 6:
        return f"a polygon has {len(part) // 2} points, it needs at least 3", "polygon-too-few-points"
    return "a polygon has a coordinate that is beyond all numbers", "polygon-not-finite"


def _size_hw(size: Any) -> tuple[int, int] | None:
    if not isinstance(size, list) or len(size) != 2:
        return None
    if not all(isinstance(side, int | float) and 0 <= side < 2**31 and side == side // 1 for side in size):
        return None
    return int(size[0]), int(size[1])


def _runs(counts: str | list[Any]) -> NDArray[np.int64]:
    if isinstance(counts, str):
        return run_lengths(counts)
    if not all(type(count) is int and abs(count) < 2**40 for count in counts):
        raise ValueError("its RLE counts are not whole numbers")
    return np.array(counts, dtype=np.int64)


def _window_of_box(row: int, bbox: Any, height: int, width: int) -> tuple[bytes, tuple[int, int, int, int]]:
    """A crowd region without a mask: its box, rounded outward."""
    try:
        x, y, w, h = (float(value) for value in bbox)
        x0, y0 = max(int(np.floor(x)), 0), max(int(np.floor(y)), 0)
        x1, y1 = min(int(np.ceil(x + w)), width), min(int(np.ceil(y + h)), height)
    except (TypeError, ValueError, OverflowError):
        raise UnusableSegmentError(row, f"it has no segmentation, and its bbox is {bbox!r}", "mask-missing") from None
    if x0 >= x1 or y0 >= y1:
        return b"", (0, 0, 0, 0)
    rle: Any = coco_mask.encode(np.ones((y1 - y0, x1 - x0), dtype=np.uint8, order="F"))
    return bytes(rle["counts"]), (x0, y0, x1, y1)


def _extents(coordinates: NDArray[Any], starts: NDArray[np.int64]) -> NDArray[Any]:
    """Least x and y, greatest x and y of consecutive groups of points, [N, 4]."""
    points = coordinates.reshape(-1, 2)
    low = np.minimum.reduceat(points, starts // 2, axis=0)
    high = np.maximum.reduceat(points, starts // 2, axis=0)
    return np.concatenate([low, high], axis=1)
