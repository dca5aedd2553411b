"""What folds say, in words and as a chart: single folds beside what all of them together come to."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from markupsafe import Markup

from finemask.ops.wording import fraction, plural
from finemask.pages.axes import Axis, Frame, nice_limit
from finemask.pages.charts import Figure, Line, MeasuredPoint, line_chart

_NOUNS = {"segm": "mask", "bbox": "box"}
_LUCK = 0.1  # from the least single fold to the greatest: more says nothing of a model
_FEW = 50  # images of a fold


def folds_text(content: Mapping[str, Any]) -> str:
    """The finding in a few sentences.

    Args:
        content: of ``folds.json``.
    """
    kind, key = content["metric"].split("_")
    main, seeds = content[kind][key], len(content["seeds"])
    name = f"{_NOUNS[kind]} {key}"
    if main["mean"] is None:
        return f"There is no {name}: nothing is to be found in these images."
    within = "" if main["interval"] is None else f" ({main['interval'][0]:.3f} to {main['interval'][1]:.3f})"
    images = plural(content["images"], "image")
    text = f"{content['folds']} folds of {images}, {plural(seeds, 'seed')}: {name} {main['mean']:.3f}{within}"
    text += "." if main["deviation"] is None else f", deviation over the seeds {main['deviation']:.3f}."
    single = [fold[key] for row in content["seeds"] for fold in row["folds"] if fold[key] is not None]
    size = max(1, content["images"] // content["folds"])
    if len(single) > 1:
        text += f" Single folds, of about {plural(size, 'image')} each, go from {min(single):.3f} to {max(single):.3f}"
        lucky = max(single) - min(single) > _LUCK or size < _FEW
        text += ": on so few images one split is luck." if lucky else "."
        if main["mean"] < min(single):
            text += " All together lie below every one of them: scores of different models are ranked in one list."
    if seeds == 2:
        text += " Two seeds say little of the others: with seeds=3 the interval becomes much narrower."
    if seeds == 1:
        text += " What another seed would change is not in the interval; seeds=3 tells."
    return text


def folds_figure(content: Mapping[str, Any]) -> Figure:
    """Each fold's number, and that of all folds together, seed by seed.

    Args:
        content: of ``folds.json``.
    """
    kind, key = content["metric"].split("_")
    main, rows = content[kind][key], content["seeds"]
    name = f"{_NOUNS[kind].capitalize()} {key} by seed"
    dots = [
        Line(f"fold {number}: {fraction(fold[key])}", np.array([float(place)]), np.array([float(fold[key])]), "faint")
        for place, row in enumerate(rows, 1)
        for number, fold in enumerate(row["folds"], 1)
        if fold[key] is not None
    ]
    ends = main["interval"]
    lines = []
    if main["mean"] is not None:
        x = np.array([0.5, len(rows) + 0.5])
        lines = [Line(f"mean {main['mean']:.3f}", x, np.full(2, main["mean"]), "accent")]
    band = None if ends is None else [np.array([0.5, len(rows) + 0.5]), np.full(2, ends[0]), np.full(2, ends[1])]
    points = [
        MeasuredPoint(place, row[key], row[key], row[key], f"seed {row['seed']}, all folds: {row[key]:.3f}")
        for place, row in enumerate(rows, 1)
        if row[key] is not None
    ]
    highest = max([0.01, *(ends or []), *(point.y for point in points), *(float(dot.y[0]) for dot in dots)])
    places = [(float(place), str(row["seed"])) for place, row in enumerate(rows, 1)]
    frame = Frame(
        name,
        Axis("seed", 0.5, len(rows) + 0.5, places=places),
        Axis(f"{_NOUNS[kind]} {key}", 0.0, min(1.0, nice_limit(highest))),
    )
    svg: Markup = line_chart([*lines, *dots], frame, band=band, points=points)
    note = "Large: what all folds of a seed come to. Small: each fold by itself. Line: their mean over the seeds"
    note += (
        "." if ends is None else "; shaded, its 95 % interval, over images" + (" and seeds." if len(rows) > 1 else ".")
    )
    return Figure(name, svg, note)
