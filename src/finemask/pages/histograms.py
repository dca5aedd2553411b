"""Histograms, curves, a scatter and a heat map as inline SVG; the page's CSS colours them, in light and dark."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup, escape
from numpy.typing import NDArray

WIDTH, HEIGHT = 520, 300
_LEFT, _RIGHT, _TOP, _BOTTOM = 62, 14, 22, 44
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
    """

    label: str
    low: float
    high: float
    log: bool = False
    unit: str = ""
    scale: float = 1.0

    def part(self, value: float) -> float:
        """0 at the low end, 1 at the high one; what lies beyond is put at the end."""
        low, high, value = (np.log(v) if self.log else v for v in (self.low, self.high, max(value, self.low)))
        return float(np.clip((value - low) / ((high - low) or 1.0), 0, 1))

    def ticks(self) -> list[float]:
        """Round values between the ends."""
        if not self.log:
            step = _step(self.high - self.low)
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
        number = value * self.scale
        text = f"{number:,.0f}" if abs(number) >= 1000 else f"{number:.4g}"
        return text + self.unit


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
    """Bars over an axis.

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
    counts = _counted(values, edges)
    other = None if outline is None else _counted(outline, edges)
    top = max(1, int(counts.max(initial=0)), 0 if other is None else int(other.max(initial=0)))
    y = Axis(what, 0, nice_limit(top))
    left, upper = _places(x, y)
    body = []
    gap = 1.0 if bins <= 60 else 0.4
    for k, number in enumerate(counts.tolist()):
        x0, x1, y0 = left(edges[k]), left(edges[k + 1]), upper(number)
        if number:
            ends = f"{x.text(edges[k])} to {x.text(edges[k + 1])}: {number:,} {what}"
            body.append(
                f'<rect class="bar accent" x="{x0 + gap / 2:.1f}" y="{y0:.1f}" width="{max(x1 - x0 - gap, 0.6):.1f}" '
                f'height="{HEIGHT - _BOTTOM - y0:.1f}"><title>{escape(ends)}</title></rect>'
            )
    if other is not None:
        heights = "".join(f"V{upper(n):.1f}H{left(edges[k + 1]):.1f}" for k, n in enumerate(other.tolist()))
        body.append(
            f'<path class="step main" d="M{left(edges[0]):.1f},{HEIGHT - _BOTTOM}{heights}V{HEIGHT - _BOTTOM}"/>'
        )
    return _chart(x, y, body, name, marks)


def curves(lines: Sequence[tuple[str, str, NDArray[np.floating]]], x: Axis, *, name: str, y_label: str) -> Markup:
    """For each value of an axis, the share of numbers that reach it.

    Args:
        lines: label, CSS class, values [n].
        x: the axis.
        name: what a screen reader says.
        y_label: of the vertical axis.
    """
    y = Axis(y_label, 0, 1, unit=" %", scale=100)
    left, upper = _places(x, y)
    places = np.linspace(x.low, x.high, 101)
    body = []
    for label, css, values in lines:
        shares = (np.asarray(values)[None, :] >= places[:, None]).mean(axis=1) if len(values) else np.zeros(101)
        points = " ".join(f"{left(p):.1f},{upper(s):.1f}" for p, s in zip(places, shares, strict=True))
        body.append(f'<polyline class="line {css}" points="{points}"><title>{escape(label)}</title></polyline>')
    return _chart(x, y, body, name, ())


def scatter(points: Sequence[tuple[float, float, int]], x: Axis, y: Axis, *, name: str, what: str) -> Markup:
    """Dots whose area follows a count: x, y and count each."""
    left, upper = _places(x, y)
    most = max((count for *_, count in points), default=1)
    body = []
    for px, py, count in sorted(points, key=lambda point: -point[2]):
        radius = 3 + 11 * np.sqrt(count / most)
        label = f"{px:g} × {py:g}: {count:,} {what}"
        body.append(
            f'<circle class="dot accent" cx="{left(px):.1f}" cy="{upper(py):.1f}" r="{radius:.1f}">'
            f"<title>{escape(label)}</title></circle>"
        )
    return _chart(x, y, body, name, ())


def heat_map(grid: NDArray[np.floating], *, name: str, what: str, aspect: float = 1.0) -> Markup:
    """A grid 0..1 as a picture of the place, darkest where it is highest.

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
    return Markup(_open(name) + "".join(body) + frame + "</svg>")


def nice_limit(value: float) -> float:
    """Where an axis from 0 ends so that it holds a positive value: at a tick; at 1 for anything else."""
    if not value > 0:
        return 1.0
    step = _step(value)
    return float(np.ceil(value / step - 1e-9) * step)


def _chart(x: Axis, y: Axis, body: Sequence[str], name: str, marks: Sequence[tuple[float, str]]) -> Markup:
    left, upper = _places(x, y)
    floor = HEIGHT - _BOTTOM
    parts = [_open(name)]
    for tick in y.ticks():
        at = upper(tick)
        parts.append(f'<line class="grid" x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{at:.1f}" y2="{at:.1f}"/>')
        parts.append(f'<text x="{_LEFT - 8}" y="{at + 4:.1f}" text-anchor="end">{escape(y.text(tick))}</text>')
    for tick in x.ticks():
        parts.append(f'<text x="{left(tick):.1f}" y="{floor + 18}" text-anchor="middle">{escape(x.text(tick))}</text>')
    parts.append(
        f'<text class="axis" x="{(_LEFT + WIDTH - _RIGHT) / 2}" y="{HEIGHT - 6}" text-anchor="middle">'
        f"{escape(x.label)}</text>"
        f'<text class="axis" transform="translate(10 {(_TOP + floor) / 2}) rotate(-90)" text-anchor="middle">'
        f"{escape(y.label)}</text>"
    )
    parts.extend(body)
    last, rise = -1e9, 0
    for value, label in sorted(marks):
        if not x.low <= value <= x.high:
            continue
        at = left(value)
        rise = (rise + _RISE) % (2 * _RISE) if at - last < 7 * len(label) else 0
        last = at
        parts.append(f'<line class="mark" x1="{at:.1f}" x2="{at:.1f}" y1="{_TOP}" y2="{floor}"/>')
        parts.append(
            f'<text class="mark-text" x="{at:.1f}" y="{_TOP - 5 - rise}" text-anchor="middle">{escape(label)}</text>'
        )
    parts.append("</svg>")
    return Markup("".join(parts))


def _open(name: str) -> str:
    return f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(name)}">'


def _places(x: Axis, y: Axis) -> tuple[Callable[[float], float], Callable[[float], float]]:
    """From values to px, across and down."""
    return (
        lambda value: _LEFT + x.part(value) * (WIDTH - _RIGHT - _LEFT),
        lambda value: HEIGHT - _BOTTOM - y.part(value) * (HEIGHT - _BOTTOM - _TOP),
    )


def _counted(values: NDArray[np.floating] | NDArray[np.integer], edges: NDArray[np.floating]) -> NDArray[np.int64]:
    inside = np.clip(np.asarray(values, dtype=np.float64), edges[0], edges[-1])
    return np.histogram(inside, edges)[0]


def _step(span: float) -> float:
    """1, 2 or 5 × a power of ten, for at most ``_TICKS`` steps."""
    power = 10.0 ** np.floor(np.log10(max(span, 1e-9) / _TICKS))
    return float(next(step * power for step in (1, 2, 5, 10) if step * power * _TICKS >= span * (1 - 1e-9)))
