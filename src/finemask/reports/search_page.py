"""The page of a search of settings: the best trial, how it was found, which keys matter, and every trial."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from markupsafe import Markup

from finemask.ops.wording import fraction
from finemask.pages.axes import Axis, Frame, nice_limit, tick_text
from finemask.pages.charts import Bar, Figure, Line, MeasuredPoint, bar_chart, line_chart
from finemask.pages.shell import page, templates

EYEBROW = "finemask sweep"
_MARGIN = 0.06  # of an axis beyond its outermost values


class _Cell(NamedTuple):
    value: Any  # that is sorted by
    text: str


def search_page(content: Mapping[str, Any], *, title: str) -> str:
    """Renders the page.

    Args:
        content: of ``search.json``.
        title: the heading, for example the name of the search.
    """
    trials = [trial for trial in content["trials"] if trial["state"] in ("complete", "pruned", "failed")]
    slices = [_slice(content, trials, dimension) for dimension in content["space"]]
    body = (
        templates(__package__)
        .get_template("search.html.j2")
        .render(
            text=content["text"],
            history=_history(content, trials),
            importances=_importances(content),
            importances_from=content["importances_from"],
            marks=_marks(trials),
            slices=[figure for figure in slices if figure is not None],
            columns=["Trial", _name(content), "Ended", "Minutes", *(d["key"] for d in content["space"])],
            rows=[_cells(content, trial) for trial in trials],
            failed=[trial for trial in trials if trial["state"] == "failed"],
        )
    )
    sections = [("history", "History"), ("keys", "Keys"), ("trials", "Trials")]
    return page(title, Markup(body), eyebrow=EYEBROW, lead=content["text"], sections=sections)


def _name(content: Mapping[str, Any]) -> str:
    kind, key = content["metric"].split("_")
    return f"{'mask' if kind == 'segm' else 'box'} {key}"


def _history(content: Mapping[str, Any], trials: Sequence[Mapping[str, Any]]) -> Figure:
    """Each trial's number, and the best so far."""
    complete = [trial for trial in trials if trial["state"] == "complete" and trial["score"] is not None]
    numbers = [float(trial["number"]) for trial in trials]
    x = Axis("trial", -0.5, max([1.0, *numbers]) + 0.5, whole=True)
    frame = Frame(f"{_name(content)} of each trial", x, _scores(content, trials))
    best = np.maximum.accumulate([trial["score"] for trial in complete]) if complete else np.zeros(0)
    at = np.array([float(trial["number"]) for trial in complete])
    line = Line("best so far", np.repeat(at, 2)[1:], np.repeat(best, 2)[:-1], "accent step")  # it stays until the next
    dots = [_pruned(trial, float(trial["number"])) for trial in trials if _is_pruned(trial)]
    points = [_point(trial, float(trial["number"])) for trial in complete]
    name, note = _name(content), f"{_marks(trials)} The line: the best so far."
    return Figure(f"{name[0].upper()}{name[1:]} of each trial", line_chart([line, *dots], frame, points=points), note)


def _marks(trials: Sequence[Mapping[str, Any]]) -> str:
    """What the marks of the trials mean, those that there are."""
    within = any(trial["interval"] for trial in trials if trial["state"] == "complete")
    large = f"Large: ran to its end{', with the 95 % interval over images' if within else ''}."
    return f"{large} Small: pruned, where it ended." if any(map(_is_pruned, trials)) else large


def _importances(content: Mapping[str, Any]) -> Figure | None:
    found = content["importances"]
    if not found:
        return None
    bars = [Bar(key.rpartition(".")[2], value, f"{value:.0%}", "accent") for key, value in found.items()]
    title = "How much each key decides"
    note = (
        "Part of what sets the better trials apart that the key explains (PED-ANOVA), all together 100 %. With few "
        "trials it is a hint, no more."
    )
    return Figure(title, bar_chart(bars, name=title, x_label="part"), note)


def _slice(
    content: Mapping[str, Any], trials: Sequence[Mapping[str, Any]], dimension: Mapping[str, Any]
) -> Figure | None:
    """The score over one key, whatever the others were."""
    key, choices = dimension["key"], dimension["choices"]
    shown = [trial for trial in trials if key in trial["values"] and trial["score"] is not None]
    if not shown:
        return None
    if choices:
        places = [(float(place), str(choice)) for place, choice in enumerate(choices)]
        x = Axis(key, -0.5, len(choices) - 0.5, places=places)
        beside = _spread([choices.index(trial["values"][key]) for trial in shown])
    else:
        low, high = dimension["low"], dimension["high"]
        margin = (high / low) ** _MARGIN if dimension["log"] else _MARGIN * (high - low)
        ends = (low / margin, high * margin) if dimension["log"] else (low - margin, high + margin)
        x = Axis(key, *ends, log=dimension["log"])
        beside = [float(trial["values"][key]) for trial in shown]
    frame = Frame(f"{_name(content)} over {key}", x, _scores(content, trials))
    dots = [_pruned(trial, at) for trial, at in zip(shown, beside, strict=True) if _is_pruned(trial)]
    points = [_point(trial, at) for trial, at in zip(shown, beside, strict=True) if not _is_pruned(trial)]
    return Figure(key, line_chart(dots, frame, points=points), "")


def _spread(places: Sequence[int]) -> list[float]:
    """Places of a choice's trials, beside one another."""
    counts = {place: places.count(place) for place in places}
    seen: dict[int, int] = {}
    found = []
    for place in places:
        seen[place] = seen.get(place, 0) + 1
        found.append(place + 0.6 * (seen[place] / (counts[place] + 1) - 0.5))
    return found


def _scores(content: Mapping[str, Any], trials: Sequence[Mapping[str, Any]]) -> Axis:
    highest = [trial["score"] for trial in trials if trial["score"] is not None]
    highest += [trial["interval"][1] for trial in trials if trial["interval"] and trial["state"] == "complete"]
    return Axis(_name(content), 0.0, min(1.0, nice_limit(max([0.01, *highest]))))


def _is_pruned(trial: Mapping[str, Any]) -> bool:
    return trial["state"] == "pruned" and trial["score"] is not None


def _pruned(trial: Mapping[str, Any], at: float) -> Line:
    label = f"trial {trial['number']}, pruned at {trial['score']:.3f}"
    return Line(label, np.array([at]), np.array([float(trial["score"])]), "faint")


def _point(trial: Mapping[str, Any], at: float) -> MeasuredPoint:
    score = trial["score"]
    low, high = trial["interval"] or (score, score)
    return MeasuredPoint(at, score, low, high, f"trial {trial['number']}: {score:.3f}")


def _cells(content: Mapping[str, Any], trial: Mapping[str, Any]) -> list[_Cell]:
    score, seconds = trial["score"], trial["seconds"]
    marks = {content["best"]: " best", content["default"]: " as they are"}
    cells = [
        _Cell(trial["number"], f"{trial['number']}{marks.get(trial['number'], '')}"),
        _Cell(-1 if score is None else score, fraction(score)),
        _Cell(trial["state"], trial["state"]),
        _Cell(seconds or 0, "–" if seconds is None else f"{seconds / 60:.1f}"),
    ]
    for dimension in content["space"]:
        value = trial["values"].get(dimension["key"])
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        text = "–" if value is None else tick_text(float(f"{value:.3g}")) if is_number else str(value)
        cells.append(_Cell("" if value is None else value, text))
    return cells
