"""Axes of a chart: ticks, labels and grid lines, as SVG that takes its colours from the style sheet."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup, escape

WIDTH, HEIGHT = 520, 320
LEFT, RIGHT, TOP, BOTTOM = 62, 14, 22, 44
FLOOR = HEIGHT - BOTTOM  # px from the top, where y is lowest
_TICKS = 5
_RISE = 12  # px between the labels of marks that would run into one another


@dataclass(frozen=True)
class Axis:
    """One axis: which values lie where.

    Args:
        label: under or beside it.
        low: value at its beginning, above 0 if logarithmic.
        high: value at its end.
        log: logarithmic.
        unit: after the number of each tick.
        scale: a tick shows its value times this.
        whole: of counts, which have no ticks between whole numbers.
        places: values and texts of the ticks; by default round numbers.
    """

    label: str
    low: float = 0.0
    high: float = 1.0
    log: bool = False
    unit: str = ""
    scale: float = 1.0
    whole: bool = False
    places: Sequence[tuple[float, str]] | None = None

    def part(self, value: float) -> float:
        """0 at the low end, 1 at the high one; what lies beyond is put at the end."""
        low, high, value = (np.log(v) if self.log else v for v in (self.low, self.high, max(value, self.low)))
        return float(np.clip((value - low) / ((high - low) or 1.0), 0, 1))

    def ticks(self) -> list[float]:
        """Round values between the ends."""
        if not self.log:
            step = max(_step(self.high - self.low), float(self.whole))
            first = np.ceil(self.low / step - 1e-9)
            return [float((first + n) * step) for n in range(int((self.high - first * step) / step + 1e-9) + 1)]
        decades = range(int(np.floor(np.log10(self.low))), int(np.ceil(np.log10(self.high))) + 1)
        for steps in ((1,), (1, 3), (1, 2, 5)):
            found = [
                s * 10.0**d for d in decades for s in steps if self.low * 0.999 <= s * 10.0**d <= self.high * 1.001
            ]
            if len(found) >= 4:
                break
        return found or [self.low, self.high]

    def text(self, value: float) -> str:
        """A tick's label."""
        return tick_text(value * self.scale) + self.unit

    def labelled(self) -> list[tuple[float, str]]:
        """Values and texts of the ticks."""
        return list(self.places or [(tick, self.text(tick)) for tick in self.ticks()])


@dataclass(frozen=True)
class Frame:
    """A chart without its data.

    Args:
        name: what a screen reader says.
        x: the horizontal axis.
        y: the vertical axis.
    """

    name: str
    x: Axis
    y: Axis

    def left(self, value: float) -> float:
        """Where an x lies, px from the left."""
        return LEFT + self.x.part(value) * (WIDTH - RIGHT - LEFT)

    def top(self, value: float) -> float:
        """Where a y lies, px from the top."""
        return FLOOR - self.y.part(value) * (FLOOR - TOP)

    def points(self, xs: Iterable[float], ys: Iterable[float]) -> str:
        """Points as an attribute of ``<polyline>`` and ``<polygon>``."""
        return " ".join(f"{self.left(x):.1f},{self.top(y):.1f}" for x, y in zip(xs, ys, strict=True))

    def svg(self, body: Iterable[str], marks: Iterable[tuple[float, str]] = ()) -> Markup:
        """The whole chart.

        Args:
            body: elements that are drawn on the axes; their texts are escaped.
            marks: values of x with a label, drawn as upright lines; those beyond the axis are left out.
        """
        parts = [opening(self.name, WIDTH, HEIGHT)]
        for value, text in self.y.labelled():
            y = self.top(value)
            parts.append(
                f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
                f'<text class="tick" x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{escape(text)}</text>'
            )
        parts += [
            f'<text class="tick" x="{self.left(value):.1f}" y="{FLOOR + 18}" text-anchor="middle">{escape(text)}</text>'
            for value, text in self.x.labelled()
        ]
        parts.append(
            f'<text class="axis" x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 6}" text-anchor="middle">'
            f"{escape(self.x.label)}</text>"
            f'<text class="axis" transform="translate(10 {(TOP + FLOOR) / 2}) rotate(-90)" text-anchor="middle">'
            f"{escape(self.y.label)}</text>"
        )
        return Markup("".join([*parts, *body, *self._marks(marks), "</svg>"]))

    def _marks(self, marks: Iterable[tuple[float, str]]) -> Iterable[str]:
        last, rise = -np.inf, 0
        for value, text in sorted(marks):
            if not self.x.low <= value <= self.x.high:
                continue
            x = self.left(value)
            rise = (rise + _RISE) % (2 * _RISE) if x - last < 7 * len(text) else 0
            last = x
            yield f'<line class="mark" x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{FLOOR}"/>'
            yield (
                f'<text class="mark-text" x="{x:.1f}" y="{TOP - 5 - rise}" text-anchor="middle">{escape(text)}</text>'
            )


def opening(name: str, width: float, height: float, css: str = "", style: str = "") -> str:
    """The ``<svg>`` tag of a chart as wide as its figure, or as ``style`` says; a screen reader says ``name``."""
    styled = f' style="{style}"' if style else ""
    return (
        f'<svg class="{f"chart {css}".strip()}" viewBox="0 0 {width:.0f} {height:.0f}"{styled} role="img" '
        f'aria-label="{escape(name)}">'
    )


def nice_limit(value: float) -> float:
    """Where an axis from 0 ends so that it holds a positive value: at a tick; at 1 for anything else."""
    if not value > 0:
        return 1.0
    step = _step(value)
    return float(np.ceil(value / step - 1e-9) * step)


def tick_text(value: float) -> str:
    """A number short enough for an axis: 20,000 is 20k, and 1,500 is 1,500."""
    if abs(value) >= 10_000:
        return f"{value / 1000:.4g}k"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def _step(span: float) -> float:
    """1, 2 or 5 × a power of ten, for at most ``_TICKS`` steps."""
    power = 10.0 ** np.floor(np.log10(max(span, 1e-9) / _TICKS))
    return float(next(step * power for step in (1, 2, 5, 10) if step * power * _TICKS >= span * (1 - 1e-9)))
