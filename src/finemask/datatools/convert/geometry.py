"""Shapes as polygons, masks as rings, and several rings as one."""

import math
from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from finemask.data.segments import FIFTHS_LIMIT
from finemask.ops.rle_crop import rle_to_crop
from finemask.types import Rle

Ring = NDArray[np.float64]
"""[P, 2], x and y in px; the first point is not repeated."""

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
    """Outlines of a mask along the edges of its pixels: of its parts and of their holes.

    Filled by even and odd, and by pycocotools, they give the very pixels back. Parts that touch at a corner are
    one ring.

    Args:
        rle: the mask.
        tolerance_px: how far a thinned outline may run from the exact one; 0 keeps every corner.
    """
    crop, x0, y0 = rle_to_crop(rle)
    if not crop.size:
        return []
    # At three times the size every side of a pixel has points of its own, and (c + 1) // 3 is the edge it lies on.
    large = np.pad(crop.astype(np.uint8).repeat(3, axis=0).repeat(3, axis=1), 1)
    contours, _ = cv2.findContours(large, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    rings = [_corners(contour[:, 0].astype(np.int64) // 3) for contour in contours]
    return [_thinned(ring, tolerance_px) + np.array([x0, y0], dtype=np.float64) for ring in rings]


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


def _corners(ring: NDArray[np.int64]) -> NDArray[np.int64]:
    """Without repeated points, and without those on a straight line between their neighbours."""
    ring = ring[(ring != np.roll(ring, 1, axis=0)).any(axis=1)]
    before, after = ring - np.roll(ring, 1, axis=0), np.roll(ring, -1, axis=0) - ring
    corners: NDArray[np.int64] = ring[before[:, 0] * after[:, 1] != before[:, 1] * after[:, 0]]
    return corners


def _thinned(ring: NDArray[np.int64], tolerance_px: float) -> Ring:
    if tolerance_px > 0 and len(ring) > 4:
        thin = cv2.approxPolyDP(ring.astype(np.float32)[:, None], tolerance_px, closed=True).reshape(-1, 2)
        if len(thin) >= 3:
            return thin.astype(np.float64)
    return ring.astype(np.float64)
