"""``finemask evaluate``: a model file on a split, or a COCO results file."""

from collections.abc import Mapping
from typing import Any

from omegaconf import DictConfig
from rich import box
from rich.console import Console
from rich.table import Table

from finemask.config import plain
from finemask.ops.wording import count, fraction, plural
from finemask.reports.evaluation_report import WrittenEvaluation
from finemask.reports.report_numbers import operating_point_text, results_table, without_advice
from finemask.workflows.evaluate_model import evaluate_model_or_results


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
    console.print(results_table(metrics))
    console.print(operating_point_text(metrics), highlight=False, soft_wrap=True)
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
            table.add_row(name, count(error["count"]), fraction(error["gain"]))
        console.print(table)
    for number, advice in enumerate(metrics["advice"], start=1):
        text = f"{number}. {advice['problem']}. Remedy: {advice['remedy']}."
        console.print(text, highlight=False, soft_wrap=True, markup=False)
    if remark := without_advice(metrics):
        console.print(remark, highlight=False, soft_wrap=True)
