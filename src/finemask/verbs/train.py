"""``finemask train``."""

import time

from omegaconf import DictConfig
from rich.console import Console

from finemask.config.composing import Asked
from finemask.errors import INTERRUPTED, ConfigError
from finemask.ops.files.atomic_files import write_text
from finemask.ops.terminal import say, table
from finemask.reports.learning_curve_page import learning_curve_page
from finemask.reports.report_numbers import operating_point_text, results_table
from finemask.training.console import print_next_steps
from finemask.training.tables import titled
from finemask.workflows.running.compose_training import compose_training
from finemask.workflows.several_runs.folds import compose_folds, run_folds
from finemask.workflows.several_runs.learning_curve import RESULT, LearningCurve, as_json, run_learning_curve, text_of
from finemask.workflows.train_model import run_training


def main(cfg: DictConfig, asked: Asked) -> int:
    """Plans, looks at the annotations and trains; ends with the paths written and the next commands to type."""
    started = time.monotonic() - time.process_time()  # importing is a part of what a person waits for
    if cfg.get("folds") is not None:
        return _folds(asked, started)
    if cfg.get("seeds", 1) != 1:
        raise ConfigError(
            f"seeds={cfg.seeds} without folds",
            remedy="It goes with folds=K. For one training a seed on one split: --multirun seed=0,1,2.",
        )
    cfg = compose_training(asked, cfg)
    if cfg.learning_curve is not None:
        return _learning_curve(cfg)
    finished = run_training(cfg, started)
    if finished is None:
        return INTERRUPTED
    if finished.paths:  # of several processes the first has them
        print_next_steps(
            finished.metrics, finished.model_path, finished.paths, cfg.data, on_own_data=cfg.prepare is None
        )
    return 0


def _folds(asked: Asked, started: float) -> int:
    cfg = compose_folds(asked)
    found = run_folds(cfg, started)
    if found is None:
        return INTERRUPTED
    metrics, console = found.trained.metrics, Console()
    of_seed = f", seed {found.content['shown_seed']}" if len(found.content["seeds"]) > 1 else ""
    console.print(titled(f"All folds{of_seed}", results_table(metrics), [operating_point_text(metrics)]))
    say(console, found.content["text"])
    print(f"The model is trained on all {found.content['images']:,} images; the numbers are those of the folds.")
    print_next_steps({}, found.trained.model_path, found.trained.paths, cfg.data, on_own_data=cfg.prepare is None)
    return 0


def _learning_curve(cfg: DictConfig) -> int:
    curve = run_learning_curve(cfg)
    if curve is None:
        return INTERRUPTED
    laws = None if curve.outlook is None else curve.outlook.band
    path = curve.folder / "index.html"
    write_text(path, learning_curve_page(as_json(curve), laws, title=str(cfg.name), folder=curve.folder))
    show_curve(Console(), curve)
    print(f"wrote {curve.folder / RESULT} and {path}")
    return 0


def show_curve(console: Console, curve: LearningCurve) -> None:
    """Prints the runs and what they say."""
    rows = (
        (f"{one.fraction:g}", one.images, one.objects, one.ap, "unknown" if one.error is None else one.error)
        for one in curve.points
    )
    headings = ("fraction", "images", "objects", curve.metric.replace("_", " "), "± standard error")
    console.print(table(headings, rows, words=(), title="Learning curve"))
    say(console, text_of(curve))
