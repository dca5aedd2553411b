"""Numbers of an evaluation as people read them: in the report, and on the terminal."""

import platform
import re
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

from markupsafe import Markup, escape
from rich.table import Table

from finemask.evaluation.ground_truth import GroundTruth
from finemask.evaluation.numbers.coco_numbers import COCO_KEYS
from finemask.evaluation.uncertainty.resampling import interval_text
from finemask.ops.terminal import table
from finemask.ops.wording import fraction, plural

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
_SLICES = {
    "size": "Size of the object",
    "crowding": "Neighbours",
    "border": "Place in the image",
    "image": "Objects in the image",
}
_OPTIONAL = {
    "confidence_interval": "confidence intervals",
    "thresholds": "thresholds",
    "calibration": "calibration",
    "errors": "breakdown of the errors",
    "confusion": "confusion of classes",
    "slices": "groups of objects",
    "advice": "advice",
}
# What can be typed: ``model.min_size=1200``, ``data.scale=[0.5,2]``, ``model.anchors.sizes``, ``finemask data tile``
_TYPED = re.compile(
    r"\bfinemask data [a-z]+"
    r"|\b[a-z_]+(?:\.[a-z_0-9]+)*=(?:\[[^\]]*\]|[^\s,;()]*[^\s,;().])"
    r"|\b[a-z_]{3,}(?:\.[a-z_]{3,})+\b"
)


