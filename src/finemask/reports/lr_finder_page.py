"""The picture of a search for the learning rate: the loss over the rate, and where the suggestion lies."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from markupsafe import Markup

from finemask.pages.axes import Axis, Frame, nice_limit
from finemask.pages.charts import Figure, Line, line_chart
from finemask.pages.shell import page, templates


def lr_finder_page(content: Mapping[str, Any], *, title: str) -> str:
    """Renders the page.

    Args:
        content: of ``lr_finder.json``: ``rates``, ``losses``, ``smoothed``, ``largest``, ``suggestion``,
            ``configured``, ``text``.
        title: the heading.
    """
    rates, losses = np.array(content["rates"]), np.array(content["losses"])
    smoothed, suggestion = np.array(content["smoothed"]), content["suggestion"]
    name = "Loss over the learning rate"
    highest = float(np.quantile(losses, 0.95)) if len(losses) else 1.0
    x = Axis("learning rate", float(rates[0]), float(rates[-1]), log=True) if len(rates) > 1 else Axis("learning rate")
    frame = Frame(name, x, Axis("loss", 0.0, nice_limit(max(0.01, highest, *smoothed[:1].tolist()))))
    marks = [(content["configured"], "configured"), (suggestion, "taken"), (content["largest"], "loss rises")]
    lines = [Line("each batch", rates, losses, "faint"), Line("smoothed", rates, smoothed, "main")]
    marker = None
    if suggestion is not None:
        marker = suggestion, float(np.interp(np.log(suggestion), np.log(rates), smoothed))
    svg = line_chart(lines, frame, marker=marker, x_marks=[mark for mark in marks if mark[0] is not None])
    note = (
        "The rate rises from step to step. Taken is a quarter of the one from which the smoothed loss rises too. Where "
        "it falls says less: new classes are learned in the first steps, at any rate."
    )
    figure = Figure(name, svg, note, [("main", "smoothed"), ("faint", "each batch")])
    body = Markup(templates(__package__).get_template("figure.html.j2").render(figure=figure))
    return page(title, body, eyebrow="finemask train find_lr", lead=content["text"])
