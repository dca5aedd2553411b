"""The confusion matrix as a picture that stays readable with many classes, and its commonest pairs in words."""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
from markupsafe import Markup, escape
from numpy.typing import NDArray

from finemask.ops.wording import plural

MOST_CLASSES = 80
_PAIRS = 12
_WIDTH = 1000  # px that the matrix may take
_LEAST_CELL, _MOST_CELL = 10.5, 74.0
_NUMBERS_FROM, _LEVEL_FROM = 25.0, 60.0  # px of a cell that holds a number, and a name above it
_LONGEST = 24  # letters of a name
_LEAST_HEAT = 0.15


class Pair(NamedTuple):
    """Objects of one class that were reported as another."""

    labelled: str
    predicted: str
    objects: int
    share: float  # of the labelled class, 0..1


class Confusion(NamedTuple):
    """The matrix.

    Args:
        svg: its picture.
        pairs: the commonest confusions, most frequent first.
        shown: classes in the picture.
        classes: classes there are.
        iou: from which overlap an object and a detection belong together.
        threshold: score from which detections count.
    """

    svg: Markup
    pairs: list[Pair]
    shown: int
    classes: int
    iou: float
    threshold: float | None


def confusion(metrics: Mapping[str, Any]) -> Confusion | None:
    """The matrix of an evaluation; None if it has none, or nothing to put in it."""
    table = metrics.get("confusion")
    if not table:
        return None
    names, counts = list(table["names"]), np.asarray(table["counts"], dtype=np.int64)
    if not counts.sum():
        return None
    kept = _kept(counts)
    everything = [*kept, len(names) - 1]
    shown = counts[np.ix_(everything, everything)]
    totals = counts.sum(axis=1)
    svg = _drawn(shown, [names[number] for number in kept], totals[everything])
    return Confusion(svg, _pairs(counts, names), len(kept), len(names) - 1, table["iou"], table["threshold"])


def _kept(counts: NDArray[np.int64]) -> list[int]:
    """Positions of the classes to show: those that occur; of too many, those with the most errors."""
    off = counts - np.diag(np.diag(counts))
    occurs = (counts.sum(axis=0) + counts.sum(axis=1))[:-1] > 0
    errors = (off.sum(axis=0) + off.sum(axis=1))[:-1]
    present = np.flatnonzero(occurs)
    if len(present) > MOST_CLASSES:
        present = np.sort(present[np.argsort(-errors[present], kind="stable")[:MOST_CLASSES]])
    return [int(number) for number in present]


def _pairs(counts: NDArray[np.int64], names: list[str]) -> list[Pair]:
    inner = counts[:-1, :-1] - np.diag(np.diag(counts[:-1, :-1]))
    totals = counts.sum(axis=1)
    order = np.argsort(-inner, axis=None, kind="stable")[:_PAIRS]
    rows, columns = np.unravel_index(order, inner.shape)
    return [
        Pair(names[row], names[column], int(inner[row, column]), float(inner[row, column] / totals[row]))
        for row, column in zip(rows.tolist(), columns.tolist(), strict=True)
        if inner[row, column]
    ]


class _Grid(NamedTuple):
    """Where things are, px."""

    number: int  # of rows, and of columns
    cell: float
    font: float
    left: float
    top: float

    @property
    def right(self) -> float:
        return self.left + self.cell * self.number

    @property
    def lower(self) -> float:
        return self.top + self.cell * self.number

    @property
    def is_level(self) -> bool:
        """Whether the names of the columns have room as they are written."""
        return self.cell >= _LEVEL_FROM

    @property
    def holds_numbers(self) -> bool:
        return self.cell >= _NUMBERS_FROM


def _grid(names: list[str]) -> _Grid:
    longest = min(max(map(len, names)), _LONGEST)
    cell = min(max((_WIDTH - 7 * longest) / len(names), _LEAST_CELL), _MOST_CELL)
    font = min(12.0, cell * 0.88)
    room = 0.58 * font * longest + 12
    return _Grid(len(names), cell, font, 22 + room, 22 + (font + 10 if cell >= _LEVEL_FROM else room))


