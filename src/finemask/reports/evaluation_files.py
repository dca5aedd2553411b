"""An evaluation on disk: ``metrics.json``, ``predictions.json``, ``per_class.csv``, ``report/index.html``."""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from finemask.evaluation.analysis.diagnosis import analyse
from finemask.evaluation.evaluator import CocoEvaluator
from finemask.evaluation.image_ids import drop_images_of_others
from finemask.evaluation.uncertainty.confidence_intervals import uncertainty
from finemask.ops.files import atomic_path, write_json
from finemask.ops.images.image_reading import AS_THE_FILE_SAYS, ImageReading
from finemask.reports.evaluation_report import write_report


@dataclass(frozen=True)
class WrittenEvaluation:
    """What was written.

    Args:
        metrics: content of the metrics file.
        paths: of the files, in the order in which they were written.
    """

    metrics: dict[str, Any]
    paths: list[Path]


def write_evaluation(
    output: Path,
    evaluator: CocoEvaluator,
    *,
    suffix: str = "",
    images_dir: Path | None = None,
    reading: ImageReading = AS_THE_FILE_SAYS,
    title: str = "Evaluation",
    subtitle: str = "",
    provenance: Mapping[str, str] | None = None,
    training_curves: Sequence[Mapping[str, Any]] | None = None,
    settings: Mapping[str, Any] | None = None,
) -> WrittenEvaluation:
    """Evaluates what the evaluator has collected and writes everything, each file whole or not at all.

    Args:
        output: folder; made if it does not exist.
        evaluator: with all detections added.
        suffix: put behind the names: ``"_test"`` gives ``metrics_test.json``, ``report_test/index.html``, ….
        images_dir: for the pictures of the report, see ``write_report``.
        reading: what is read of images for them.
        title: of the report.
        subtitle: of the report.
        provenance: for the foot of the report.
        training_curves: for the report, rows of a run's ``metrics.csv``.
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
    metrics["source"] = _source(evaluator, images_dir)
    metrics_file = output / f"metrics{suffix}.json"
    write_json(metrics_file, metrics)
    table = output / f"per_class{suffix}.csv"
    _write_per_class(table, metrics["per_class"])
    report = write_report(
        output / f"report{suffix}",
        metrics=metrics,
        curves=evaluation.curves,
        ground_truth=evaluator.ground_truth,
        results=results,
        images_dir=images_dir,
        reading=reading,
        title=title,
        subtitle=subtitle,
        provenance=provenance,
        training_curves=training_curves,
    )
    return WrittenEvaluation(metrics, [metrics_file, predictions, table, report])


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
