"""What is written of an evaluation: ``metrics.json``, ``predictions.json``, ``per_class.csv`` and the report."""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markupsafe import Markup

from finemask.evaluation.analysis.error_analysis import analyse
from finemask.evaluation.evaluator import CocoEvaluator
from finemask.evaluation.ground_truth import GroundTruth
from finemask.evaluation.image_ids import drop_images_of_others
from finemask.evaluation.uncertainty.confidence_intervals import uncertainty
from finemask.ops.files.atomic_files import atomic_path, write_json, write_text
from finemask.ops.images.image_reading import AS_THE_FILE_SAYS, ImageReading
from finemask.pages.shell import page, templates
from finemask.reports.curve_figures import evaluation_figures, training_figures
from finemask.reports.error_figures import MOST_CLASSES, confusion, error_breakdown, size_figure
from finemask.reports.example_galleries import Gallery, build_galleries
from finemask.reports.folds_section import folds_figure
from finemask.reports.report_numbers import (
    advice_of,
    coco_rows,
    evaluated_types,
    facts_of,
    intervals_of,
    slices_of,
    thresholds_of,
    without_advice,
)
from finemask.reports.verdicts import Verdicts, judge
from finemask.types import CocoResult

_FALLBACK_THRESHOLD = 0.5  # for the pictures, where no threshold is worth choosing
_SECTIONS = {  # id in the page: name of the link, and the value without which there is no such section
    "summary": ("Summary", ""),
    "folds": ("Folds", "folds"),
    "advice": ("Advice", "advice"),
    "errors": ("Errors", "breakdown"),
    "threshold": ("Threshold", "figures"),
    "classes": ("Classes", ""),
    "confusion": ("Confusion", "confusion"),
    "objects": ("Objects", "has_objects"),
    "examples": ("Examples", ""),
    "coco": ("COCO", ""),
    "training": ("Training", "training"),
    "evaluated": ("Provenance", ""),
}


@dataclass(frozen=True)
class WrittenEvaluation:
    """What was written.

    Args:
        metrics: content of the metrics file.
        paths: of the files, in the order in which they were written.
    """

    metrics: dict[str, Any]
    paths: list[Path]


@dataclass(frozen=True)
class ReportContext:
    """What a report shows besides the numbers.

    Args:
        images_dir: what the file names of the annotations are relative to; without it, or where no image can
            be read, the page says that its example pictures are missing.
        reading: what is read of images that hold more than one 8-bit picture.
        title: what was evaluated.
        subtitle: a line under it.
        provenance: names and values for "What was evaluated", such as the model and the data.
        training_curves: rows of a run's ``metrics.csv``.
        folds: content of ``folds.json``, where the detections are those of many trainings.
    """

    images_dir: Path | None = None
    reading: ImageReading = AS_THE_FILE_SAYS
    title: str = "Evaluation"
    subtitle: str = ""
    provenance: Mapping[str, str] | None = None
    training_curves: Sequence[Mapping[str, Any]] | None = None
    folds: Mapping[str, Any] | None = None


NO_CONTEXT = ReportContext()


def write_evaluation(
    output: Path,
    evaluator: CocoEvaluator,
    context: ReportContext = NO_CONTEXT,
    *,
    suffix: str = "",
    settings: Mapping[str, Any] | None = None,
) -> WrittenEvaluation:
    """Evaluates what the evaluator has collected and writes everything, each file whole or not at all.

    Args:
        output: folder; made if it does not exist.
        evaluator: with all detections added.
        context: of the report.
        suffix: put behind the names: ``"_test"`` gives ``metrics_test.json``, ``report_test/index.html``, ….
        settings: values in use by their keys, such as ``model.min_size``, for the advice; those that are known.
    """
    output = Path(output)
    predictions = output / f"predictions{suffix}.json"
    results = evaluator.results
    write_json(predictions, results, indent=None)  # first: it is what cannot be computed again quickly
    drop_images_of_others(predictions)
    evaluation = evaluator.evaluate()
    metrics = dict(evaluation.metrics)
    intervals = uncertainty(evaluator, evaluation)
    of_ap = intervals["confidence_interval"].get(evaluator.iou_types[-1], {})
    metrics |= analyse(evaluator, of_ap.get("AP50"), settings) | intervals
    metrics["source"] = _source(evaluator, context.images_dir)
    metrics_file = output / f"metrics{suffix}.json"
    write_json(metrics_file, metrics)
    table = output / f"per_class{suffix}.csv"
    _write_per_class(table, metrics["per_class"])
    report = write_report(output / f"report{suffix}", evaluator, results, metrics, context)
    return WrittenEvaluation(metrics, [metrics_file, predictions, table, report])


