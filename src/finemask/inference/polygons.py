"""Masks to polygons along the edges of their pixels: exact before they are thinned, holes included."""

from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

Ring = NDArray[np.float64]  # [P, 2], x and y px, not repeating its first point

TOLERANCE_PX = 1.0  # the least that takes the stairs off a slope: their corners lie within 1 px of a line


class Polygon(NamedTuple):
    """One connected part of a mask. Outer rings run clockwise on the screen, holes the other way."""

    outer: Ring
    holes: list[Ring]


def mask_to_polygons(
    mask: NDArray[np.bool_], x0: int = 0, y0: int = 0, tolerance_px: float = TOLERANCE_PX
) -> list[Polygon]:
    """Outlines of a mask, pixel (x, y) being the square from (x, y) to (x + 1, y + 1).

    Parts that touch only at a corner are apart. With ``tolerance_px=0`` the outline is exact: the area of the
    outer rings less that of the holes is the number of pixels.

    Args:
        mask: bool [h, w], a crop of the image.
        x0: column of the crop in the image.
        y0: row of the crop in the image.
        tolerance_px: how far a thinned outline may run from the exact one (Douglas-Peucker).

    Returns:
        Connected parts, from the upper left on; none for an empty mask.
    """
    _, parts = cv2.connectedComponents(mask.astype(np.uint8), connectivity=4)
    outers: dict[int, Ring] = {}
    holes: dict[int, list[Ring]] = {}
    for (row, column), ring in _trace(mask):
        part = int(parts[row, column])
        thinned = _thin(ring, tolerance_px) + np.array([x0, y0])
        if _signed_area(ring) > 0:
            outers[part] = thinned
        else:
            holes.setdefault(part, []).append(thinned)
    return [Polygon(outer, holes.get(part, [])) for part, outer in outers.items()]


def _trace(mask: NDArray[np.bool_]) -> list[tuple[tuple[int, int], Ring]]:
    """Closed walks along pixel edges, the mask to the right, each with one of the pixels it goes round."""
    padded = np.pad(mask, 1)
    inner = padded[1:-1, 1:-1]
    # Each edge: corner it leaves -> (corner it reaches, pixel to its right). Corners are (y, x).
    edges: dict[tuple[int, int], list[tuple[tuple[int, int], tuple[int, int]]]] = {}
    sides = (
        (padded[:-2, 1:-1], (0, 0), (0, 1)),  # nothing above: walk right along the upper side
        (padded[1:-1, 2:], (0, 1), (1, 1)),  # nothing to the right: down
        (padded[2:, 1:-1], (1, 1), (1, 0)),  # nothing below: left
        (padded[1:-1, :-2], (1, 0), (0, 0)),  # nothing to the left: up
    )
    for neighbour, (dy, dx), (ey, ex) in sides:
        for y, x in np.argwhere(inner & ~neighbour).tolist():
            edges.setdefault((y + dy, x + dx), []).append(((y + ey, x + ex), (y, x)))
    rings = []
    for start in sorted(edges):
        while edges[start]:
            corner, pixel = edges[start].pop()
            first, walk = pixel, [start]
            while corner != start:
                walk.append(corner)
                choices = edges[corner]
                # Two pixels that touch at this corner only: stay with the one walked along.
                same = next((n for n, (_, other) in enumerate(choices) if other == pixel), 0)
                corner, pixel = choices.pop(same)
            rings.append((first, _without_straights(np.array(walk, dtype=np.float64)[:, ::-1])))
    return rings


def _without_straights(ring: Ring) -> Ring:
    before, after = ring - np.roll(ring, 1, axis=0), np.roll(ring, -1, axis=0) - ring
    corners = before[:, 0] * after[:, 1] != before[:, 1] * after[:, 0]
    kept: Ring = ring[corners]
    return kept


def _thin(ring: Ring, tolerance_px: float) -> Ring:
    if tolerance_px <= 0 or len(ring) <= 4:
        return ring
    thinned = cv2.approxPolyDP(ring.astype(np.float32)[:, None], tolerance_px, closed=True)
    points: Ring = np.asarray(thinned, dtype=np.float64).reshape(-1, 2)
    return points if len(points) >= 3 else ring


def _signed_area(ring: Ring) -> float:
    x, y = ring.T
    return float(x @ np.roll(y, -1) - y @ np.roll(x, -1)) / 2
