"""Rendering the page and writing it as one file that opens anywhere, without a network."""

import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined

from finemask.evaluation.coco import Curves
from finemask.evaluation.ground_truth import GroundTruth
from finemask.evaluation.report.examples import Gallery, build_galleries
from finemask.evaluation.report.figures import evaluation_figures, training_figures
from finemask.evaluation.scores import COCO_KEYS
from finemask.ops.files import write_text
from finemask.types import CocoResult

_FALLBACK_THRESHOLD = 0.5  # for the pictures, where no threshold is worth choosing
_EXPLANATIONS = {
    "AP": "Average precision, over how exactly an outline must fit (IoU 0.50 to 0.95). The main number.",
    "AP50": "Average precision where half an overlap is enough (IoU 0.50).",
    "AP75": "Average precision where the fit must be tight (IoU 0.75).",
    "APs": "AP of small objects, up to 32 × 32 px.",
    "APm": "AP of medium objects, 32 × 32 to 96 × 96 px.",
    "APl": "AP of large objects, beyond 96 × 96 px.",
    "AR1": "Objects found when one detection an image and class may be kept.",
    "AR10": "Objects found with up to 10 detections.",
    "AR100": "Objects found with up to 100 detections.",
    "ARs": "Small objects found.",
    "ARm": "Medium objects found.",
    "ARl": "Large objects found.",
}


def write_report(
    output: Path,
    *,
    metrics: Mapping[str, Any],
    curves: Curves,
    ground_truth: GroundTruth,
    results: Sequence[CocoResult],
    images_dir: Path | None = None,
    title: str = "Evaluation",
    subtitle: str = "",
    provenance: Mapping[str, str] | None = None,
    training_curves: Sequence[Mapping[str, Any]] | None = None,
) -> Path:
    """Writes ``index.html``.

    Args:
        output: the folder to write it into.
        metrics: as ``CocoEvaluator.compute`` gives them.
        curves: of the same evaluation.
        ground_truth: of the same evaluation.
        results: of the same evaluation.
        images_dir: what the file names of the annotations are relative to; without it, or where no image can
            be read, the page says that its example pictures are missing.
        title: what was evaluated.
        subtitle: a line under it.
        provenance: names and values for the foot of the page, such as the model and the data.
        training_curves: rows of a run's ``metrics.csv``.

    Returns:
        The path of the page.
    """
    galleries, gallery_note = _galleries(metrics, curves, ground_truth, results, images_dir)
    template = files(__package__).joinpath("template.html.j2").read_text(encoding="utf-8")
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {"fraction": _fraction, "percent": _percent, "count": _count}
    point = metrics["operating_point"]
    absent = [name for name, row in metrics["per_class"].items() if not row["ground_truths"] and not row["detections"]]
    html = environment.from_string(template).render(
        title=title,
        subtitle=subtitle,
        metrics=metrics,
        point=point,
        kind="masks" if point["iou_type"] == "segm" else "boxes",
        main=metrics[point["iou_type"]],
        rows=[(key, _EXPLANATIONS[key], metrics["bbox"][key], metrics["segm"][key]) for key in COCO_KEYS],
        classes={name: row for name, row in metrics["per_class"].items() if name not in absent},
        absent=absent,
        figures=evaluation_figures(curves, point),
        training=training_figures(training_curves or []),
        galleries=galleries,
        gallery_note=gallery_note,
        provenance={**(provenance or {}), **_versions(metrics, ground_truth)},
    )
    path = Path(output) / "index.html"
    write_text(path, html)
    return path


def _galleries(
    metrics: Mapping[str, Any],
    curves: Curves,
    ground_truth: GroundTruth,
    results: Sequence[CocoResult],
    images_dir: Path | None,
) -> tuple[list[Gallery], str]:
    if images_dir is None:
        return (
            [],
            "No folder of images was given, so there are no example pictures. Add images=FOLDER for them.",
        )
    threshold = metrics["operating_point"]["threshold"]
    galleries, unread = build_galleries(
        ground_truth,
        results,
        curves,
        _FALLBACK_THRESHOLD if threshold is None else threshold,
        Path(images_dir),
    )
    if not unread:
        return galleries, ""
    listed = ", ".join(unread[:3]) + (", …" if len(unread) > 3 else "")
    many = f"{len(unread)} of the" if galleries else "The"
    return galleries, f"{many} example pictures could not be read from {images_dir} ({listed})."


def _versions(metrics: Mapping[str, Any], ground_truth: GroundTruth) -> dict[str, str]:
    return {
        "Ground truth": ground_truth.source,
        "Evaluated with": f"finemask {metrics['version']}, {_engine(metrics['backend'])}, "
        f"Python {platform.python_version()}",
        "Detections per image and class": f"at most {metrics['max_detections']}",
    }


def _engine(backend: str) -> str:
    package = "hotcoco" if backend == "fast" else backend
    return f"{package} {version(package)}"


def _fraction(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.1f} %"


def _count(value: int) -> str:
    return f"{value:,}".replace(",", "\N{NARROW NO-BREAK SPACE}")
