"""A learning curve for people: a table on the terminal, and a page with the picture."""

from collections.abc import Callable, Sequence

import numpy as np
from markupsafe import Markup, escape
from numpy.typing import NDArray
from rich import box
from rich.console import Console
from rich.table import Table

from finemask.pages.histograms import Axis, nice_limit
from finemask.pages.shell import page
from finemask.workflows.learning_curve import LearningCurve, Point, text_of
from finemask.workflows.power_law import CONFIDENCE

PAGE = "index.html"
_WIDTH, _HEIGHT, _LEFT, _RIGHT, _TOP, _BOTTOM = 720, 360, 62, 16, 16, 46
_SAMPLES = 60


def show_curve(console: Console, curve: LearningCurve) -> None:
    """Prints the runs and what they say."""
    table = Table(title="Learning curve", title_justify="left", box=box.SIMPLE_HEAD)
    for heading in ("fraction", "images", "objects", curve.metric.replace("_", " "), "± standard error"):
        table.add_column(heading, justify="right")
    for point in curve.points:
        table.add_row(*_cells(point))
    console.print(table)
    console.print(text_of(curve), highlight=False, soft_wrap=True)


def curve_page(curve: LearningCurve, title: str) -> str:
    """One self-contained HTML page.

    Args:
        curve: what was found.
        title: the heading, for example the name of the runs.
    """
    rows = Markup("").join(
        Markup("<tr>{}<td>{}</td></tr>").format(
            Markup("").join(Markup("<td>{}</td>").format(cell) for cell in _cells(point)), point.run_dir.parent.name
        )
        for point in curve.points
    )
    headings = ("Fraction", "Images", "Objects", curve.metric.replace("_", " "), "Standard error", "Run")
    head = Markup("").join(Markup('<th scope="col">{}</th>').format(heading) for heading in headings)
    body = Markup(
        '<section><h2>AP over the number of training images</h2><p class="note">{note}</p>'
        '<figure class="panel figure">{svg}</figure></section>'
        '<section><h2>Runs</h2><div class="panel scroll"><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody>'
        "</table></div></section>"
    ).format(note=_note(curve), svg=_svg(curve), head=head, rows=rows)
    footer = {"Folder": str(curve.folder)}
    return page(title, body, eyebrow="finemask train learning_curve", lead=text_of(curve), footer=footer)


def _cells(point: Point) -> tuple[str, str, str, str, str]:
    error = "unknown" if point.error is None else f"{point.error:.3f}"
    return f"{point.fraction:g}", f"{point.images:,}", f"{point.objects:,}", f"{point.ap:.3f}", error


def _note(curve: LearningCurve) -> str:
    note = "Each run took about the same number of steps. Bars: two standard errors over the validation images."
    if curve.outlook is None:
        return note
    law = curve.outlook.law
    return (
        f"{note} Line: AP(n) = {law.a:.3f} - {law.b:.3g} n^-{law.c:.2f}. Shaded: {CONFIDENCE:.0%} of the laws that fit "
        "the points within their errors, up to twice the images. It does not hold what another seed would change."
    )


def _svg(curve: LearningCurve) -> Markup:
    images = [point.images for point in curve.points]
    x = Axis("training images", min(images) * 0.8, max(images) * 2.2, log=True)
    highest = max(point.ap + 2 * (point.error or 0.0) for point in curve.points)
    grid = np.geomspace(min(images), 2 * max(images), _SAMPLES)
    band = _band(curve, grid)
    if band is not None:
        highest = max(highest, float(band[2].max()))
    y = Axis(curve.metric.replace("_", " "), 0.0, min(1.0, nice_limit(highest)))

    def at(image: float, ap: float) -> tuple[float, float]:
        return (
            _LEFT + x.part(image) * (_WIDTH - _LEFT - _RIGHT),
            _HEIGHT - _BOTTOM - y.part(ap) * (_HEIGHT - _BOTTOM - _TOP),
        )

    parts = [*_frame(x, y, images)]
    if band is not None:
        edge = [*zip(grid, band[0], strict=True), *zip(grid[::-1], band[2][::-1], strict=True)]
        parts.append(f'<polygon class="accent" fill="var(--key)" fill-opacity=".15" points="{_points(edge, at)}"/>')
        parts.append(f'<polyline class="line accent" points="{_points([*zip(grid, band[1], strict=True)], at)}"/>')
    for point in curve.points:
        px, py = at(point.images, point.ap)
        reach = 2 * (point.error or 0.0)
        top, low = at(point.images, min(1.0, point.ap + reach))[1], at(point.images, max(0.0, point.ap - reach))[1]
        label = escape(f"{point.images:,} images: {point.ap:.3f}")
        parts.append(f'<line class="line main" x1="{px:.1f}" x2="{px:.1f}" y1="{top:.1f}" y2="{low:.1f}"/>')
        parts.append(f'<circle class="bar main" cx="{px:.1f}" cy="{py:.1f}" r="5"><title>{label}</title></circle>')
    name = "AP over the number of training images"
    opened = f'<svg class="chart" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{name}">'
    return Markup(opened + "".join(parts) + "</svg>")


def _band(curve: LearningCurve, grid: NDArray[np.float64]) -> NDArray[np.float64] | None:
    """Low end, fitted law and high end over the grid [3, n]."""
    if curve.outlook is None:
        return None
    a, b, c = curve.outlook.band.T[:, :, None]
    outside = (1 - CONFIDENCE) / 2
    low, high = np.quantile(a - b * grid**-c, (outside, 1 - outside), axis=0)
    return np.stack([low, curve.outlook.law(grid), high])


def _frame(x: Axis, y: Axis, images: Sequence[int]) -> list[str]:
    floor, width = _HEIGHT - _BOTTOM, _WIDTH - _LEFT - _RIGHT
    parts = []
    for tick in y.ticks():
        at = floor - y.part(tick) * (floor - _TOP)
        parts.append(f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{at:.1f}" y2="{at:.1f}"/>')
        parts.append(f'<text x="{_LEFT - 8}" y="{at + 4:.1f}" text-anchor="end">{escape(y.text(tick))}</text>')
    for value in (*images, 2 * max(images)):
        left = _LEFT + x.part(value) * width
        parts.append(f'<text x="{left:.1f}" y="{floor + 18}" text-anchor="middle">{value:,}</text>')
    parts.append(
        f'<text class="axis" x="{_LEFT + width / 2}" y="{_HEIGHT - 6}" text-anchor="middle">{escape(x.label)}</text>'
    )
    return parts


def _points(values: Sequence[tuple[float, float]], at: Callable[[float, float], tuple[float, float]]) -> str:
    return " ".join(f"{px:.1f},{py:.1f}" for px, py in (at(float(n), float(ap)) for n, ap in values))
