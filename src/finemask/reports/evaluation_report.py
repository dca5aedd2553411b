"""The evaluation report: one HTML page."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from finemask.evaluation.evaluator import Curves
from finemask.evaluation.ground_truth import GroundTruth
from finemask.ops.colours import verdict_css
from finemask.ops.files import write_text
from finemask.ops.images.image_reading import AS_THE_FILE_SAYS, ImageReading
from finemask.ops.wording import count
from finemask.pages.filters import FILTERS
from finemask.reports.curve_figures import evaluation_figures, training_figures
from finemask.reports.error_figures import MOST_CLASSES, confusion, error_breakdown, size_figure
from finemask.reports.example_galleries import Gallery, build_galleries
from finemask.reports.found_objects import Findings, find
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
from finemask.types import CocoResult

_FALLBACK_THRESHOLD = 0.5  # for the pictures, where no threshold is worth choosing
_SECTIONS = {  # id in the page: name of the link, and the value without which there is no such section
    "summary": ("Summary", ""),
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


def write_report(
    output: Path,
    *,
    metrics: Mapping[str, Any],
    curves: Curves,
    ground_truth: GroundTruth,
    results: Sequence[CocoResult],
    images_dir: Path | None = None,
    reading: ImageReading = AS_THE_FILE_SAYS,
    title: str = "Evaluation",
    subtitle: str = "",
    provenance: Mapping[str, str] | None = None,
    training_curves: Sequence[Mapping[str, Any]] | None = None,
) -> Path:
    """Writes ``index.html``.

    Args:
        output: the folder to write it into.
        metrics: as ``metrics.json`` holds them; a key that is absent or None leaves its section out.
        curves: of the same evaluation.
        ground_truth: of the same evaluation.
        results: of the same evaluation.
        images_dir: what the file names of the annotations are relative to; without it, or where no image can
            be read, the page says that its example pictures are missing.
        reading: what is read of images that hold more than one 8-bit picture.
        title: what was evaluated.
        subtitle: a line under it.
        provenance: names and values for "What was evaluated", such as the model and the data.
        training_curves: rows of a run's ``metrics.csv``.

    Returns:
        The path of the page.
    """
    point = metrics["operating_point"]
    threshold = _FALLBACK_THRESHOLD if point["threshold"] is None else point["threshold"]
    findings = find(ground_truth, results, curves.matches, curves.iou_type, threshold)
    pictures = _galleries(ground_truth, results, findings, threshold, images_dir, reading)
    absent = [name for name, row in metrics["per_class"].items() if not row["ground_truths"] and not row["detections"]]
    types = [kind for kind in ("segm", "bbox") if kind in metrics["iou_types"]]
    values: dict[str, Any] = {
        "title": title,
        "subtitle": subtitle,
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
        "sizes": size_figure(ground_truth, findings),
        "slices": slices_of(metrics),
        "galleries": pictures.galleries,
        "gallery_note": pictures.note,
        "shown_threshold": threshold,
        "coco_rows": coco_rows(metrics),
        "coco_types": evaluated_types(metrics),
        "training": training_figures(training_curves or []),
        "provenance": {**(provenance or {}), **facts_of(metrics, ground_truth)},
    }
    values["has_objects"] = values["sizes"] or values["slices"]
    values["sections"] = [(id_, label) for id_, (label, key) in _SECTIONS.items() if not key or values[key]]
    path = Path(output) / "index.html"
    write_text(path, _rendered(values))
    return path


def _rendered(values: Mapping[str, Any]) -> str:
    environment = Environment(
        loader=PackageLoader("finemask.reports"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= FILTERS

    def asset(name: str) -> Markup:  # ours, with nothing of the user's in it
        assert environment.loader is not None
        return Markup(environment.loader.get_source(environment, name)[0])

    return environment.get_template("page.html.j2").render(
        **values, style=verdict_css() + asset("page.css"), theme_script=asset("theme.js"), page_script=asset("page.js")
    )


class _Pictures(NamedTuple):
    galleries: list[Gallery]
    note: str


def _galleries(
    ground_truth: GroundTruth,
    results: Sequence[CocoResult],
    findings: Findings,
    threshold: float,
    images_dir: Path | None,
    reading: ImageReading,
) -> _Pictures:
    if images_dir is None:
        return _Pictures(
            [], "No folder of images was given, so there are no example pictures. Add images=FOLDER for them."
        )
    galleries, unread = build_galleries(ground_truth, results, findings, threshold, Path(images_dir), reading)
    if not unread:
        return _Pictures(galleries, "")
    listed = ", ".join(unread[:3]) + (", …" if len(unread) > 3 else "")
    many = f"{count(len(unread))} of the images for" if galleries else "The images for"
    return _Pictures(galleries, f"{many} example pictures could not be read from {images_dir} ({listed}).")
