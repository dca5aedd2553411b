"""The page of a comparison: verdicts, tables with intervals drawn to scale, the images that changed."""

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, NamedTuple

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
from finemask.ops.wording import plural
from finemask.pages.charts import whisker
from finemask.pages.instance_pictures import ColouredInstance, picture_of
from finemask.pages.shell import page, templates
from finemask.reports.example_galleries import open_example
from finemask.reports.verdicts import Verdicts, judge

EYEBROW = "finemask compare"
"""In every page of this verb, so that nobody else's is written over."""

NOUNS = {"segm": "masks", "bbox": "boxes"}


class ChangedImage(NamedTuple):
    """An image, and its pictures: pairs of what they show and a ``data:`` address."""

    name: str
    views: list[tuple[str, str]]


class _Table(NamedTuple):
    """Numbers of a and b, rows of ``compare.json`` by name; None where there is nothing to find."""

    id: str
    link: str
    heading: str
    note: str
    rows: Mapping[str, Mapping[str, Any] | None]
    is_sortable: bool = True

    def whiskers(self) -> dict[str, Markup]:
        """The intervals, as far as there are any, drawn to one scale."""
        known = {name: row for name, row in self.rows.items() if row is not None and row["interval"] is not None}
        reach = max([1e-6, *(abs(end) for row in known.values() for end in row["interval"])])
        return {
            name: whisker(
                row["difference"],
                row["interval"],
                reach,
                name=difference_text(row),
                strong=row["verdict"] != NO_DIFFERENCE,
            )
            for name, row in known.items()
        }


def comparison_page(content: Mapping[str, Any], images: list[ChangedImage], note: str) -> str:
    """Renders the page.

    Args:
        content: of ``compare.json``.
        images: those that changed most.
        note: what is to be said about their pictures.
    """
    kinds = [kind for kind in NOUNS if kind in content]
    tables = []
    for kind in kinds:
        noun = NOUNS[kind]
        tables.append(_Table(kind, noun.capitalize(), noun.capitalize(), "", content[kind], is_sortable=False))
        if len(content["per_class"]) > 1:
            of_classes = {name: row[f"{kind}_AP"] for name, row in content["per_class"].items()}
            found = {name: row for name, row in of_classes.items() if row is not None}
            absent = len(of_classes) - len(found)
            won = f"{wins_text(content['wins'][kind]).capitalize()}."
            if absent:
                won += f" {plural(absent, 'more class has', 'more classes have')} nothing to find."
            heading = f"{noun}, class by class"
            tables.append(_Table(f"{kind}-classes", heading.capitalize(), f"AP of {heading}", won, found))
    point = content["operating_point"]
    a, b = ("none" if t is None else f"{t:.3f}" for t in point["thresholds"])
    words = f"IoU {point['iou']}, {NOUNS[point['iou_type']]}; a keeps scores from {a}, b from {b}, in every resample."
    rates = {rate: point[rate] for rate in ("precision", "recall", "f1")}
    heading = "At the threshold of the best F1"
    tables.append(_Table("threshold", "Threshold", heading, words, rates, is_sortable=False))
    body = (
        templates(__package__)
        .get_template("comparison.html.j2")
        .render(
            said=[summary(f"AP of {NOUNS[kind]}", content[kind]["AP"], content["images"]) for kind in kinds],
            tables=tables,
            images=images,
            note=note,
            difference_text=difference_text,
            p_text=p_text,
        )
    )
    sides = [content[name]["path"] for name in "ab"]
    return page(
        "Comparison",
        Markup(body),
        eyebrow=EYEBROW,
        lead=f"a is {sides[0]}; b is {sides[1]}; {plural(content['images'], 'image')}.",
        sections=[*((table.id, table.link) for table in tables), ("images", "Images")],
        footer={
            "a": sides[0],
            "b": sides[1],
            "Ground truth": content["annotations"],
            "Method": f"paired bootstrap over images, {content['resamples']:,} resamples",
        },
    )


def draw_changes(
    truth: GroundTruth, a: ResultTable, b: ResultTable, comparison: Comparison, images_dir: Path, number: int
) -> tuple[list[ChangedImage], list[str]]:
    """Draws the images that changed most: as labelled, as a sees them, as b sees them.

    Labels are coloured by how many of the two found them; on each side stand its detections and what it missed.

    Returns:
        The pictures, and the names of files that could not be read.
    """
    names = {category.id: category.name for category in truth.categories}
    changes = comparison.changes[:number]
    ids = [change.image_id for change in changes]
    sides = [
        (table, _verdicts(truth, table, matches, threshold, ids, comparison.iou_type))
        for table, matches, threshold in zip((a, b), comparison.matches, comparison.thresholds, strict=True)
    ]
    drawn, unread = [], []
    for change in changes:
        file_name = truth.images[change.image_id].file_name
        labelled = {n: e for n, e in enumerate(truth.annotations) if e["image_id"] == change.image_id}
        both = [found for _, found in sides]
        panels = {"as labelled": [ColouredInstance(e, _agreement(n, *both)) for n, e in labelled.items()]}
        for which, (table, found) in enumerate(sides):
            missed = [ColouredInstance(labelled[n], VERDICTS["missed"]) for n in found.missed if n in labelled]
            panels[_counts(change, which)] = missed + _detections(table, found, change.image_id)
        try:
            with open_example(truth, change.image_id, images_dir) as image:
                views = [(side, picture_of(image, instances, names)) for side, instances in panels.items()]
        except (FinemaskError, OSError, ValueError):
            unread.append(file_name)
        else:
            drawn.append(ChangedImage(file_name, views))
    return drawn, unread


def _counts(change: ImageChange, which: int) -> str:
    return f"{'ab'[which]}: {change.found[which]} found, {change.missed[which]} missed, {change.false[which]} false"


def _verdicts(
    truth: GroundTruth, table: ResultTable, matches: Matches, threshold: float | None, ids: list[int], iou_type: str
) -> Verdicts:
    """Of some images only; without a threshold there are no detections."""
    rows = np.isin(matches.image_id, ids)
    columns = {f.name: getattr(matches, f.name) for f in fields(Matches)}
    chosen = Matches(**{name: c if name == "positives" else c[rows] for name, c in columns.items()})
    return judge(truth, table, chosen, iou_type, np.inf if threshold is None else threshold)


def _agreement(position: int, a: Verdicts, b: Verdicts) -> Colour:
    """The colour of a label: of one that both found, or neither, or only one."""
    colours = {a.object_colour(position), b.object_colour(position)}
    return colours.pop() if len(colours) == 1 else ONE_OF_TWO


def _detections(table: ResultTable, found: Verdicts, image_id: int) -> list[ColouredInstance]:
    """What a side sees in an image at its threshold; detections on crowd regions are left out."""
    right_and_wrong = [*found.found_by.values(), *(false.result for false in found.false)]
    entries: list[tuple[int, Mapping[str, Any]]] = [(number, table[number]) for number in right_and_wrong]
    return [ColouredInstance(entry, found.detection_colour(n)) for n, entry in entries if entry["image_id"] == image_id]
