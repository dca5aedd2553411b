"""Heat maps as inline SVG: a picture of places, and the matrix of rows by columns with names and numbers."""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from markupsafe import Markup, escape
from numpy.typing import NDArray

from finemask.pages.axes import HEIGHT, WIDTH, opening

_MATRIX_PX = 1000  # that a matrix may take
_LEAST_CELL, _MOST_CELL = 10.5, 74.0
_NUMBERS_FROM, _LEVEL_FROM = 25.0, 60.0  # px of a cell that holds a number, and a name above it
_LONGEST = 24  # letters of a name
_LEAST_HEAT = 0.15


def heat_map(grid: NDArray[np.floating], *, name: str, what: str, aspect: float = 1.0) -> Markup:
    """Draws a grid 0..1 as a picture of the place, darkest where it is highest.

    Args:
        grid: [rows, columns], first row on top.
        name: what a screen reader says.
        what: the number of a cell is, said when it is pointed at.
        aspect: width / height of the picture.
    """
    width = min((HEIGHT - 24.0) * aspect, float(WIDTH))
    height = width / aspect
    rows, columns = grid.shape
    top = float(grid.max(initial=0)) or 1.0
    x0, y0, w, h = (WIDTH - width) / 2, (HEIGHT - height) / 2, width / columns, height / rows
    body = [
        f'<rect class="cell" x="{x0 + c * w:.2f}" y="{y0 + r * h:.2f}" width="{w + 0.3:.2f}" height="{h + 0.3:.2f}" '
        f'fill-opacity="{0.04 + 0.96 * value / top:.3f}"><title>{100 * value:.1f} % {escape(what)}</title></rect>'
        for r, row in enumerate(grid.tolist())
        for c, value in enumerate(row)
    ]
    frame = f'<rect class="frame" x="{x0:.2f}" y="{y0:.2f}" width="{width:.2f}" height="{height:.2f}"/>'
    return Markup("".join([opening(name, WIDTH, HEIGHT), *body, frame, "</svg>"]))


def matrix(
    counts: NDArray[np.int64],
    shares: NDArray[np.float64],
    names: tuple[Sequence[str], Sequence[str]],
    axes: tuple[str, str],
    *,
    name: str,
    title: Callable[[int, int], str],
) -> Markup:
    """Draws a square matrix that stays readable with many rows: the deeper a cell's colour, the larger its share.

    The last row and column stand apart. The diagonal is right, the rest wrong.

    Args:
        counts: [N, N], in the cells that are large enough.
        shares: [N, N], 0..1.
        names: of the rows and of the columns.
        axes: what the rows and the columns are.
        name: what a screen reader says.
        title: said when a cell, by row and column, is pointed at.
    """
    grid = _Grid.of(names[0])
    width, height = grid.right + 2, grid.lower + 2
    parts = [
        opening(name, width, height, "matrix" if grid.holds_numbers else "matrix dense", f"width:{width:.0f}px"),
        f'<text class="axis" x="{(grid.left + grid.right) / 2:.1f}" y="13" text-anchor="middle">'
        f"{escape(axes[1])}</text>",
        f'<text class="axis" transform="translate(12 {(grid.top + grid.lower) / 2:.1f}) rotate(-90)" '
        f'text-anchor="middle">{escape(axes[0])}</text>',
        f'<rect class="field" x="{grid.left:.1f}" y="{grid.top:.1f}" width="{grid.right - grid.left:.1f}" '
        f'height="{grid.lower - grid.top:.1f}"/>',
    ]
    for place, names_at in enumerate(zip(*names, strict=True)):
        parts += grid.labels(place, *names_at)
    for row, column in np.argwhere(counts).tolist():
        parts += grid.filled(row, column, int(counts[row, column]), shares[row, column], title(row, column))
    for place in range(grid.number + 1):
        edge = "edge" if place in (0, grid.number - 1, grid.number) else "grid"
        x, y = grid.left + grid.cell * place, grid.top + grid.cell * place
        parts.append(f'<line class="{edge}" x1="{x:.1f}" x2="{x:.1f}" y1="{grid.top:.1f}" y2="{grid.lower:.1f}"/>')
        parts.append(f'<line class="{edge}" x1="{grid.left:.1f}" x2="{grid.right:.1f}" y1="{y:.1f}" y2="{y:.1f}"/>')
    return Markup("".join([*parts, "</svg>"]))


class _Grid(NamedTuple):
    """Where the parts of a matrix are, px."""

    number: int  # of rows, and of columns
    cell: float
    font: float
    left: float
    top: float

    @classmethod
    def of(cls, names: Sequence[str]) -> "_Grid":
        longest = min(max(map(len, names)), _LONGEST)
        cell = min(max((_MATRIX_PX - 7 * longest) / len(names), _LEAST_CELL), _MOST_CELL)
        font = min(12.0, cell * 0.88)
        room = 0.58 * font * longest + 12
        return cls(len(names), cell, font, 22 + room, 22 + (font + 10 if cell >= _LEVEL_FROM else room))

    @property
    def right(self) -> float:
        return self.left + self.cell * self.number

    @property
    def lower(self) -> float:
        return self.top + self.cell * self.number

    @property
    def holds_numbers(self) -> bool:
        return self.cell >= _NUMBERS_FROM

    def labels(self, place: int, row: str, column: str) -> Iterator[str]:
        middle, style = self.cell * (place + 0.5), f'class="tick" style="font-size:{self.font:.1f}px"'
        yield (
            f'<text {style} x="{self.left - 7:.1f}" y="{self.top + middle + self.font / 3:.1f}" text-anchor="end">'
            f"{_short(row, _LONGEST)}</text>"
        )
        x, y = self.left + middle, self.top - 8
        if self.cell >= _LEVEL_FROM:  # the names of the columns have room as they are written
            fitting = int(self.cell / (0.6 * self.font))
            yield f'<text {style} x="{x:.1f}" y="{y:.1f}" text-anchor="middle">{_short(column, fitting)}</text>'
        else:
            at = f'transform="translate({x + self.font / 3:.1f} {y:.1f}) rotate(-90)"'
            yield f"<text {style} {at}>{_short(column, _LONGEST)}</text>"

    def filled(self, row: int, column: int, number: int, share: float, title: str) -> Iterator[str]:
        x, y = self.left + self.cell * column, self.top + self.cell * row
        heat = max(share**0.5, _LEAST_HEAT)  # the root: what is rare is what one looks for here
        yield (
            f'<g><title>{escape(title)}</title><rect class="heat {"right" if row == column else "wrong"}" '
            f'style="--heat:{heat:.2f}" x="{x:.1f}" y="{y:.1f}" width="{self.cell:.1f}" height="{self.cell:.1f}"/>'
        )
        if self.holds_numbers:
            size = min(13.0, 0.8 * self.cell / (0.62 * max(len(f"{number:,}"), 2)))
            yield (
                f'<text class="count" style="font-size:{size:.1f}px" x="{x + self.cell / 2:.1f}" '
                f'y="{y + self.cell / 2 + size / 3:.1f}" text-anchor="middle">{number:,}</text>'
            )
        yield "</g>"


def _short(name: str, most: int) -> str:
    return str(escape(name if len(name) <= most else name[: max(most - 1, 1)] + "…"))
