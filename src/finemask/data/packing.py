"""Many small things of different length in one array each, with offsets."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from finemask.data.coco_json import Outline
from finemask.data.segments import FIFTHS_LIMIT, runs_of_counts, to_fifths, window_of_fifths, window_of_runs
from finemask.errors import DataError


@dataclass(frozen=True)
class PackedStrings:
    """A sequence of strings as one array of UTF-8 bytes.

    Args:
        text: uint8, all strings one after another.
        offsets: int64 [n + 1].
    """

    text: NDArray[np.uint8]
    offsets: NDArray[np.int64]

    @classmethod
    def pack(cls, strings: Sequence[str]) -> "PackedStrings":
        """Packs strings."""
        encoded = [string.encode("utf-8", "surrogateescape") for string in strings]
        return cls(np.frombuffer(b"".join(encoded), np.uint8), _offsets([len(item) for item in encoded]))

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, i: int) -> str:
        return self.text[self.offsets[i] : self.offsets[i + 1]].tobytes().decode("utf-8", "surrogateescape")


@dataclass(frozen=True)
class PackedSegments:
    """The masks of A annotations, as polygons in fifths of a pixel or as run lengths of their windows.

    Args:
        windows: int32 [A, 4], xyxy px: holds every pixel of the mask; zeros for a mask without pixels.
        boxes_xyxy: float32 [A, 4], px, extent of the outline, clipped to the image.
        first_part: int64 [A + 1], polygons of each annotation; none for run lengths.
        first_point: int64 [P + 1], where each polygon starts in ``points``.
        points: int32, x0, y0, x1, y1, … in fifths.
        first_byte: int64 [A + 1], where each annotation's counts start in ``rle_bytes``.
        rle_bytes: uint8, compressed counts of the masks inside their windows.
    """

    windows: NDArray[np.int32]
    boxes_xyxy: NDArray[np.float32]
    first_part: NDArray[np.int64]
    first_point: NDArray[np.int64]
    points: NDArray[np.int32]
    first_byte: NDArray[np.int64]
    rle_bytes: NDArray[np.uint8]

    def window(self, row: int) -> tuple[int, int, int, int]:
        """Where the pixels of annotation ``row`` lie, xyxy px."""
        x0, y0, x1, y1 = self.windows[row].tolist()
        return x0, y0, x1, y1

    def polygons(self, row: int) -> list[NDArray[np.int32]]:
        """Polygons of annotation ``row`` in fifths; empty when it is stored as run lengths."""
        bounds = self.first_point[self.first_part[row] : self.first_part[row + 1] + 1].tolist()
        return [self.points[a:b] for a, b in pairwise(bounds)]

    def counts(self, row: int) -> bytes:
        """Compressed counts of annotation ``row``, of its window."""
        return self.rle_bytes[self.first_byte[row] : self.first_byte[row + 1]].tobytes()


def pack_segments(
    path: Path, annotations: list[dict[str, Any]], heights: NDArray[np.int32], widths: NDArray[np.int32]
) -> PackedSegments:
    """Packs the ``segmentation`` of every annotation, taking it out of the dictionaries to free memory.

    Args:
        path: the annotation file, for messages.
        annotations: as ``read_coco_json`` leaves them.
        heights: int32 [A], px, of the image of each.
        widths: int32 [A].

    Raises:
        DataError: naming the annotation whose segmentation cannot be used.
    """
    total = len(annotations)
    windows = np.zeros((total, 4), dtype=np.int32)
    boxes = np.zeros((total, 4), dtype=np.float32)
    num_parts = np.zeros(total, dtype=np.int64)
    rle_lengths = np.zeros(total, dtype=np.int64)
    parts: Outline = []
    rles: list[bytes] = []
    for row, annotation in enumerate(annotations):
        segmentation = annotation.pop("segmentation", None)
        if isinstance(segmentation, list) and segmentation:
            parts.extend(segmentation)
            num_parts[row] = len(segmentation)
            continue
        try:
            counts, windows[row] = _window_of_mask(segmentation, annotation, int(heights[row]), int(widths[row]))
        except ValueError as error:
            raise _unusable(path, annotation, str(error)) from None
        boxes[row] = windows[row]
        rle_lengths[row] = len(counts)
        rles.append(counts)
    first_part = _offsets(num_parts)
    first_point = _offsets([len(part) for part in parts])
    coordinates = np.frombuffer(b"".join(parts), np.float64)
    del parts
    limit = FIFTHS_LIMIT / 5
    if not (coordinates.max(initial=0) < limit and coordinates.min(initial=0) > -limit):  # NaN fails both
        first = np.flatnonzero(~(np.abs(coordinates) < limit))[0]
        row = int(np.searchsorted(first_point[first_part], first, side="right")) - 1
        reason = "a polygon has a coordinate that is not finite, or beyond a million px"
        raise _unusable(path, annotations[row], reason)
    points = to_fifths(coordinates)
    outlined = np.flatnonzero(num_parts)
    if outlined.size:
        starts = first_point[first_part[outlined]]
        size_wh = np.stack([widths[outlined], heights[outlined]], axis=1)
        windows[outlined] = window_of_fifths(_extents(points, starts), size_wh)
        size_whwh = np.concatenate([size_wh, size_wh], axis=1)
        boxes[outlined] = np.clip(_extents(coordinates, starts), 0, size_whwh)
    return PackedSegments(
        windows=windows,
        boxes_xyxy=boxes,
        first_part=first_part,
        first_point=first_point,
        points=points,
        first_byte=_offsets(rle_lengths),
        rle_bytes=np.frombuffer(b"".join(rles), np.uint8),
    )


def _window_of_mask(
    segmentation: Any, annotation: dict[str, Any], height: int, width: int
) -> tuple[bytes, tuple[int, int, int, int]]:
    """Compressed counts and window of an annotation that has no polygons."""
    if isinstance(segmentation, ValueError):
        raise segmentation
    if not segmentation:
        if annotation["iscrowd"]:
            return _window_of_box(annotation.get("bbox"), height, width)
        raise ValueError("it has no segmentation; a box alone is not enough, masks are needed")
    if not isinstance(segmentation, dict) or not isinstance(segmentation.get("counts"), str | list):
        raise ValueError("its segmentation is neither a list of polygons nor an RLE with size and counts")
    if list(segmentation.get("size", [])) != [height, width]:
        raise ValueError(f"its RLE has the size {segmentation.get('size')}, its image [{height}, {width}]")
    counts = segmentation["counts"]
    if isinstance(counts, str):
        runs = runs_of_counts(counts)
    else:
        if not all(type(count) is int and abs(count) < 2**40 for count in counts):
            raise ValueError("its RLE counts are not whole numbers")
        runs = np.array(counts, dtype=np.int64)
    return window_of_runs(runs, height, width)


def _window_of_box(bbox: Any, height: int, width: int) -> tuple[bytes, tuple[int, int, int, int]]:
    """A crowd region without a mask: its box, rounded outward."""
    try:
        x, y, w, h = (float(value) for value in bbox)
        x0, y0 = max(int(np.floor(x)), 0), max(int(np.floor(y)), 0)
        x1, y1 = min(int(np.ceil(x + w)), width), min(int(np.ceil(y + h)), height)
    except (TypeError, ValueError, OverflowError):
        raise ValueError(f"it has no segmentation, and its bbox is {bbox!r}") from None
    if x0 >= x1 or y0 >= y1:
        return b"", (0, 0, 0, 0)
    rle: Any = coco_mask.encode(np.ones((y1 - y0, x1 - x0), dtype=np.uint8, order="F"))
    return bytes(rle["counts"]), (x0, y0, x1, y1)


def _unusable(path: Path, annotation: dict[str, Any], reason: str) -> DataError:
    return DataError(
        f"annotation id {annotation['id']} (image id {annotation['image_id']}) cannot be used: {reason}",
        where=path,
        remedy="Correct or remove it",
    )


def _extents(coordinates: NDArray[Any], starts: NDArray[np.int64]) -> NDArray[Any]:
    """Least x and y, greatest x and y of consecutive groups of points, [N, 4]."""
    points = coordinates.reshape(-1, 2)
    low = np.minimum.reduceat(points, starts // 2, axis=0)
    high = np.maximum.reduceat(points, starts // 2, axis=0)
    return np.concatenate([low, high], axis=1)


def _offsets(lengths: Sequence[int] | NDArray[np.int64]) -> NDArray[np.int64]:
    return np.concatenate([[0], np.cumsum(np.asarray(lengths, dtype=np.int64))]).astype(np.int64)
