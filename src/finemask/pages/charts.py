"""Charts as inline SVG: lines, bars, columns, histograms, cumulative curves, dots; the style sheet colours them."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from markupsafe import Markup, escape
from numpy.typing import NDArray

from finemask.pages.axes import BOTTOM, FLOOR, WIDTH, Axis, Frame, nice_limit, opening

SERIES = 8  # colours that lines may have: the classes s0 to s7 of the style sheet
_MAX_POINTS = 320
_ROW, _LABELS, _VALUES = 34, 118, 62  # px: height of a bar's row, width left of the bars, width right of them
_MIN_BAR = 1.5  # px, so that what is not zero shows
_WHISKER_PX = 220


class Figure(NamedTuple):
    """A chart with what belongs around it.

    Args:
        title: heading.
        svg: the chart.
        note: what it shows, in a sentence or two.
        legend: pairs of CSS class and label.
    """

    title: str
    svg: Markup
    note: str
    legend: Sequence[tuple[str, str]] = ()


@dataclass(frozen=True)
class Line:
    """One line of a chart.

    Args:
        label: shown when pointed at, and in a legend.
        x: [P].
        y: [P].
        css: class that gives colour and weight (``s0`` … ``s7``, ``main``, ``accent``, ``faint``).
    """

    label: str
    x: NDArray[np.float64]
    y: NDArray[np.float64]
    css: str


class Bar(NamedTuple):
    """One bar.

    Args:
        label: left of it.
        value: its length, at least 0.
        text: right of it.
        css: class that gives its colour.
    """

    label: str
    value: float
    text: str
    css: str


class Column(NamedTuple):
    """One column, perhaps of several parts.

    Args:
        start: its left side on the horizontal axis.
        stop: its right side.
        parts: heights and their CSS classes, from the bottom up.
        text: at its foot or above it, see ``column_chart``.
        title: shown when pointed at.
    """

    start: float
    stop: float
    parts: Sequence[tuple[float, str]]
    text: str
    title: str


class MeasuredPoint(NamedTuple):
    """A measured point: a dot with an upright line from ``low`` to ``high``."""

    x: float
    y: float
    low: float
    high: float
    title: str


def line_chart(
    lines: Sequence[Line],
    frame: Frame,
    *,
    marker: tuple[float, float] | None = None,
    x_marks: Sequence[tuple[float, str]] = (),
    band: Sequence[NDArray[np.float64]] | None = None,
    points: Sequence[MeasuredPoint] = (),
) -> Markup:
    """Draws lines.

    Args:
        lines: from the back to the front.
        frame: the axes.
        marker: a point to put a ring on.
        x_marks: where to draw upright lines, and the words above them.
        band: x [P], low end [P] and high end [P] of a shaded region behind the lines.
        points: drawn over the lines.

    Returns:
        An ``<svg>`` element; every text in it is escaped.
    """
    body = []
    if band is not None:
        x, low, high = band
        edge = frame.points([*x, *x[::-1]], [*low, *high[::-1]])
        body.append(f'<polygon class="band accent" points="{edge}"/>')
    body += [_line(line, frame) for line in lines if len(line.x)]
    for point in points:
        left, upper, lower = frame.left(point.x), frame.top(point.high), frame.top(point.low)
        body.append(
            f'<line class="line main" x1="{left:.1f}" x2="{left:.1f}" y1="{upper:.1f}" y2="{lower:.1f}"/>'
            f'<circle class="dot main" cx="{left:.1f}" cy="{frame.top(point.y):.1f}" r="5">'
            f"<title>{escape(point.title)}</title></circle>"
        )
    if marker is not None:
        body.append(f'<circle class="marker" cx="{frame.left(marker[0]):.1f}" cy="{frame.top(marker[1]):.1f}" r="5"/>')
    return frame.svg(body, x_marks)


def bar_chart(bars: Sequence[Bar], *, name: str, x_label: str) -> Markup:
    """Draws horizontal bars from 0, one a row.

    Args:
        bars: from the top down.
        name: what a screen reader says.
        x_label: name and unit of the axis.

    Returns:
        An ``<svg>`` element; every text in it is escaped.
    """
    height = _ROW * len(bars) + BOTTOM
    axis = Axis(x_label, 0.0, nice_limit(max((bar.value for bar in bars), default=0.0)))

    def left(value: float) -> float:
        return _LABELS + axis.part(value) * (WIDTH - _VALUES - _LABELS)

    parts = [opening(name, WIDTH, height)]
    for tick, text in axis.labelled():
        at = f"{left(tick):.1f}"
        parts.append(
            f'<line class="grid" x1="{at}" x2="{at}" y1="0" y2="{height - BOTTOM + 4}"/>'
            f'<text class="tick" x="{at}" y="{height - BOTTOM + 20}" text-anchor="middle">{escape(text)}</text>'
        )
    for number, bar in enumerate(bars):
        top, width = number * _ROW + 7, left(bar.value) - _LABELS
        middle = top + (_ROW - 14) / 2 + 4.5
        if bar.value > 0:
            width = max(width, _MIN_BAR)
            parts.append(
                f'<rect class="bar {bar.css}" x="{_LABELS}" y="{top}" width="{width:.1f}" height="{_ROW - 14}" rx="2">'
                f"<title>{escape(bar.label)}: {escape(bar.text)}</title></rect>"
            )
        parts.append(
            f'<text class="axis" x="{_LABELS - 10}" y="{middle}" text-anchor="end">{escape(bar.label)}</text>'
            f'<text class="value" x="{_LABELS + width + 8:.1f}" y="{middle}">{escape(bar.text)}</text>'
        )
    middle = (_LABELS + WIDTH - _VALUES) / 2
    parts.append(f'<text class="axis" x="{middle}" y="{height - 4}" text-anchor="middle">{escape(x_label)}</text>')
    return Markup("".join([*parts, "</svg>"]))


def column_chart(
    columns: Iterable[Column],
    frame: Frame,
    *,
    lines: Sequence[Line] = (),
    text_at_foot: bool = False,
    marks: Sequence[tuple[float, str]] = (),
) -> Markup:
    """Draws upright columns.

    Args:
        columns: on the frame's axes.
        frame: the axes.
        lines: drawn over them.
        text_at_foot: of the columns, where something else is drawn above them.
        marks: values with a label, drawn as upright lines.

    Returns:
        An ``<svg>`` element; every text in it is escaped.
    """
    body = []
    for column in columns:
        left, right = frame.left(column.start), frame.left(column.stop)
        gap = min(1.0, 0.06 * (right - left))
        top, reached = float(FLOOR), 0.0
        body.append(f"<g><title>{escape(column.title)}</title>")
        for value, css in column.parts:
            if value <= 0:
                continue
            reached += value
            upper = min(frame.top(reached), top - _MIN_BAR)
            body.append(
                f'<rect class="bar {css}" x="{left + gap:.1f}" y="{upper:.1f}" '
                f'width="{max(right - left - 2 * gap, 0.6):.1f}" height="{top - upper:.1f}"/>'
            )
            top = upper
        if column.text:
            y = FLOOR - 6 if text_at_foot else top - 5
            middle = (left + right) / 2
            body.append(
                f'<text class="value" x="{middle:.1f}" y="{y:.1f}" text-anchor="middle">{escape(column.text)}</text>'
            )
        body.append("</g>")
    return frame.svg([*body, *(_line(line, frame) for line in lines if len(line.x))], marks)


def histogram(
    values: NDArray[np.floating] | NDArray[np.integer],
    x: Axis,
    *,
    name: str,
    bins: int = 36,
    what: str = "objects",
    outline: NDArray[np.floating] | None = None,
    marks: Sequence[tuple[float, str]] = (),
) -> Markup:
    """Draws how often values occur.

    Args:
        values: [n], to count; those beyond the axis count in its outermost bars.
        x: the axis.
        name: what a screen reader says.
        bins: number of bars; on an axis of few whole numbers, one each.
        what: is counted.
        outline: other values, drawn as a stepped line over the bars.
        marks: values with a label, drawn as upright lines.
    """
    edges = np.geomspace(x.low, x.high, bins + 1) if x.log else np.linspace(x.low, x.high, bins + 1)
    counts, others = ([] if of is None else _counted(of, edges) for of in (values, outline))
    frame = Frame(name, x, Axis(what, 0, nice_limit(max([1, *counts, *others])), whole=True))
    columns = [
        Column(low, high, [(number, "accent")], "", f"{x.text(low)} to {x.text(high)}: {number:,} {what}")
        for low, high, number in zip(edges[:-1], edges[1:], counts, strict=True)
        if number
    ]
    steps = Line(what, edges.repeat(2), np.array([0, *np.repeat(others, 2), 0], dtype=np.float64), "step main")
    return column_chart(columns, frame, lines=[steps] if others else [], marks=marks)


def cumulative_chart(values: NDArray[np.floating], x: Axis, *, name: str, what: str = "objects") -> Markup:
    """Draws, for each value of an axis, the share of numbers that reach it.

    Args:
        values: [n].
        x: the axis.
        name: what a screen reader says.
        what: they are the numbers of.
    """
    places = np.linspace(x.low, x.high, 101)
    shares = (np.asarray(values)[None, :] >= places[:, None]).mean(axis=1) if len(values) else np.zeros(101)
    return line_chart([Line(what, places, shares, "accent")], Frame(name, x, Axis(what, unit=" %", scale=100)))


def scatter(points: Sequence[tuple[float, float, int]], x: Axis, y: Axis, *, name: str, what: str) -> Markup:
    """Draws dots whose area follows a count: x, y and count each."""
    frame = Frame(name, x, y)
    most = max((count for *_, count in points), default=1)
    return frame.svg(
        f'<circle class="dot some accent" cx="{frame.left(px):.1f}" cy="{frame.top(py):.1f}" '
        f'r="{3 + 11 * np.sqrt(count / most):.1f}"><title>{px:g} × {py:g}: {count:,} {escape(what)}</title></circle>'
        for px, py, count in sorted(points, key=lambda point: -point[2])
    )


def whisker(value: float, ends: Sequence[float], reach: float, *, name: str, strong: bool) -> Markup:
    """Draws an interval as a line about zero, for a cell of a table.

    Args:
        value: where the dot is.
        ends: of the interval.
        reach: the value at the right end; minus that at the left one.
        name: what a screen reader says.
        strong: in the colour of emphasis.
    """
    middle = _WHISKER_PX / 2
    x, low, high = (round(middle + number / reach * (middle - 6), 1) for number in (value, *ends))
    return Markup(
        f'<svg class="whisker {"accent" if strong else "faint"}" viewBox="0 0 {_WHISKER_PX} 16" role="img" '
        f'aria-label="{escape(name)}"><path class="zero" d="M{middle} 0V16"/><path d="M{low} 8H{high}"/>'
        f'<circle cx="{x}" cy="8" r="4.5"/></svg>'
    )


def _line(line: Line, frame: Frame) -> str:
    """One line of a chart, or a dot if it has a single point; at least one."""
    kept = np.unique(np.linspace(0, len(line.x) - 1, min(len(line.x), _MAX_POINTS)).round().astype(np.int64))
    title = f"<title>{escape(line.label)}</title>"
    if len(kept) == 1:
        left, top = frame.left(line.x[0]), frame.top(line.y[0])
        return f'<circle class="dot {line.css}" cx="{left:.1f}" cy="{top:.1f}" r="3">{title}</circle>'
    return f'<polyline class="line {line.css}" points="{frame.points(line.x[kept], line.y[kept])}">{title}</polyline>'


def _counted(values: NDArray[np.floating] | NDArray[np.integer], edges: NDArray[np.floating]) -> list[int]:
    inside = np.clip(np.asarray(values, dtype=np.float64), edges[0], edges[-1])
    return [int(number) for number in np.histogram(inside, edges)[0]]
