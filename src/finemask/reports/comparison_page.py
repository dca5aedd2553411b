"""The page of a comparison: verdicts, tables with intervals drawn to scale, the images that changed."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup

from finemask.errors import FinemaskError
from finemask.evaluation.ground_truth import GroundTruth
from finemask.evaluation.numbers.match_table import Matches
from finemask.evaluation.result_table import ResultTable
from finemask.evaluation.uncertainty.model_comparison import (
    NO_DIFFERENCE,
    Comparison,
    ImageChange,
    difference_text,
    p_text,
    summary,
    wins_text,
)
from finemask.ops.colours import ONE_OF_TWO, VERDICTS, Colour
from finemask.pages.instance_pictures import Drawn, Window, data_uri, draw_side
from finemask.reports.found_objects import Findings, find


@dataclass(frozen=True)
class Triptych:
    """An image, drawn three times; the pictures are ``data:`` addresses."""

    name: str
    change: ImageChange
    truth: str
    a: str
    b: str


def draw_changes(
    truth: GroundTruth, a: ResultTable, b: ResultTable, comparison: Comparison, images_dir: Path, number: int
) -> tuple[list[Triptych], list[str]]:
    """Draws the images that changed most.

    Labels are coloured by how many of the two found them; on each side stand its detections and what it missed.

    Returns:
        The pictures, and the names of files that could not be read.
    """
    from finemask.ops.images.decode import decode_image

    names = {category.id: category.name for category in truth.categories}
    changes = comparison.changes[:number]
    ids = [change.image_id for change in changes]
    sides = [
        (table, _findings(truth, table, matches, threshold, ids, comparison.iou_type))
        for table, matches, threshold in zip((a, b), comparison.matches, comparison.thresholds, strict=True)
    ]
    triptychs, unread = [], []
    for change in changes:
        info = truth.images[change.image_id]
        size_hw = (info.height, info.width) if info.height and info.width else None
        try:
            image = decode_image(images_dir / info.file_name, size_hw)
        except (FinemaskError, OSError, ValueError):
            unread.append(info.file_name)
            continue
        labelled = {n: e for n, e in enumerate(truth.annotations) if e["image_id"] == change.image_id}
        panels = [[Drawn(e, _agreement(n, *(found for _, found in sides))) for n, e in labelled.items()]]
        for table, found in sides:
            missed = [Drawn(labelled[n], VERDICTS["missed"]) for n in found.missed if n in labelled]
            panels.append(missed + _detections(table, found, change.image_id))
        window = Window(0, 0, image.shape[1], image.shape[0])
        drawn = (data_uri(draw_side(image, panel, names, window), whole=True) for panel in panels)
        triptychs.append(Triptych(info.file_name, change, *drawn))
    return triptychs, unread


def _findings(
    truth: GroundTruth, table: ResultTable, matches: Matches, threshold: float | None, ids: list[int], iou_type: str
) -> Findings:
    """Of some images only; without a threshold there are no detections."""
    rows = np.isin(matches.image_id, ids)
    columns = {f.name: getattr(matches, f.name) for f in fields(Matches)}
    chosen = Matches(**{name: c if name == "positives" else c[rows] for name, c in columns.items()})
    return find(truth, table, chosen, iou_type, np.inf if threshold is None else threshold)


def _agreement(position: int, a: Findings, b: Findings) -> Colour:
    """The colour of a label: of one that both found, or neither, or only one."""
    colours = {a.object_colour(position), b.object_colour(position)}
    return colours.pop() if len(colours) == 1 else ONE_OF_TWO


def _detections(table: ResultTable, found: Findings, image_id: int) -> list[Drawn]:
    """What a side sees in an image at its threshold; detections on crowd regions are left out."""
    right_and_wrong = [*found.found_by.values(), *(false.result for false in found.false)]
    entries: list[tuple[int, Mapping[str, Any]]] = [(number, table[number]) for number in right_and_wrong]
    return [Drawn(entry, found.detection_colour(n)) for n, entry in entries if entry["image_id"] == image_id]


NOUNS = {"segm": "masks", "bbox": "boxes"}
_CHART_PX = 220
_KEYS = Markup(
    '<div class="keys swatches">'
    '<span style="--key:var(--found)">found (as labelled: by both)</span>'
    '<span style="--key:var(--missed)">missed (as labelled: by both)</span>'
    '<span style="--key:var(--one-of-two)">found by one of the two</span>'
    '<span style="--key:var(--false)">false detection</span>'
    '<span style="--key:var(--wrong-class)">detection with the wrong class</span></div>'
)
_HEADINGS = ("", "a", "b", "b - a (95 % interval)", "", "p", "smallest detectable difference")


def page_body(content: Mapping[str, Any], triptychs: Sequence[Triptych], note: str) -> Markup:
    """What stands between heading and foot.

    Args:
        content: of ``compare.json``.
        triptychs: the images that changed most.
        note: what is to be said about these pictures.
    """
    parts = [Markup('<section class="panel figure" style="margin-top:24px">')]
    kinds = [kind for kind in NOUNS if kind in content]
    for kind in kinds:
        text = summary(f"AP of {NOUNS[kind]}", content[kind]["AP"], content["images"])
        parts.append(Markup("<p>{}</p>").format(text))
    parts.append(Markup("</section>"))
    for kind in kinds:
        parts.append(Markup("<h2>{}</h2>").format(NOUNS[kind].capitalize()))
        parts.append(_table(content[kind].items()))
        if len(content["per_class"]) > 1:
            parts.append(Markup("<h2>AP of {}, class by class</h2>").format(NOUNS[kind]))
            parts.append(Markup('<p class="note">{}.</p>').format(wins_text(content["wins"][kind]).capitalize()))
            parts.append(_table((name, row[f"{kind}_AP"]) for name, row in content["per_class"].items()))
    point = content["operating_point"]
    parts.append(Markup("<h2>At the threshold of the best F1</h2>"))
    thresholds = ["none" if t is None else f"{t:.3f}" for t in point["thresholds"]]
    parts.append(
        Markup('<p class="note">IoU {}, {}; a keeps scores from {}, b from {}, in every resample.</p>')
        .format(point["iou"], NOUNS[point["iou_type"]], *thresholds)
    )  # fmt: skip
    parts.append(_table((rate, point[rate]) for rate in ("precision", "recall", "f1")))
    parts.append(Markup("<h2>Images that changed most</h2>"))
    parts.append(Markup('<p class="note">{}</p>').format(note))
    if triptychs:
        parts.append(_KEYS)
    parts += [_triptych(triptych) for triptych in triptychs]
    return Markup("\n").join(parts)


def _table(rows: Iterable[tuple[str, Mapping[str, Any] | None]]) -> Markup:
    shown = list(rows)
    ends = [abs(end) for _, row in shown if row and row["interval"] for end in row["interval"]]
    scale = max([*ends, 1e-6])
    head = Markup("").join(Markup("<th>{}</th>").format(heading) for heading in _HEADINGS)
    body = Markup("\n").join(_row(name, row, scale) for name, row in shown)
    return Markup('<div class="panel scroll"><table><thead><tr>{}</tr></thead><tbody>{}</tbody></table></div>').format(
        head, body
    )


def _row(name: str, row: Mapping[str, Any] | None, scale: float) -> Markup:
    if row is None:
        return Markup(
            '<tr><th>{}</th><td class="none" colspan="6" style="text-align:left">nothing to find</td></tr>'
        ).format(name)
    smallest = "–" if row["smallest_detectable"] is None else f"{row['smallest_detectable']:.3f}"
    cells = (f"{row['a']:.3f}", f"{row['b']:.3f}", difference_text(row), _whisker(row, scale), p_text(row["p_value"]))
    joined = Markup("").join(Markup("<td>{}</td>").format(cell) for cell in (*cells, smallest))
    return Markup("<tr><th>{}</th>{}</tr>").format(name, joined)


def _whisker(row: Mapping[str, Any], scale: float) -> Markup:
    """The interval as a line about zero; a strong one where it leaves zero out."""
    if row["interval"] is None:
        return Markup("")
    middle = _CHART_PX / 2

    def at(value: float) -> float:
        return round(middle + value / scale * (middle - 6), 1)

    low, high = (at(end) for end in row["interval"])
    colour = "var(--ink-3)" if row["verdict"] == NO_DIFFERENCE else "var(--accent)"
    return Markup(
        '<svg width="{w}" height="16" role="img" aria-label="{text}">'
        '<path d="M{m} 0V16" stroke="var(--ink-3)" stroke-opacity=".5"/>'
        '<path d="M{low} 8H{high}" stroke="{colour}" stroke-width="3" stroke-linecap="round"/>'
        '<circle cx="{x}" cy="8" r="4.5" fill="{colour}"/></svg>'
    ).format(
        w=_CHART_PX, m=middle, low=low, high=high, x=at(row["difference"]), colour=colour, text=difference_text(row)
    )


def _triptych(triptych: Triptych) -> Markup:
    change = triptych.change
    counts = [
        f"{side}: {change.found[which]} found, {change.missed[which]} missed, {change.false[which]} false"
        for which, side in enumerate("ab")
    ]
    figures = Markup("").join(
        Markup('<figure><img src="{}" alt="{}"><figcaption>{}</figcaption></figure>').format(
            picture, f"{triptych.name}: {caption}", caption
        )
        for picture, caption in (
            (triptych.truth, "as labelled"), (triptych.a, counts[0]), (triptych.b, counts[1]),
        )
    )  # fmt: skip
    return Markup(
        '<section class="panel figure" style="margin-bottom:16px"><div class="label">{}</div>'
        '<div class="beside">{}</div></section>'
    ).format(triptych.name, figures)
