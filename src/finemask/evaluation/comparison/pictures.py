"""The images that changed most: as labelled, as a sees them, as b sees them; coloured by what became of each object."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from finemask.errors import FinemaskError
from finemask.evaluation.comparison.compare import Comparison, ImageChange
from finemask.evaluation.ground_truth import GroundTruth
from finemask.evaluation.report.findings import Findings, find
from finemask.evaluation.report.pictures import Drawn, Window, data_uri, draw_side
from finemask.evaluation.result_table import ResultTable
from finemask.evaluation.scores import Matches
from finemask.ops.colours import ONE_OF_TWO, VERDICTS, Colour


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
