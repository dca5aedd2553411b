"""Bars and columns as inline SVG, coloured by the page's CSS."""

from collections.abc import Sequence
from typing import NamedTuple

from markupsafe import Markup, escape

from finemask.evaluation.report.axes import BOTTOM, HEIGHT, WIDTH, Frame, Scale, nice_limit, tick_text, ticks
from finemask.evaluation.report.charts import Line, drawn_line

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
