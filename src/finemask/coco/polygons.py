"""Polygons of a whole file at once: judging and rasterising them one by one would take minutes."""

from array import array
from collections.abc import Iterator, Sequence
from itertools import groupby, islice
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from finemask.types import Rle

_NUMBER_TYPES = {int, float}
_FLAT_PX = 1e-3
_CHUNK = 250  # polygons rasterised in one call; pycocotools cannot count the pixels of more than 255 at once


class PlainPolygons(NamedTuple):
    """Polygons of one annotation, right in form: lists of numbers, even, of three points or more.

    Args:
        parts: x0, y0, x1, y1, … px, float64 each.
        height: of the image, px.
        width: of the image, px.
    """

    parts: list["array[float]"]
    height: int
    width: int


class Raster(NamedTuple):
    """The mask of polygons.

    Args:
        rle: the mask, cut off at the image's edge.
        area: its pixels.
        box_xyxy: of its pixels, px.
        extent_xyxy: of the points, px.
        doubtful_parts: polygons that enclose another area than their pixels have.
    """

    rle: Rle
    area: int
    box_xyxy: tuple[float, float, float, float]
    extent_xyxy: tuple[float, float, float, float]
    doubtful_parts: tuple[int, ...]


def plain_polygons(segmentation: Any, height: int, width: int) -> PlainPolygons | None:
    """A segmentation as polygons, or None when it is anything but polygons that are right in form."""
    if not isinstance(segmentation, list) or not segmentation:
        return None
    parts = []
    for part in segmentation:
        if not isinstance(part, list) or len(part) < 6 or len(part) % 2 or not set(map(type, part)) <= _NUMBER_TYPES:
            return None
        try:
            parts.append(array("d", part))
        except OverflowError:
            return None
    return PlainPolygons(parts, height, width)