def write_report(
    output: Path,
    evaluator: CocoEvaluator,
    results: Sequence[CocoResult],
    metrics: Mapping[str, Any],
    context: ReportContext = NO_CONTEXT,
) -> Path:
    """Writes ``index.html``.

    Args:
        output: the folder to write it into.
        evaluator: with all detections added.
        results: of the evaluator.
        metrics: as ``metrics.json`` holds them; a key that is absent or None leaves its section out.
        context: what else the page shows.

    Returns:
        The path of the page.
    """
    curves, ground_truth, point = evaluator.evaluate().curves, evaluator.ground_truth, metrics["operating_point"]
    threshold = _FALLBACK_THRESHOLD if point["threshold"] is None else point["threshold"]
    verdicts = judge(ground_truth, results, curves.matches, curves.iou_type, threshold)
    galleries, gallery_note = _galleries(ground_truth, results, verdicts, threshold, context)
    absent = [name for name, row in metrics["per_class"].items() if not row["ground_truths"] and not row["detections"]]
    types = [kind for kind in ("segm", "bbox") if kind in metrics["iou_types"]]
    values: dict[str, Any] = {
        "metrics": metrics,
        "point": point,
        "kind": "masks" if point["iou_type"] == "segm" else "boxes",
        "main": metrics[point["iou_type"]],
        "intervals": intervals_of(metrics),
        "advice": advice_of(metrics),
        "no_advice": without_advice(metrics),
        "breakdown": error_breakdown(metrics, point["iou_type"]),
        "figures": evaluation_figures(curves, metrics),
        "thresholds": thresholds_of(metrics),
        "classes": {name: row for name, row in metrics["per_class"].items() if name not in absent},
        "absent": absent,
        "class_types": types,
        "class_headings": [
            "Class",
            *({"segm": "Mask AP", "bbox": "Box AP"}[kind] for kind in types),
            *("Threshold", "Precision", "Recall", "F1", "Objects", "Detections"),
        ],
        "confusion": confusion(metrics),
        "most_classes": MOST_CLASSES,
        "sizes": size_figure(ground_truth, verdicts),
        "slices": slices_of(metrics),
        "galleries": galleries,
        "gallery_note": gallery_note,
        "shown_threshold": threshold,
        "coco_rows": coco_rows(metrics),
        "coco_types": evaluated_types(metrics),
        "training": training_figures(context.training_curves or []),
        "folds": context.folds,
        "folds_figure": None if context.folds is None else folds_figure(context.folds),
        "provenance": {**(context.provenance or {}), **facts_of(metrics, ground_truth)},
    }
    values["has_objects"] = values["sizes"] or values["slices"]
    body = templates(__package__).get_template("evaluation.html.j2").render(values)
    sections = [(id_, label) for id_, (label, key) in _SECTIONS.items() if not key or values[key]]
    html = page(context.title, Markup(body), eyebrow="finemask evaluation", lead=context.subtitle, sections=sections)
    path = Path(output) / "index.html"
    write_text(path, html)
    return path


def _galleries(
    ground_truth: GroundTruth,
    results: Sequence[CocoResult],
    verdicts: Verdicts,
    threshold: float,
    context: ReportContext,
) -> tuple[list[Gallery], str]:
    """The galleries, and what is to be said about pictures that are missing."""
    folder = context.images_dir
    if folder is None:
        return [], "No folder of images was given, so there are no example pictures. Add images=FOLDER for them."
    galleries, unread = build_galleries(ground_truth, results, verdicts, threshold, Path(folder), context.reading)
    if not unread:
        return galleries, ""
    listed = ", ".join(unread[:3]) + (", …" if len(unread) > 3 else "")
    many = f"{len(unread):,} of the images for" if galleries else "The images for"
    return galleries, f"{many} example pictures could not be read from {folder} ({listed})."


def _source(evaluator: CocoEvaluator, images_dir: Path | None) -> dict[str, str | None]:
    """Where the ground truth and its images lie, for whoever compares this evaluation with another."""
    annotations = Path(evaluator.ground_truth.source)
    return {
        "annotations": str(annotations.absolute()) if annotations.is_file() else None,
        "images": None if images_dir is None else str(Path(images_dir).absolute()),
        "fingerprint": evaluator.ground_truth.fingerprint,
    }


def _write_per_class(path: Path, per_class: Mapping[str, Mapping[str, Any]]) -> None:
    rows = [{"class": name, **values} for name, values in per_class.items()]
    with atomic_path(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
