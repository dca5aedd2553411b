"""Curves of the run that made the model."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from finemask.evaluation.report.axes import Frame, nice_limit
from finemask.evaluation.report.charts import Line, line_chart
from finemask.evaluation.report.figures import SERIES, Figure


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
        frame = Frame(
            title,
            "epoch",
            "AP" if group is precisions else "loss",
            x_range=(0.0, max(last, 1.0)),
            y_range=(0.0, top),
        )
        figures.append(Figure(title, line_chart(lines, frame), [(line.css, line.label) for line in lines], note))
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
