"""Shapes as polygons, masks as rings, and several rings as one."""

import math
from collections.abc import Sequence

import numpy as np
from scipy.spatial import cKDTree

from finemask.coco.fifths import FIFTHS_LIMIT
from finemask.ops.outlines import Ring, mask_to_polygons
from finemask.ops.rle import rle_to_crop
from finemask.types import Rle

_SAGITTA_PX = 0.05  # by which a chord of an ellipse may fall short of its arc
_MAX_SIDES = 2000
_LIMIT_PX = FIFTHS_LIMIT / 5  # what training refuses, and a rasteriser would take for ever on


def rectangle(x0: float, y0: float, x1: float, y1: float, rotation_deg: float = 0.0) -> list[float]:
    """Corners of a box, turned clockwise about its middle: x0, y0, x1, y1 and so on."""
    corners = np.array([(x0, y0), (x1, y0), (x1, y1), (x0, y1)], dtype=np.float64)
    return _turned(corners, ((x0 + x1) / 2, (y0 + y1) / 2), math.radians(rotation_deg))


def ellipse(cx: float, cy: float, rx: float, ry: float, rotation_rad: float = 0.0) -> list[float]:
    """An ellipse as a polygon within 0.05 px of it (up to 100,000 px wide), turned clockwise about its middle."""
    radius = max(abs(rx), abs(ry), 1.0)
    count = min(max(12, math.ceil(math.pi * math.sqrt(radius / (2 * _SAGITTA_PX)))), _MAX_SIDES)
    angle = np.arange(count) * (2 * np.pi / count)
    points = np.stack([cx + abs(rx) * np.cos(angle), cy + abs(ry) * np.sin(angle)], axis=1)
    return _turned(points, (cx, cy), rotation_rad)


def is_polygon(polygon: Sequence[float]) -> bool:
    """At least three points, all finite and within a million px."""
    return len(polygon) >= 6 and len(polygon) % 2 == 0 and all(abs(value) < _LIMIT_PX for value in polygon)


def rings_of(rle: Rle, tolerance_px: float = 0.0) -> list[Ring]:
    """Outlines of a mask along the edges of its pixels, those of its parts and of their holes alike.

    Filled by even and odd, and by pycocotools, they give the very pixels back.

    Args:
        rle: the mask.
        tolerance_px: how far a thinned outline may run from the exact one; 0 keeps every corner.
    """
    polygons = mask_to_polygons(*rle_to_crop(rle), tolerance_px)
    return [ring for polygon in polygons for ring in (polygon.outer, *polygon.holes)]


def bridged(rings: Sequence[Ring]) -> Ring:
    """Joins rings to one by bridges without width, there and back again at the nearest points.

    Filled by even and odd, a bridge cancels itself, so parts and holes survive in formats that know a single
    outline. Tools that also draw the outline show a bridge as a line of one px.

    Args:
        rings: at least one.
    """
    path = rings[0]
    for ring in rings[1:]:
        distances, nearest = cKDTree(path).query(ring)
        here = int(np.argmin(distances))
        there = int(np.asarray(nearest)[here])
        path = np.concatenate([path[: there + 1], ring[here:], ring[: here + 1], path[there:]])
    return path


def has_bridge(polygon: Sequence[float]) -> bool:
    """Whether an outline runs along one of its own sides there and back, as ``bridged`` makes it."""
    points = list(zip(polygon[::2], polygon[1::2], strict=True))
    sides = {(a, b) for a, b in zip(points, [*points[1:], points[0]], strict=True) if a != b}
    return any((b, a) in sides for a, b in sides)


def _turned(points: Ring, about: tuple[float, float], radians: float) -> list[float]:
    if radians:
        cos, sin = math.cos(radians), math.sin(radians)
        points = (points - about) @ np.array([[cos, sin], [-sin, cos]]) + about
    flat: list[float] = points.ravel().tolist()
    return flat
