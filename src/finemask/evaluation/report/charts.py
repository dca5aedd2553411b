"""Line charts as inline SVG, coloured by the page's CSS, so that they follow its light or dark theme."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup, escape
from numpy.typing import NDArray

from finemask.evaluation.report.axes import BOTTOM, HEIGHT, TOP, Frame

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
