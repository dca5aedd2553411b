"""``finemask train``."""

from omegaconf import DictConfig

from finemask.training.console import say_next_steps
from finemask.training.run import INTERRUPTED, train


def main(cfg: DictConfig) -> int:
    """Trains; ends with the paths written and the next commands to type."""
    finished = train(cfg)
    if finished is None:
        return INTERRUPTED
    say_next_steps(finished.metrics, finished.model_file, finished.paths, cfg.data.root)
    return 0