def are_sound(annotations: Sequence[PlainPolygons], far_factor: float) -> list[bool]:
    """For each annotation, whether all its polygons are finite, near their image and not flat.

    Args:
        annotations: polygons.
        far_factor: a coordinate may be this many of the image's longer sides, and 1000 px, away from it.
    """
    if not annotations:
        return []
    values, starts = _joined(annotations)
    reach = far_factor * np.array([max(a.height, a.width) for a in annotations for _ in a.parts]) + 1000.0
    with np.errstate(invalid="ignore", over="ignore"):
        near = (np.minimum.reduceat(values, starts) >= -reach) & (np.maximum.reduceat(values, starts) <= reach)
        sound = near & ~_are_flat(values.reshape(-1, 2), starts // 2)
    firsts = np.cumsum([0] + [len(a.parts) for a in annotations])[:-1]
    return [bool(value) for value in np.logical_and.reduceat(sound, firsts)]


def is_flat(values: NDArray[np.float64]) -> bool:
    """Whether the points x0, y0, x1, y1, … all lie on one line, to a thousandth of a pixel."""
    return bool(_are_flat(values.reshape(-1, 2), np.zeros(1, dtype=np.int64))[0])


def _are_flat(points: NDArray[np.float64], starts: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Bool [P]: for each polygon, whether all its points lie on a line through its first."""
    lengths = np.diff(starts, append=len(points))
    moved = points - np.repeat(points[starts], lengths, axis=0)
    squares = (moved * moved).sum(axis=1)
    longest = np.maximum.reduceat(squares, starts)
    order = np.where(squares == np.repeat(longest, lengths), np.arange(len(points)), len(points) - 1)
    along = moved[np.minimum.reduceat(order, starts)]
    along = np.repeat(along / np.maximum(np.sqrt(longest), 1e-12)[:, None], lengths, axis=0)
    across = np.abs(moved[:, 0] * along[:, 1] - moved[:, 1] * along[:, 0])
    flat: NDArray[np.bool_] = (np.sqrt(longest) < _FLAT_PX) | (np.maximum.reduceat(across, starts) < _FLAT_PX)
    return flat


def rasterise(annotations: Sequence[PlainPolygons]) -> list[Raster]:
    """Masks of sound polygons, pixel for pixel as pycocotools makes them."""
    if not annotations:
        return []
    values, starts = _joined(annotations)
    points, firsts = values.reshape(-1, 2), starts // 2
    extents = np.concatenate(
        [np.minimum.reduceat(points, firsts, axis=0), np.maximum.reduceat(points, firsts, axis=0)], axis=1
    )
    enclosed, perimeter = _areas_and_perimeters(points, firsts)
    rles, areas, boxes = _rasterised_parts(annotations)
    doubtful = np.abs(enclosed - areas) > 0.25 * perimeter + 1.0
    rasters, first = [], 0
    for annotation in annotations:
        rows = slice(first, first + len(annotation.parts))
        first = rows.stop
        if len(annotation.parts) == 1:
            encoded, area, box = rles[rows][0], int(areas[rows][0]), boxes[rows][0]
        else:
            encoded = coco_mask.merge(rles[rows])
            area, box = int(coco_mask.area(encoded)), coco_mask.toBbox(encoded)
        x, y, w, h = box.tolist()
        rasters.append(
            Raster(
                rle=Rle(size=[annotation.height, annotation.width], counts=encoded["counts"].decode("ascii")),
                area=area,
                box_xyxy=(x, y, x + w, y + h),
                extent_xyxy=(*extents[rows, :2].min(axis=0).tolist(), *extents[rows, 2:].max(axis=0).tolist()),
                doubtful_parts=tuple(np.flatnonzero(doubtful[rows]).tolist()),
            )
        )
    return rasters


def _rasterised_parts(
    annotations: Sequence[PlainPolygons],
) -> tuple[list[Any], NDArray[np.int64], NDArray[np.float64]]:
    """Encoded mask, pixels [P] and box xywh [P, 4] of each polygon by itself."""
    rles: list[Any] = []
    areas, boxes = [], []
    for (height, width), group in groupby(annotations, key=lambda a: (a.height, a.width)):
        parts = (np.frombuffer(part) for a in group for part in a.parts)
        for chunk in _chunks(parts):
            encoded: Any = coco_mask.frPyObjects(chunk, height, width)
            rles.extend(encoded)
            areas.append(coco_mask.area(encoded))
            boxes.append(coco_mask.toBbox(encoded))
    return rles, np.concatenate(areas).astype(np.int64), np.concatenate(boxes)


def _chunks(parts: Iterator[NDArray[np.float64]]) -> Iterator[Any]:
    while chunk := list(islice(parts, _CHUNK)):
        yield chunk


def _areas_and_perimeters(
    points: NDArray[np.float64], firsts: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """What each outline encloses (signed areas added up, then made positive) and how long it is, float64 [P]."""
    following = np.roll(points, -1, axis=0)
    lasts = np.append(firsts[1:], len(points)) - 1
    following[lasts] = points[firsts]
    origin = np.repeat(points[firsts], np.diff(firsts, append=len(points)), axis=0)  # near, so that little cancels
    x, y = (points - origin).T
    u, v = (following - origin).T
    doubled = np.add.reduceat(x * v - y * u, firsts)
    return np.abs(doubled) / 2, np.add.reduceat(np.hypot(u - x, v - y), firsts)


def _joined(annotations: Sequence[PlainPolygons]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """All coordinates one after another, and where each polygon starts."""
    parts = [part for annotation in annotations for part in annotation.parts]
    starts = np.cumsum([0] + [len(part) for part in parts])[:-1]
    return np.frombuffer(b"".join(parts)), starts


_EDGES_AT_ONCE = 512  # edges compared with all others at once


def crosses_itself(polygon: Sequence[float]) -> bool:
    """Whether two edges of a closed polygon properly cross: each has ends strictly on both sides of the other.

    Edges that touch, as where an outline meets itself in a point or runs back over itself, do not cross.

    Args:
        polygon: x0, y0, x1, y1, … px.
    """
    start = np.array(polygon, dtype=np.float64).reshape(-1, 2)
    end = np.roll(start, -1, axis=0)
    low, high = np.minimum(start, end), np.maximum(start, end)
    for first in range(0, len(start), _EDGES_AT_ONCE):
        rows = slice(first, first + _EDGES_AT_ONCE)
        near = ((low[rows, None] <= high[None]) & (high[rows, None] >= low[None])).all(axis=2)
        one, other = np.nonzero(near)
        one += first
        one, other = one[one < other], other[one < other]
        on_both_sides = _side(start[one], end[one], start[other]) * _side(start[one], end[one], end[other]) < 0
        on_both_sides &= _side(start[other], end[other], start[one]) * _side(start[other], end[other], end[one]) < 0
        if on_both_sides.any():
            return True
    return False


def _side(a: NDArray[np.float64], b: NDArray[np.float64], c: NDArray[np.float64]) -> NDArray[np.float64]:
    """1, 0 or -1 [N]: on which side of the line from a to b each c lies."""
    u, v = b - a, c - a
    return np.sign(u[:, 0] * v[:, 1] - u[:, 1] * v[:, 0])