def intervals_of(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """Confidence intervals with every level of keys present: ``main``, ``point``, ``per_class``, iou types."""
    given = metrics.get("confidence_interval") or {}
    tables = {kind: _defaulting(given.get(kind)) for kind in ("segm", "bbox", "boundary")}
    return {
        "level": given.get("level"),
        "resamples": given.get("resamples"),
        **tables,
        "main": tables[metrics["operating_point"]["iou_type"]],
        "point": _defaulting(given.get("operating_point")),
        "per_class": given.get("per_class") or {},
    }


def advice_of(metrics: Mapping[str, Any]) -> list[dict[str, Any]]:
    """At most three pieces of advice; what can be typed is marked as code."""
    return [
        {
            "gain": entry.get("gain"),
            "share": entry.get("share"),
            "problem": entry["problem"],
            "remedy": _with_code(entry.get("remedy") or ""),
        }
        for entry in (metrics.get("advice") or [])[:3]
    ]


def without_advice(metrics: Mapping[str, Any]) -> str:
    """Why nothing is advised although something is wrong; nothing where there is advice, or nothing is wrong."""
    shown, kind = metrics.get("detectable_gain"), metrics["operating_point"]["iou_type"]
    if metrics.get("advice") or shown is None or metrics[kind]["AP50"] in (None, 1.0):
        return ""
    return (
        f"No kind of error costs more AP50 than {plural(metrics['images'], 'image')} can show ({shown:.3f}), so "
        "nothing is advised; more images to evaluate on would tell more."
    )


def thresholds_of(metrics: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Rows of the table of thresholds; one that cannot be reached has None for its values."""
    given = metrics.get("thresholds") or {}
    names = {
        "best_f1": "best F1",
        "precision_90": "precision ≥ 90 %",
        "recall_90": "recall ≥ 90 %",
    }
    keys = ("threshold", "interval", "precision", "recall", "f1")
    return [
        {"name": name, **{value: (given[key] or {}).get(value) for value in keys}}
        for key, name in names.items()
        if key in given
    ]


def slices_of(metrics: Mapping[str, Any]) -> list[tuple[str, list[dict[str, Any]]]]:
    """Titles of the kinds of groups, and the groups of each in their order; groups without objects are left out."""
    kinds: dict[str, list[dict[str, Any]]] = {}
    for row in metrics.get("slices") or []:
        if row["ground_truths"]:
            kinds.setdefault(row["kind"], []).append({"recall": None, "AP": None, **row})
    return [(_SLICES.get(kind, kind), rows) for kind, rows in kinds.items()]


def evaluated_types(metrics: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Keys and names of what was evaluated: masks, boxes, boundaries."""
    names = {"segm": "Masks", "bbox": "Boxes", "boundary": "Boundaries"}
    evaluated = {*metrics["iou_types"], "boundary"}  # boundaries are only there when asked for
    return [(kind, name) for kind, name in names.items() if kind in evaluated and metrics.get(kind)]


def coco_rows(metrics: Mapping[str, Any]) -> list[tuple[str, str]]:
    """COCO's numbers and what they say; recall at a cap above 100 too, where the evaluation has it."""
    rows = [(key, _EXPLANATIONS[key]) for key in COCO_KEYS]
    if any("AR" in metrics[kind] for kind, _ in evaluated_types(metrics)):
        rows.append(("AR", f"Objects found with up to {metrics['max_detections']:,} detections, the cap used here."))
    return rows


def facts_of(metrics: Mapping[str, Any], ground_truth: GroundTruth) -> dict[str, str]:
    """What was evaluated and with what, and what the page lacks."""
    crowds = metrics.get("crowd_regions", 0)
    intervals = metrics.get("confidence_interval")
    besides = f", and {plural(crowds, 'crowd region counts', 'crowd regions count')} neither way" if crowds else ""
    facts = {
        "Ground truth": ground_truth.source,
        "Data": f"{plural(metrics['images'], 'image')}, {plural(metrics['ground_truths'], 'object')} of "
        f"{plural(len(metrics['per_class']), 'class', 'classes')}{besides}",
        "Detections": f"{metrics['detections']:,}, at most {metrics['max_detections']:,} of an image and class",
        "Evaluated with": f"finemask {metrics['version']}, {_engine(metrics['backend'])}, "
        f"Python {platform.python_version()}",
    }
    if intervals:
        facts["Intervals"] = f"{100 * intervals['level']:.4g} %, images drawn anew {intervals['resamples']:,} times"
    missing = [name for key, name in _OPTIONAL.items() if metrics.get(key) is None]
    if missing:
        facts["Not computed"] = ", ".join(missing)
    return facts


def results_table(metrics: Mapping[str, Any]) -> Table:
    """COCO's numbers for the terminal: of masks, boxes and outlines, as far as they were evaluated."""
    keys = ("AP", "AP50", "AP75", "APs", "APm", "APl")
    rows = []
    for kind, _ in evaluated_types(metrics):
        ends = (metrics.get("confidence_interval") or {}).get(kind, {}).get("AP")
        ap, *others = (metrics[kind][key] for key in keys)
        label = {"segm": "masks", "bbox": "boxes", "boundary": "outlines"}[kind]
        rows.append((label, fraction(ap) + interval_text(ends), *others))
    return table(("", *keys), rows)


def operating_point_text(metrics: Mapping[str, Any]) -> str:
    """What comes of the threshold in use, in a line."""
    point = metrics["operating_point"]
    found, missed, false = (point[f"{kind}s"] for kind in ("true_positive", "false_negative", "false_positive"))
    counts = f"{found:,} found, {missed:,} missed, {false:,} false"
    if point["threshold"] is None:
        return f"no detection matches an object ({plural(metrics['detections'], 'detection')}; {counts})"
    return (
        f"at score {point['threshold']:.3f}: precision {fraction(point['precision'])}, "
        f"recall {fraction(point['recall'])}, F1 {fraction(point['f1'])} ({counts})"
    )


def _engine(backend: str) -> str:
    reference = f"pycocotools {version('pycocotools')}"
    return reference if backend == "pycocotools" else f"checked against {reference}"


def _defaulting(table: Mapping[str, Any] | None) -> dict[str, Any]:
    """A table in which each of the usual keys is present."""
    keys = (*COCO_KEYS, "AR", "precision", "recall", "f1")
    return {**dict.fromkeys(keys), **(table or {})}


def _with_code(text: str) -> Markup:
    parts, end = [Markup("")], 0
    for match in _TYPED.finditer(text):
        parts += [escape(text[end : match.start()]), Markup("<code>{}</code>").format(match.group())]
        end = match.end()
    return Markup("").join([*parts, escape(text[end:])])
