"""Does an outline cross itself?"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

_CHUNK = 512  # edges compared with all others at once


def crosses_itself(polygon: Sequence[float]) -> bool:
    """Whether two edges of a closed polygon properly cross: each has ends strictly on both sides of the other.

    Edges that touch, as where an outline meets itself in a point or runs back over itself, do not cross.

    Args:
        polygon: x0, y0, x1, y1, … px.
    """
    start = np.array(polygon, dtype=np.float64).reshape(-1, 2)
    end = np.roll(start, -1, axis=0)
    low, high = np.minimum(start, end), np.maximum(start, end)
    for first in range(0, len(start), _CHUNK):
        rows = slice(first, first + _CHUNK)
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
