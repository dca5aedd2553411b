"""``finemask train``."""

from omegaconf import DictConfig

from finemask.training.console import say_next_steps
from finemask.training.run import INTERRUPTED, prepare_data, train
from finemask.verbs.train_check import check_data


def main(cfg: DictConfig) -> int:
    """Looks at the annotations and trains; ends with the paths written and the next commands to type."""
    prepare_data(cfg)
    if cfg.data.check:
        check_data(cfg)
    finished = train(cfg)
    if finished is None:
        return INTERRUPTED
    say_next_steps(finished.metrics, finished.model_file, finished.paths, cfg.data, on_own_data=cfg.prepare is None)
    return 0
