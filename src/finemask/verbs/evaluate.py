"""``finemask evaluate``: a model file on a split, or a COCO results file."""

from collections.abc import Mapping
from typing import Any

from omegaconf import DictConfig
from rich.console import Console

from finemask.config import plain
from finemask.ops.terminal import say, table
from finemask.ops.wording import plural
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
    say(console, operating_point_text(metrics))
    for name, rate, other in (("precision_90", "precision", "recall"), ("recall_90", "recall", "precision")):
        chosen = metrics.get("thresholds", {}).get(name)
        if chosen is not None and chosen["threshold"] is not None:
            score = f"score {chosen['threshold']:.3f}"
            say(console, f"{rate} {chosen[rate]:.3f} from {score} (then {other} {chosen[other]:.3f})")
    _show_losses(console, metrics)
    for path in written.paths:
        say(console, f"wrote {path}")


def _show_losses(console: Console, metrics: Mapping[str, Any]) -> None:
    """Prints what each kind of error costs, and what to do about the worst."""
    kind = metrics["operating_point"]["iou_type"]
    errors = metrics["errors"][kind]["types"]
    if any(error["count"] for error in errors.values()):
        rows = ((name, error["count"], error["gain"]) for name, error in errors.items())
        console.print(table(("errors", "number", "cost in AP50"), rows))
    for number, advice in enumerate(metrics["advice"], start=1):
        say(console, f"{number}. {advice['problem']}. Remedy: {advice['remedy']}.")
    if remark := without_advice(metrics):
        say(console, remark)
