"""Curves of the evaluation report: precision and recall, threshold, calibration, training."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from finemask.evaluation.analysis.operating_points import Curve, Curves
from finemask.ops.wording import plural
from finemask.pages.axes import Axis, Frame, nice_limit, tick_text
from finemask.pages.charts import SERIES, Column, Figure, Line, column_chart, line_chart

_LONG, _FEW = 200, 10


def evaluation_figures(curves: Curves, metrics: Mapping[str, Any]) -> list[Figure]:
    """Precision over recall; precision, recall and F1 over the threshold; calibration. None without detections.

    Args:
        curves: of the evaluation.
        metrics: of the same; calibration is drawn where they have it.
    """
    if not len(curves.overall.thresholds):
        return []
    point = metrics["operating_point"]
    figures = [_precision_recall(curves, point), _over_threshold(curves.overall, point)]
    calibration = metrics.get("calibration")
    if calibration and any(row["detections"] for row in calibration["bins"]):
        figures.append(_calibration(calibration))
    return figures


def _precision_recall(curves: Curves, operating_point: Mapping[str, Any]) -> Figure:
    classes = {
        name: curve
        for name, curve in curves.per_class.items()
        if curve.positives and len(curve.thresholds) and len(curves.per_class) > 1
    }
    few = len(classes) <= SERIES
    lines = [
        Line(name, *_points(curve), css=f"s{number}" if few else "faint")
        for number, (name, curve) in enumerate(classes.items())
    ]
    overall = Line("all classes together" if classes else "precision", *_points(curves.overall), css="main")
    precision, recall = operating_point["precision"], operating_point["recall"]
    svg = line_chart(
        [*lines, overall],
        Frame(
            f"Precision over recall at IoU {operating_point['iou']:g}",
            Axis("recall: part of the objects that is found"),
            Axis("precision"),
        ),
        marker=None if precision is None or recall is None else (recall, precision),
    )
    legend = [(line.css, line.label) for line in [overall, *(lines if few else [])] if classes]
    if classes and not few:
        legend.append(("faint", "single classes (point at a line for its name)"))
    return Figure(
        "Precision and recall",
        svg,
        "Lowering the score threshold moves along the line to the right: more objects are found, and more of "
        "what is reported is wrong. The dot is the threshold in use.",
        legend,
    )


def _points(curve: Curve) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    settled = _settled(curve)
    return curve.recall[settled], curve.precision[settled]


def _settled(curve: Curve) -> slice:
    """All but the first few detections of a long curve: precision over two or three of them jumps about."""
    detections = curve.true_positives + curve.false_positives
    if detections[-1] < _LONG:
        return slice(None)
    return slice(int(np.searchsorted(detections, _FEW)), None)


def _over_threshold(curve: Curve, operating_point: Mapping[str, Any]) -> Figure:
    settled = _settled(curve)
    lines = [
        Line("precision", curve.thresholds[settled], curve.precision[settled], css="s0"),
        Line("recall", curve.thresholds, curve.recall, css="s1"),
        Line("F1", curve.thresholds, curve.f1, css="main"),
    ]
    threshold, f1 = operating_point["threshold"], operating_point["f1"]
    svg = line_chart(
        lines,
        Frame(
            f"Precision, recall and F1 over the score threshold at IoU {operating_point['iou']:g}",
            Axis("score threshold"),
            Axis("fraction"),
        ),
        marker=None if threshold is None or f1 is None else (threshold, f1),
        x_marks=[] if threshold is None else [(threshold, "")],
    )
    return Figure(
        "Choosing the threshold",
        svg,
        "Detections that score less than the threshold are left out. F1 is high where precision and recall "
        "are both good; the upright line is the threshold in use.",
        [(line.css, line.label) for line in reversed(lines)],
    )


def _calibration(calibration: Mapping[str, Any]) -> Figure:
    filled = [row for row in calibration["bins"] if row["detections"]]
    columns = [
        Column(
            row["from"],
            row["to"],
            [(row["precision"], "s0")],
            tick_text(row["detections"]),
            f"{plural(row['detections'], 'detection scores', 'detections score')} {row['from']:.2g} to "
            f"{row['to']:.2g}, {row['mean_score']:.3f} on average; {row['precision']:.3f} of them are right",
        )
        for row in filled
    ]
    even = Line("scores that can be taken at their word", np.array([0.0, 1.0]), np.array([0.0, 1.0]), css="even")
    frame = Frame(
        "Precision over score", Axis("score of the detections"), Axis("precision: part of them that is right")
    )
    error = calibration["error"]
    return Figure(
        "Calibration",
        column_chart(columns, frame, lines=[even], text_at_foot=True),
        "Whether a score can be read as a probability of being right. Columns below the line: scores promise too "
        "much; above it, too little."
        + ("" if error is None else f" On average they are off by {error:.3f} (expected calibration error).")
        + " In the columns: how many detections.",
        [("even", even.label)],
    )


def training_figures(rows: Sequence[Mapping[str, Any]]) -> list[Figure]:
    """Losses and validation AP over the epochs, as far as they were logged.

    Args:
        rows: of a run's ``metrics.csv``; empty cells are passed over.
    """
    names = list(dict.fromkeys(name for row in rows for name in row))
    losses: list[str] = [n for n in ("train/loss", "val/loss") if n in names]
    losses += [n for n in names if n.startswith("train/loss_") and not n.endswith(("_step", "_epoch"))]
    precisions = [n for n in ("val/segm_AP", "val/segm_AP50", "val/bbox_AP") if n in names]
    figures = []
    for title, group, note in (
        ("Training losses", losses, "The whole loss and its parts; lower is better."),
        ("Validation AP", precisions, "Measured after each epoch; higher is better."),
    ):
        lines = [line for number, name in enumerate(group[:SERIES]) if (line := _logged(rows, name, number))]
        if not lines:
            continue
        last = max(float(line.x.max()) for line in lines)
        top = 1.0 if group is precisions else nice_limit(max(float(line.y.max()) for line in lines))
        y = Axis("AP" if group is precisions else "loss", 0.0, top)
        frame = Frame(title, Axis("epoch", 0.0, max(last, 1.0)), y)
        figures.append(Figure(title, line_chart(lines, frame), note, [(line.css, line.label) for line in lines]))
    return figures


def _logged(rows: Iterable[Mapping[str, Any]], name: str, number: int) -> Line | None:
    by_epoch: dict[float, list[float]] = {}
    for row in rows:
        epoch, value = _number(row.get("epoch")), _number(row.get(name))
        if epoch is not None and value is not None:
            by_epoch.setdefault(epoch, []).append(value)
    if not by_epoch:
        return None
    epochs = np.array(sorted(by_epoch))
    means = np.array([np.mean(by_epoch[epoch]) for epoch in epochs])
    return Line(name, epochs, means, css="main" if number == 0 else f"s{(number - 1) % SERIES}")


def _number(cell: Any) -> float | None:
    try:
        value = float(cell)
    except (TypeError, ValueError):
        return None
    return value if math.isfinite(value) else None
