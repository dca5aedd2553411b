"""``finemask train``."""

from omegaconf import DictConfig
from rich.console import Console

from finemask.errors import INTERRUPTED
from finemask.ops.files import write_text
from finemask.training.console import say_next_steps
from finemask.verbs.learning_curve_page import PAGE, curve_page, show_curve
from finemask.workflows.learning_curve import RESULT, run_learning_curve
from finemask.workflows.train_model import prepare, run_training


def main(cfg: DictConfig) -> int:
    """Looks at the annotations and trains; ends with the paths written and the next commands to type."""
    prepare(cfg)
    if cfg.learning_curve is not None:
        return _learning_curve(cfg)
    finished = run_training(cfg)
    if finished is None:
        return INTERRUPTED
    if finished.metrics:  # of several processes the first has them
        say_next_steps(finished.metrics, finished.model_path, finished.paths, cfg.data, on_own_data=cfg.prepare is None)
    return 0


def _learning_curve(cfg: DictConfig) -> int:
    curve = run_learning_curve(cfg)
    if curve is None:
        return INTERRUPTED
    write_text(curve.folder / PAGE, curve_page(curve, str(cfg.name)))
    show_curve(Console(), curve)
    print(f"wrote {curve.folder / RESULT} and {curve.folder / PAGE}")
    return 0
