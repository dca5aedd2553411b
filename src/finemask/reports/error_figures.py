"""Errors in the evaluation report: what each kind costs, which sizes are missed, which classes are confused."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from markupsafe import Markup, escape
from numpy.typing import NDArray

from finemask.evaluation.ground_truth import GroundTruth
from finemask.ops.wording import count, plural
from finemask.pages.axes import Frame, nice_limit
from finemask.pages.charts import Bar, Column, bar_chart, column_chart
from finemask.reports.curve_figures import Figure
from finemask.reports.found_objects import Findings

_KINDS = {
    "classification": "The place is right, the class is not.",
    "localisation": "The class is right, the outline fits badly.",
    "both": "Wrong class, and the outline fits badly.",
    "duplicate": "A second detection of an object that is found already.",
    "background": "There is nothing labelled.",
    "missed": "An object that no detection comes near.",
}
# px, of the square root of the area; 32 and 96 are COCO's limits of small, medium and large
_EDGES = (0, 4, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048)


class ErrorKind(NamedTuple):
    """A row of the table of errors.

    Args:
        name: kind of error.
        words: what it is.
        times: how often; None where that is not known.
        gain: AP50 that would be won if all of these were corrected.
    """

    name: str
    words: str
    times: int | None
    gain: float | None


class Breakdown(NamedTuple):
    """The errors of one evaluation.

    Args:
        figure: bars of what each kind costs.
        kinds: the greatest gain first.
        ap50: where it starts from.
        iou: from which overlap a detection is right.
        background_iou: up to which overlap there is nothing where it lies.
    """

    figure: Figure
    kinds: list[ErrorKind]
    ap50: float | None
    iou: float
    background_iou: float


def error_breakdown(metrics: Mapping[str, Any], iou_type: str) -> Breakdown | None:
    """The breakdown of masks or boxes; None if the evaluation has none."""
    errors = metrics.get("errors") or {}
    table = errors.get(iou_type)
    if not table or not table.get("types"):
        return None
    kinds = [
        ErrorKind(name, _KINDS.get(name, ""), row.get("count"), row.get("gain")) for name, row in table["types"].items()
    ]
    kinds += [
        ErrorKind("all false", "Every detection that is wrong, left out.", None, table.get("false_positive")),
        ErrorKind("all missed", "Every object that is not found, left out.", None, table.get("false_negative")),
    ]
    bars = [
        Bar(kind.name, kind.gain or 0.0, "–" if kind.gain is None else f"+{kind.gain:.3f}", css)
        for kind, css in ((kind, "rest" if kind.name.startswith("all ") else "bad") for kind in kinds)
    ]
    figure = Figure(
        "What each kind of error costs",
        bar_chart(bars, name="AP50 lost to each kind of error", x_label="AP50 that correcting these would win"),
        [],
        "Each bar is the AP50 that would be won if errors of this kind alone were corrected. The two grey ones "
        "overlap with the others, so the bars do not add up.",
    )
    return Breakdown(figure, kinds, table.get("AP50"), errors.get("iou", 0.5), errors.get("background_iou", 0.1))


def size_figure(ground_truth: GroundTruth, findings: Findings) -> Figure | None:
    """How many objects of each size are found and missed; None without objects."""
    return _size_figure(
        [(a["area"] ** 0.5, n in findings.found_by) for n, a in enumerate(ground_truth.annotations) if not a["iscrowd"]]
    )


def _size_figure(objects: Sequence[tuple[float, bool]]) -> Figure | None:
    """Of sizes in px and whether the object is found."""
    if not objects:
        return None
    edges = [*map(float, _EDGES), float("inf")]
    counts = [[0, 0] for _ in edges[1:]]  # found, missed
    for size, is_found in objects:
        counts[sum(size >= edge for edge in edges[1:])][0 if is_found else 1] += 1
    filled = [number for number, pair in enumerate(counts) if sum(pair)]
    first, last = filled[0], filled[-1]
    columns = []
    for place, number in enumerate(range(first, last + 1)):
        found, missed = counts[number]
        low, high = edges[number : number + 2]
        span = f"from {low:,.0f} px" if high == float("inf") else f"of {low:,.0f} to {high:,.0f} px"
        columns.append(
            Column(
                place,
                place + 1,
                [(found, "found"), (missed, "missed")],
                f"{100 * found / (found + missed):.0f} %" if found + missed else "",
                f"objects {span}: {count(found)} found, {count(missed)} missed",
            )
        )
    marks = [(float(place), f"{edges[first + place]:,.0f}") for place in range(len(columns) + 1)]
    frame = Frame(
        "Objects by size, found and missed",
        "size of the object: square root of its area, px",
        "objects",
        x_range=(0.0, float(len(columns))),
        y_range=(0.0, nice_limit(1.08 * max(sum(counts[number]) for number in filled))),
        x_ticks=[(place, text) for place, text in marks if text != "inf"],
    )
    return Figure(
        "Objects by size",
        column_chart(columns, frame),
        [("found", "found"), ("missed", "missed")],
        "At the threshold in use. Over the columns: the part that is found.",
    )


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
