"""Axes of a chart: ticks, labels and grid lines, as SVG that takes its colours from the page."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from markupsafe import escape

WIDTH, HEIGHT = 520, 340
LEFT, RIGHT, TOP, BOTTOM = 46, 14, 12, 44
_TICKS = 5


@dataclass(frozen=True)
class Scale:
    """Straight from values to pixels; what lies outside the range is put at its end.

    Args:
        values: the ends of the range.
        pixels: where they are drawn.
    """

    values: tuple[float, float]
    pixels: tuple[float, float]

    def __call__(self, value: float) -> float:
        low, high = self.values
        part = (min(max(float(value), low), high) - low) / ((high - low) or 1.0)
        return self.pixels[0] + part * (self.pixels[1] - self.pixels[0])


@dataclass(frozen=True)
class Frame:
    """What surrounds the data.

    Args:
        name: what a screen reader says.
        x_label: name of the horizontal axis.
        y_label: name of the vertical axis.
        x_range: its ends.
        y_range: its ends.
        x_ticks: places and texts under the horizontal axis; by default round numbers.
    """

    name: str
    x_label: str
    y_label: str
    x_range: tuple[float, float] = (0.0, 1.0)
    y_range: tuple[float, float] = (0.0, 1.0)
    x_ticks: Sequence[tuple[float, str]] | None = None

    @cached_property
    def x(self) -> Scale:
        """Values to pixels from the left."""
        return Scale(self.x_range, (LEFT, WIDTH - RIGHT))

    @cached_property
    def y(self) -> Scale:
        """Values to pixels from the top."""
        return Scale(self.y_range, (HEIGHT - BOTTOM, TOP))

    def opening(self) -> list[str]:
        """The ``<svg>`` tag and the axes; the caller adds the data and closes it."""
        parts = [f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(self.name)}">']
        for tick in ticks(self.y_range):
            y = self.y(tick)
            parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
            parts.append(
                f'<text class="tick" x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{tick_text(tick)}</text>'
            )
        for tick, text in self.x_ticks or [(tick, tick_text(tick)) for tick in ticks(self.x_range)]:
            x = self.x(tick)
            parts.append(
                f'<text class="tick" x="{x:.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{escape(text)}</text>'
            )
        middle_x, middle_y = (LEFT + WIDTH - RIGHT) / 2, (TOP + HEIGHT - BOTTOM) / 2
        parts.append(
            f'<text class="axis" x="{middle_x}" y="{HEIGHT - 6}" text-anchor="middle">{escape(self.x_label)}</text>'
            f'<text class="axis" transform="translate(11 {middle_y}) rotate(-90)" text-anchor="middle">'
            f"{escape(self.y_label)}</text>"
        )
        return parts


def nice_limit(value: float) -> float:
    """Where an axis from 0 ends so that it holds a positive value: at a tick; at 1 for anything else."""
    if not value > 0:
        return 1.0
    step = _step(value)
    return float(np.ceil(value / step - 1e-9) * step)


def ticks(limits: tuple[float, float]) -> list[float]:
    """Round numbers from one end to the other, six at most."""
    low, high = limits
    step = _step(high - low)
    return [float(low + n * step) for n in range(int((high - low) / step + 1e-9) + 1)]


def tick_text(value: float) -> str:
    """A number short enough for an axis: 20,000 is 20k, and 1,500 is 1,500."""
    if abs(value) >= 10_000:
        return f"{value / 1000:.4g}k"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def _step(span: float) -> float:
    """1, 2 or 5 × a power of ten, for at most ``_TICKS`` steps."""
    power = 10.0 ** np.floor(np.log10(span / _TICKS))
    return float(next(step * power for step in (1, 2, 5, 10) if step * power * _TICKS >= span * (1 - 1e-9)))
