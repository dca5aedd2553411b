"""Line, bar and column charts as inline SVG, coloured by the page's CSS."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from markupsafe import Markup, escape
from numpy.typing import NDArray

from finemask.pages.axes import BOTTOM, HEIGHT, TOP, WIDTH, Frame, Scale, nice_limit, tick_text, ticks

_MAX_POINTS = 320


@dataclass(frozen=True)
class Line:
    """One line of a chart.

    Args:
        label: shown when pointed at, and in a legend.
        x: [P].
        y: [P].
        css: class that gives colour and weight (``s0`` … ``s7``, ``main``, ``faint``).
    """

    label: str
    x: NDArray[np.float64]
    y: NDArray[np.float64]
    css: str


def line_chart(
    lines: Sequence[Line],
    frame: Frame,
    *,
    marker: tuple[float, float] | None = None,
    x_mark: float | None = None,
) -> Markup:
    """Draws a chart.

    Args:
        lines: from the back to the front.
        frame: its axes.
        marker: a point to put a dot on.
        x_mark: where to draw a vertical line.

    Returns:
        An ``<svg>`` element; every text in it is escaped.
    """
    parts = frame.opening()
    if x_mark is not None and frame.x_range[0] <= x_mark <= frame.x_range[1]:
        x = frame.x(x_mark)
        parts.append(f'<line class="mark" x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{HEIGHT - BOTTOM}"/>')
    parts += [drawn_line(line, frame) for line in lines if len(line.x)]
    if marker is not None:
        parts.append(f'<circle class="marker" cx="{frame.x(marker[0]):.1f}" cy="{frame.y(marker[1]):.1f}" r="5"/>')
    parts.append("</svg>")
    return Markup("".join(parts))


def drawn_line(line: Line, frame: Frame) -> str:
    """One line of a chart, or a dot if it has a single point; at least one."""
    kept = _thinned(len(line.x))
    points = " ".join(f"{frame.x(x):.1f},{frame.y(y):.1f}" for x, y in zip(line.x[kept], line.y[kept], strict=True))
    title = f"<title>{escape(line.label)}</title>"
    if len(kept) == 1:
        left, top = points.split(",")
        return f'<circle class="dot {line.css}" cx="{left}" cy="{top}" r="3">{title}</circle>'
    return f'<polyline class="line {line.css}" points="{points}">{title}</polyline>'


def _thinned(count: int) -> NDArray[np.int64]:
    """Positions of at most ``_MAX_POINTS`` points, the ends among them."""
    return np.unique(np.linspace(0, count - 1, min(count, _MAX_POINTS)).round().astype(np.int64))


_ROW, _LABELS, _VALUES = 34, 118, 62  # px: height of a bar's row, width left of the bars, width right of them
_MIN_BAR = 1.5  # px, so that what is not zero shows


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
    limit = nice_limit(max((bar.value for bar in bars), default=0.0))
    x = Scale((0.0, limit), (_LABELS, WIDTH - _VALUES))
    parts = [f'<svg class="chart" viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{escape(name)}">']
    for tick in ticks((0.0, limit)):
        at = f"{x(tick):.1f}"
        parts.append(f'<line class="grid" x1="{at}" x2="{at}" y1="0" y2="{height - BOTTOM + 4}"/>')
        parts.append(
            f'<text class="tick" x="{at}" y="{height - BOTTOM + 20}" text-anchor="middle">{tick_text(tick)}</text>'
        )
    for number, bar in enumerate(bars):
        top, width = number * _ROW + 7, x(bar.value) - _LABELS
        middle = top + (_ROW - 14) / 2 + 4.5
        if bar.value > 0:
            width = max(width, _MIN_BAR)
            parts.append(
                f'<rect class="{bar.css}" x="{_LABELS}" y="{top}" width="{width:.1f}" height="{_ROW - 14}" rx="2">'
                f"<title>{escape(bar.label)}: {escape(bar.text)}</title></rect>"
            )
        parts.append(f'<text class="axis" x="{_LABELS - 10}" y="{middle}" text-anchor="end">{escape(bar.label)}</text>')
        parts.append(f'<text class="value" x="{_LABELS + width + 8:.1f}" y="{middle}">{escape(bar.text)}</text>')
    middle = (_LABELS + WIDTH - _VALUES) / 2
    parts.append(
        f'<text class="axis" x="{middle}" y="{height - 4}" text-anchor="middle">{escape(x_label)}</text></svg>'
    )
    return Markup("".join(parts))


def column_chart(
    columns: Sequence[Column], frame: Frame, *, lines: Sequence[Line] = (), text_at_foot: bool = False
) -> Markup:
    """Draws upright columns.

    Args:
        columns: on the frame's axes.
        frame: the axes.
        lines: drawn over them.
        text_at_foot: of the columns, where something else is drawn above them.

    Returns:
        An ``<svg>`` element; every text in it is escaped.
    """
    parts = frame.opening()
    for column in columns:
        left, right = frame.x(column.start) + 1, frame.x(column.stop) - 1
        top, reached = float(HEIGHT - BOTTOM), 0.0
        parts.append(f"<g><title>{escape(column.title)}</title>")
        for value, css in column.parts:
            if value <= 0:
                continue
            reached += value
            upper = min(frame.y(reached), top - _MIN_BAR)
            parts.append(
                f'<rect class="{css}" x="{left:.1f}" y="{upper:.1f}" width="{right - left:.1f}" '
                f'height="{top - upper:.1f}"/>'
            )
            top = upper
        text_y = HEIGHT - BOTTOM - 6 if text_at_foot else top - 5
        parts.append(
            f'<text class="value" x="{(left + right) / 2:.1f}" y="{text_y:.1f}" text-anchor="middle">'
            f"{escape(column.text)}</text></g>"
        )
    parts += [drawn_line(line, frame) for line in lines if len(line.x)]
    parts.append("</svg>")
    return Markup("".join(parts))