def _drawn(counts: NDArray[np.int64], names: list[str], totals: NDArray[np.int64]) -> Markup:
    """One cell a pair; the deeper its colour, the larger its share of the row."""
    rows, columns = [*names, "nothing labelled"], [*names, "missed"]
    grid = _grid(rows)
    width, height = grid.right + 2, grid.lower + 2
    parts = [
        f'<svg class="chart matrix{"" if grid.holds_numbers else " dense"}" viewBox="0 0 {width:.0f} {height:.0f}" '
        f'style="width:{width:.0f}px" role="img" aria-label="Confusion matrix: labelled classes in rows, predicted '
        f'ones in columns">',
        f'<text class="axis" x="{(grid.left + grid.right) / 2:.1f}" y="13" text-anchor="middle">predicted</text>',
        f'<text class="axis" transform="translate(12 {(grid.top + grid.lower) / 2:.1f}) rotate(-90)" '
        f'text-anchor="middle">labelled</text>',
        f'<rect class="field" x="{grid.left:.1f}" y="{grid.top:.1f}" width="{grid.right - grid.left:.1f}" '
        f'height="{grid.lower - grid.top:.1f}"/>',
    ]
    for place, names_at in enumerate(zip(rows, columns, strict=True)):
        parts += _labels(grid, place, *names_at)
    for row, column in np.argwhere(counts).tolist():
        count, share = int(counts[row, column]), counts[row, column] / max(totals[row], 1)
        sentence = _sentence(count, rows[row], columns[column], row, column, grid.number - 1)
        parts += _cell(grid, row, column, count, share, f"{sentence} ({100 * share:.1f} % of the row)")
    for place in range(grid.number + 1):
        edge = "edge" if place in (0, grid.number - 1, grid.number) else "grid"
        x, y = grid.left + grid.cell * place, grid.top + grid.cell * place
        parts.append(f'<line class="{edge}" x1="{x:.1f}" x2="{x:.1f}" y1="{grid.top:.1f}" y2="{grid.lower:.1f}"/>')
        parts.append(f'<line class="{edge}" x1="{grid.left:.1f}" x2="{grid.right:.1f}" y1="{y:.1f}" y2="{y:.1f}"/>')
    parts.append("</svg>")
    return Markup("".join(parts))


def _labels(grid: _Grid, place: int, row: str, column: str) -> Iterator[str]:
    middle, style = grid.cell * (place + 0.5), f'class="tick" style="font-size:{grid.font:.1f}px"'
    yield (
        f'<text {style} x="{grid.left - 7:.1f}" y="{grid.top + middle + grid.font / 3:.1f}" text-anchor="end">'
        f"{_short(row, _LONGEST)}</text>"
    )
    x, y = grid.left + middle, grid.top - 8
    if grid.is_level:
        fitting = int(grid.cell / (0.6 * grid.font))
        yield f'<text {style} x="{x:.1f}" y="{y:.1f}" text-anchor="middle">{_short(column, fitting)}</text>'
    else:
        at = f'transform="translate({x + grid.font / 3:.1f} {y:.1f}) rotate(-90)"'
        yield f"<text {style} {at}>{_short(column, _LONGEST)}</text>"


def _cell(grid: _Grid, row: int, column: int, number: int, share: float, title: str) -> Iterator[str]:
    x, y = grid.left + grid.cell * column, grid.top + grid.cell * row
    heat = max(share**0.5, _LEAST_HEAT)  # the root: what is rare is what one looks for here
    yield (
        f'<g><title>{title}</title><rect class="heat {"right" if row == column else "wrong"}" '
        f'style="--heat:{heat:.2f}" x="{x:.1f}" y="{y:.1f}" width="{grid.cell:.1f}" height="{grid.cell:.1f}"/>'
    )
    if grid.holds_numbers:
        size = min(13.0, 0.8 * grid.cell / (0.62 * max(len(f"{number:,}"), 2)))
        yield (
            f'<text class="count" style="font-size:{size:.1f}px" x="{x + grid.cell / 2:.1f}" '
            f'y="{y + grid.cell / 2 + size / 3:.1f}" text-anchor="middle">{number:,}</text>'
        )
    yield "</g>"


def _sentence(number: int, labelled: str, predicted: str, row: int, column: int, last: int) -> str:
    if row == last:
        return f"{plural(number, 'detection')} of {escape(predicted)} where nothing is labelled"
    if column == last:
        return f"{plural(number, 'object')} of {escape(labelled)} missed"
    return f"{plural(number, 'object')} of {escape(labelled)} reported as {escape(predicted)}"


def _short(name: str, most: int) -> str:
    return str(escape(name if len(name) <= most else name[: max(most - 1, 1)] + "…"))
