"""Line charts as inline SVG, coloured by the page's CSS, so that they follow its light or dark theme."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup, escape
from numpy.typing import NDArray

WIDTH, HEIGHT = 520, 340
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 14, 12, 44
_MAX_POINTS = 320
_TICKS = 5


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
    *,
    name: str,
    x_label: str,
    y_label: str,
    x_range: tuple[float, float] = (0.0, 1.0),
    y_range: tuple[float, float] = (0.0, 1.0),
    marker: tuple[float, float] | None = None,
    x_mark: float | None = None,
) -> Markup:
    """Draws a chart.

    Args:
        lines: from the back to the front.
        name: what a screen reader says.
        x_label: name of the horizontal axis.
        y_label: name of the vertical axis.
        x_range: its ends.
        y_range: its ends.
        marker: a point to put a dot on.
        x_mark: where to draw a vertical line.

    Returns:
        An ``<svg>`` element; every text in it is escaped.
    """
    x_scale = _Scale(x_range, (_LEFT, WIDTH - _RIGHT))
    y_scale = _Scale(y_range, (HEIGHT - _BOTTOM, _TOP))
    parts = [f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(name)}">']
    for tick in _ticks(y_range):
        y = y_scale(tick)
        parts.append(f'<line class="grid" x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text class="tick" x="{_LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{tick:.4g}</text>')
    for tick in _ticks(x_range):
        x = x_scale(tick)
        parts.append(
            f'<text class="tick" x="{x:.1f}" y="{HEIGHT - _BOTTOM + 18}" text-anchor="middle">{tick:.4g}</text>'
        )
    middle_x, middle_y = (_LEFT + WIDTH - _RIGHT) / 2, (_TOP + HEIGHT - _BOTTOM) / 2
    parts.append(
        f'<text class="axis" x="{middle_x}" y="{HEIGHT - 6}" text-anchor="middle">{escape(x_label)}</text>'
        f'<text class="axis" transform="translate(11 {middle_y}) rotate(-90)" text-anchor="middle">'
        f"{escape(y_label)}</text>"
    )
    if x_mark is not None and x_range[0] <= x_mark <= x_range[1]:
        x = x_scale(x_mark)
        parts.append(f'<line class="mark" x1="{x:.1f}" x2="{x:.1f}" y1="{_TOP}" y2="{HEIGHT - _BOTTOM}"/>')
    for line in lines:
        kept = _thinned(len(line.x))
        points = " ".join(f"{x_scale(x):.1f},{y_scale(y):.1f}" for x, y in zip(line.x[kept], line.y[kept], strict=True))
        title = f"<title>{escape(line.label)}</title>"
        if len(kept) == 1:
            left, top = points.split(",")
            parts.append(f'<circle class="dot {line.css}" cx="{left}" cy="{top}" r="3">{title}</circle>')
        elif len(kept):
            parts.append(f'<polyline class="line {line.css}" points="{points}">{title}</polyline>')
    if marker is not None:
        parts.append(f'<circle class="marker" cx="{x_scale(marker[0]):.1f}" cy="{y_scale(marker[1]):.1f}" r="5"/>')
    parts.append("</svg>")
    return Markup("".join(parts))


def nice_limit(value: float) -> float:
    """Where an axis from 0 ends so that it holds a positive value: at a tick; at 1 for anything else."""
    if not value > 0:
        return 1.0
    step = _step(value)
    return float(np.ceil(value / step - 1e-9) * step)


@dataclass(frozen=True)
class _Scale:
    values: tuple[float, float]
    pixels: tuple[float, float]

    def __call__(self, value: float) -> float:
        low, high = self.values
        part = (min(max(float(value), low), high) - low) / ((high - low) or 1.0)
        return self.pixels[0] + part * (self.pixels[1] - self.pixels[0])


def _step(span: float) -> float:
    """1, 2 or 5 × a power of ten, for at most ``_TICKS`` steps."""
    power = 10.0 ** np.floor(np.log10(span / _TICKS))
    return float(next(step * power for step in (1, 2, 5, 10) if step * power * _TICKS >= span * (1 - 1e-9)))


def _ticks(limits: tuple[float, float]) -> list[float]:
    low, high = limits
    step = _step(high - low)
    return [float(low + n * step) for n in range(int((high - low) / step + 1e-9) + 1)]


def _thinned(count: int) -> NDArray[np.int64]:
    """Positions of at most ``_MAX_POINTS`` points, the ends among them."""
    return np.unique(np.linspace(0, count - 1, min(count, _MAX_POINTS)).round().astype(np.int64))
