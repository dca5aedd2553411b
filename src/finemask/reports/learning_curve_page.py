"""The page of a learning curve: AP over the number of training images, with the law that was fitted to it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from finemask.pages.axes import Axis, Frame, nice_limit
from finemask.pages.charts import Figure, Line, MeasuredPoint, line_chart
from finemask.pages.shell import page, templates

_SAMPLES = 60


def learning_curve_page(
    content: Mapping[str, Any], laws: NDArray[np.float64] | None, *, title: str, folder: Path
) -> str:
    """Renders the page.

    Args:
        content: of ``learning_curve.json``.
        laws: those that fit the points within their errors [draws, 3], a b c each, for the shaded band.
        title: the heading, for example the name of the runs.
        folder: of everything written.
    """
    metric = content["metric"].replace("_", " ")
    rows = [
        [
            f"{point['fraction']:g}",
            f"{point['images']:,}",
            f"{point['objects']:,}",
            f"{point['AP']:.3f}",
            "unknown" if point["standard_error"] is None else f"{point['standard_error']:.3f}",
            Path(point["run"]).parent.name,
        ]
        for point in content["points"]
    ]
    body = (
        templates(__package__)
        .get_template("learning_curve.html.j2")
        .render(
            figure=_figure(content, laws),
            columns=["Fraction", "Images", "Objects", metric, "Standard error", "Run"],
            rows=rows,
        )
    )
    footer = {"Folder": str(folder)}
    return page(title, Markup(body), eyebrow="finemask train learning_curve", lead=content["text"], footer=footer)


def _figure(content: Mapping[str, Any], laws: NDArray[np.float64] | None) -> Figure:
    points = [
        MeasuredPoint(
            point["images"],
            point["AP"],
            max(0.0, point["AP"] - 2 * (point["standard_error"] or 0.0)),
            min(1.0, point["AP"] + 2 * (point["standard_error"] or 0.0)),
            f"{point['images']:,} images: {point['AP']:.3f}",
        )
        for point in content["points"]
    ]
    images = [point["images"] for point in content["points"]]
    highest = max(point.high for point in points)
    lines, band = [], None
    note = "Each run took about the same number of steps. Bars: two standard errors over the validation images."
    if laws is not None:
        law, confidence = content["law"], content["doubling"]["confidence"]
        grid = np.geomspace(min(images), 2 * max(images), _SAMPLES)
        lines = [Line("the law", grid, law["a"] - law["b"] * grid ** -law["c"], "accent")]
        band = _band(laws, grid, confidence)
        highest = max(highest, float(band[2].max()))
        note += (
            f" Line: AP(n) = {law['a']:.3f} - {law['b']:.3g} n^-{law['c']:.2f}. Shaded: {confidence:.0%} of the laws "
            "that fit the points within their errors, up to twice the images. It does not hold what another seed would "
            "change."
        )
    x = Axis(
        "training images",
        min(images) * 0.8,
        max(images) * 2.2,
        log=True,
        places=[(value, f"{value:,}") for value in (*images, 2 * max(images))],
    )
    name = "AP over the number of training images"
    y = Axis(content["metric"].replace("_", " "), 0.0, min(1.0, nice_limit(highest)))
    return Figure(name, line_chart(lines, Frame(name, x, y), band=band, points=points), note)


def _band(laws: NDArray[np.float64], grid: NDArray[np.float64], confidence: float) -> list[NDArray[np.float64]]:
    """Numbers of images, and the low and the high end of the laws over them."""
    a, b, c = laws.T[:, :, None]
    outside = (1 - confidence) / 2
    return [grid, *np.quantile(a - b * grid**-c, (outside, 1 - outside), axis=0)]
