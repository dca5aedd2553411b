"""pycocotools' polygon rasteriser, for all polygons of an image at once.

Evaluation counts the pixels that pycocotools sets, so training must see the same. Its rasteriser (``rleFrPoly``,
maskApi.c) rounds vertices to fifths of a pixel, walks along each edge in steps of a fifth, and notes how far down it is
whenever it comes to the middle of a column of pixels. Only these crossings matter, and where an edge has them can be
computed without the walk. The arithmetic is that of the C code, operation by operation, because pixels depend on how
it rounds. The notes of a column, sorted, are where its runs begin and end.
"""

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from finemask.ops.mask_runs import MaskRuns

Fifths: TypeAlias = NDArray[np.int16] | NDArray[np.int32]
_Ints: TypeAlias = NDArray[np.int64]
_Floats: TypeAlias = NDArray[np.float64]


def runs_of_polygons(points: Fifths, lengths: _Ints, num_parts: _Ints, size_hw: tuple[int, int]) -> MaskRuns:
    """The pixels of N masks, each the union of its polygons.

    Args:
        points: int [2 * P], all polygons one after another: x0, y0, x1, y1, … in fifths of a pixel.
        lengths: int64 [Q], numbers of each polygon, so twice its vertices.
        num_parts: int64 [N], polygons of each mask; Q altogether.
        size_hw: of the image, px; what lies outside is cut off.
    """
    height, width = size_hw
    stride = height * width + 1  # a polygon's crossings are at 0 .. H * W
    crossings = _crossings(points, lengths // 2, size_hw, stride)
    crossings.sort()
    starts, stops = crossings[::2], crossings[1::2]  # even in number, because polygons are closed
    starts, stops = _joined(starts, stops)
    polygons = starts // stride
    owners = np.arange(len(num_parts)).repeat(num_parts)[polygons]
    starts, stops = starts - polygons * stride, stops - polygons * stride
    if len(lengths) > len(num_parts):
        owners, starts, stops = _united(owners, starts, stops, stride)
    return MaskRuns(owners, starts, stops, len(num_parts), size_hw)


def _crossings(points: Fifths, vertices: _Ints, size_hw: tuple[int, int], stride: int) -> _Ints:
    """Where outlines cross the middles of columns: ``polygon * stride + x * H + y``, not sorted.

    Args:
        points: see ``runs_of_polygons``.
        vertices: int64 [Q], of each polygon.
        size_hw: of the image, px.
        stride: between polygons.
    """
    height, width = size_hw
    x, y = points.reshape(-1, 2).T.astype(np.float64)
    ends = vertices.cumsum()
    following = np.arange(1, len(x) + 1)
    following[ends - 1] = ends - vertices
    column = (points[::2].astype(np.int64) + 2) // 5  # whose middle is the next to the right
    column = np.minimum(np.maximum(column, 0), width)
    number = abs(column[following] - column)
    across, down = x[following] - x, y[following] - y
    steep = abs(down) > abs(across)
    # edges that cross something, those that are walked along x first, then those that are walked along y
    crossing = number > 0
    gentle = (crossing > steep).nonzero()[0]
    edges = np.concatenate([gentle, (crossing & steep).nonzero()[0]])
    steep, number, after, across, down = steep[edges], number[edges], following[edges], across[edges], down[edges]
    along, aside = np.where(steep, [down, across], [across, down])
    begin = np.where(along < 0, after, edges)  # walked in ascending order, whichever way the outline goes
    first = np.minimum(column[edges], column[after]) - number.cumsum() + number
    base = np.arange(len(vertices)).repeat(vertices)[edges] * stride
    each = np.arange(len(edges)).repeat(number)
    column = np.arange(len(each)) + first[each]
    split = int(number[: len(gentle)].sum())
    slope, x, y = (aside / along)[each], x[begin][each], y[begin][each]
    row = np.empty(len(each), dtype=np.int64)
    row[:split] = _walked_along_x(column[:split], slope[:split], x[:split], y[:split])
    row[split:] = _walked_along_y(column[split:], slope[split:], x[split:], y[split:])
    row = (row + 2) // 5
    crossings: _Ints = base[each] + column * height + np.minimum(np.maximum(row, 0), height)
    return crossings


def _walked_along_x(column: _Ints, slope: _Floats, x: _Floats, y: _Floats) -> _Floats:
    """Rows, in fifths, between which an edge from (x, y) passes the middle of a column: the upper of the two.

    To be truncated, as C does.
    """
    step = 5.0 * column + 2 - x + (slope < 0)
    return y + slope * step + 0.5


def _walked_along_y(column: _Ints, slope: _Floats, x: _Floats, y: _Floats) -> _Floats:
    """The same for an edge whose columns are rounded: the step that first rounds beyond the middle says where."""
    beyond = 5.0 * column + 3
    # a little less than exact, which is rounded in another way than the walk: it is this step or the next
    step = np.ceil((beyond - 0.5 - x) / slope - 1e-6)
    is_beyond = (x + slope * step + 0.5 >= beyond) == (slope > 0)
    return np.asarray(y + step - is_beyond)


def _joined(starts: _Ints, stops: _Ints) -> tuple[_Ints, _Ints]:
    """Sorted runs, those joined that touch, empty ones left out."""
    apart = stops[:-1] < starts[1:]
    if not apart.all():
        begins = np.concatenate([[True], apart])
        starts, stops = starts[begins], stops[np.append(begins[1:], True)]
    filled = starts < stops
    return (starts, stops) if filled.all() else (starts[filled], stops[filled])


def _united(owners: _Ints, starts: _Ints, stops: _Ints, stride: int) -> tuple[_Ints, _Ints, _Ints]:
    """Runs of each mask that may overlap, as runs that do not."""
    starts, stops = starts + owners * stride, stops + owners * stride
    order = starts.argsort(kind="stable")
    starts, stops = starts[order], np.maximum.accumulate(stops[order])
    starts, stops = _joined(starts, stops)
    owners = starts // stride
    return owners, starts - owners * stride, stops - owners * stride
