"""``finemask evaluate``: a model file on a split, or a COCO results file."""

from collections.abc import Mapping
from typing import Any

from omegaconf import DictConfig
from rich import box
from rich.console import Console
from rich.table import Table

from finemask.config import plain
from finemask.evaluation.uncertainty.resampling import interval_text
from finemask.ops.wording import count, plural
from finemask.reports.evaluation_report import WrittenEvaluation
from finemask.reports.report_numbers import without_advice
from finemask.workflows.evaluate_model import evaluate_model_or_results

_SHOWN = ("AP", "AP50", "AP75", "APs", "APm", "APl")


def main(cfg: DictConfig) -> int:
    """Runs the verb: keys as in ``configs/evaluate.yaml``.

    Raises:
        FinemaskError: settings that contradict each other, or files that cannot be used.
    """
    written = evaluate_model_or_results(plain(cfg))
    show(Console(), written)
    return 0


def show(console: Console, written: WrittenEvaluation) -> None:
    """Prints the main numbers and the paths."""
    metrics = written.metrics
    console.print(
        f"{plural(metrics['ground_truths'], 'object')} in {plural(metrics['images'], 'image')}", highlight=False
    )
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("")
    for key in _SHOWN:
        table.add_column(key, justify="right")
    for kind, label in (("segm", "masks"), ("bbox", "boxes"), ("boundary", "outlines")):
        if kind in metrics["iou_types"] or (kind == "boundary" and kind in metrics):
            table.add_row(label, _ap_text(metrics, kind), *(_number(metrics[kind][key]) for key in _SHOWN[1:]))
    console.print(table)
    point = metrics["operating_point"]
    found, missed, false = (point[f"{kind}s"] for kind in ("true_positive", "false_negative", "false_positive"))
    counts = f"{count(found)} found, {count(missed)} missed, {count(false)} false"
    if point["threshold"] is None:
        sentence = f"no detection matches an object ({plural(metrics['detections'], 'detection')}; {counts})"
    else:
        sentence = (
            f"at score {point['threshold']:.3f}: precision {_number(point['precision'])}, "
            f"recall {_number(point['recall'])}, F1 {_number(point['f1'])} ({counts})"
        )
    console.print(sentence, highlight=False, soft_wrap=True)
    for name, rate, other in (("precision_90", "precision", "recall"), ("recall_90", "recall", "precision")):
        chosen = metrics.get("thresholds", {}).get(name)
        if chosen is not None and chosen["threshold"] is not None:
            text = f"{rate} {chosen[rate]:.3f} from score {chosen['threshold']:.3f} (then {other} {chosen[other]:.3f})"
            console.print(text, highlight=False, soft_wrap=True)
    _show_losses(console, metrics)
    for path in written.paths:
        console.print(f"wrote {path}", highlight=False, soft_wrap=True, markup=False)


def _show_losses(console: Console, metrics: Mapping[str, Any]) -> None:
    """Prints what each kind of error costs, and what to do about the worst."""
    kind = metrics["operating_point"]["iou_type"]
    errors = metrics["errors"][kind]["types"]
    if any(error["count"] for error in errors.values()):
        table = Table(box=box.SIMPLE_HEAD)
        table.add_column("errors")
        for column in ("number", "cost in AP50"):
            table.add_column(column, justify="right")
        for name, error in errors.items():
            table.add_row(name, count(error["count"]), _number(error["gain"]))
        console.print(table)
    for number, advice in enumerate(metrics["advice"], start=1):
        text = f"{number}. {advice['problem']}. Remedy: {advice['remedy']}."
        console.print(text, highlight=False, soft_wrap=True, markup=False)
    if remark := without_advice(metrics):
        console.print(remark, highlight=False, soft_wrap=True)


def _ap_text(metrics: Mapping[str, Any], kind: str) -> str:
    ends = metrics.get("confidence_interval", {}).get(kind, {}).get("AP")
    return _number(metrics[kind]["AP"]) + interval_text(ends)


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"
