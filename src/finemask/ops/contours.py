"""Contours of masks along the edges of their pixels: exact polygons before they are thinned, holes included."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

Ring = NDArray[np.float64]
"""[P, 2], x and y in px; the first point is not repeated."""

TOLERANCE_PX = 1.0  # the least that takes the stairs off a slope: their corners lie within 1 px of a line
_LEAST_SIDE = 30  # tolerances of the side of a square as large as the outline, or small masks become triangles


class Polygon(NamedTuple):
    """One connected part of a mask. Outer rings run clockwise on the screen, holes the other way."""

    outer: Ring
    holes: list[Ring]


def mask_to_polygons(
    mask: NDArray[np.bool_], x0: int = 0, y0: int = 0, tolerance_px: float | None = None
) -> list[Polygon]:
    """Outlines of a mask, pixel (x, y) being the square from (x, y) to (x + 1, y + 1).

    Parts that touch only at a corner are apart. With ``tolerance_px=0`` the outline is exact: the area of the
    outer rings less that of the holes is the number of pixels, and all rings together, filled by even and odd with
    pycocotools, are the mask.

    Args:
        mask: bool [h, w], a crop of the image.
        x0: column of the crop in the image.
        y0: row of the crop in the image.
        tolerance_px: how far a thinned outline may run from the exact one (Douglas-Peucker). None: ``TOLERANCE_PX``,
            and less for what is smaller than 30 × 30 px, so that the polygon keeps some 98 % of it.

    Returns:
        Connected parts, from the upper left on; none for an empty mask.
    """
    _, parts = cv2.connectedComponents(mask.astype(np.uint8), connectivity=4)
    outers: dict[int, Ring] = {}
    holes: dict[int, list[Ring]] = {}
    for (row, column), ring in _trace(mask):
        part = int(parts[row, column])
        thinned = _thin(ring, tolerance_px) + np.array([x0, y0])
        if signed_area(ring) > 0:
            outers[part] = thinned
        else:
            holes.setdefault(part, []).append(thinned)
    return [Polygon(outer, holes.get(part, [])) for part, outer in outers.items()]


def _trace(mask: NDArray[np.bool_]) -> Iterator[tuple[tuple[int, int], Ring]]:
    """Closed walks along pixel edges, the mask to the right, each with one of the pixels it goes round.

    A pixel and its upper left corner have the same number, counted along the rows of the padded mask.
    """
    padded = np.pad(mask, 1)
    width = padded.shape[1]
    filled, pixels = padded.ravel(), np.flatnonzero(padded)
    # The sides of a pixel as they are walked: right along the upper one, down, left, up.
    bare = [pixels[~filled[pixels + outside]] for outside in (-width, 1, width, -1)]
    starts = [side + corner for side, corner in zip(bare, (0, 1, width + 1, width), strict=True)]
    keys = np.concatenate(starts) * 4 + np.repeat(np.arange(4), [len(side) for side in bare])
    order = np.argsort(keys)
    keys, beside = keys[order], np.concatenate(bare)[order]
    start, direction = keys // 4, keys % 4
    follows = _following(keys, start + np.array([1, width, -1, -width])[direction], direction).tolist()
    corners = np.stack([start % width, start // width], axis=1) - 1.0
    seen = [False] * len(keys)
    for first in range(len(keys)):
        walk, edge = [], first
        while not seen[edge]:
            seen[edge] = True
            walk.append(edge)
            edge = follows[edge]
        if walk:
            turned = direction[walk]
            y, x = divmod(int(beside[first]), width)
            yield (y - 1, x - 1), corners[walk][turned != np.roll(turned, 1)]


def _following(keys: NDArray[np.int64], reached: NDArray[np.int64], direction: NDArray[np.int64]) -> NDArray[np.int64]:
    """The edge that each edge is followed by: of those that leave the corner it reaches, the rightmost.

    Where two pixels touch at that corner only, this is the one that stays with the pixel walked along.

    Args:
        keys: int64 [E], ascending: four times the corner an edge leaves, plus its direction (0..3, clockwise).
        reached: int64 [E], the corner that it leads to.
        direction: int64 [E].
    """
    follows = np.zeros(len(keys), dtype=np.int64)
    for turn in (-1, 0, 1):  # left, straight on, right
        wanted = reached * 4 + (direction + turn) % 4
        place = np.searchsorted(keys, wanted).clip(max=len(keys) - 1)
        follows = np.where(keys[place] == wanted, place, follows)
    return follows


def _thin(ring: Ring, tolerance_px: float | None) -> Ring:
    if tolerance_px is None:
        tolerance_px = min(TOLERANCE_PX, abs(signed_area(ring)) ** 0.5 / _LEAST_SIDE)
    if tolerance_px <= 0 or len(ring) <= 4:
        return ring
    thinned = cv2.approxPolyDP(ring.astype(np.float32)[:, None], tolerance_px, closed=True)
    points: Ring = np.asarray(thinned, dtype=np.float64).reshape(-1, 2)
    return points if len(points) >= 3 else ring


def signed_area(ring: Ring) -> float:
    """Px²; above 0 if the ring runs clockwise on the screen."""
    x, y = ring.T
    return float(x @ np.roll(y, -1) - y @ np.roll(x, -1)) / 2


def bridge_rings(rings: Sequence[Ring]) -> Ring:
    """Joins rings to one by bridges without width, there and back again at the nearest points.

    Filled by even and odd, a bridge cancels itself, so parts and holes survive in formats that know a single
    outline. Tools that also draw the outline show a bridge as a line of one px.

    Args:
        rings: at least one.
    """
    if len(rings) == 1:
        return rings[0]
    from scipy.spatial import cKDTree  # holes are rare, and most masks are read without its import

    path = rings[0]
    for ring in rings[1:]:
        distances, nearest = cKDTree(path).query(ring)
        here = int(np.argmin(distances))
        there = int(np.asarray(nearest)[here])
        path = np.concatenate([path[: there + 1], ring[here:], ring[: here + 1], path[there:]])
    return path
