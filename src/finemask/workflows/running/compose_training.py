"""From what was asked for to the configuration that trains, its plan in it: every way to train goes through here."""

from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from finemask.config.composing import Asked
from finemask.ops.files.documents import read_json
from finemask.ops.files.run_folders import newest_run
from finemask.training.run_dir import choose_run
from finemask.workflows.build_trainer import prepare_data
from finemask.workflows.data.check_before_training import check_data
from finemask.workflows.data.plan_training import compose_planned, decide
from finemask.workflows.running.resume_run import read_resume_checkpoint
from finemask.workflows.running.several_processes import first_alone, join_processes, of_first

SERIES_PLANS = {"learning_curve": "learning_curve_plan.json", "folds": "folds_plan.json"}
"""By the key that asks for several runs, the file that says what they were begun with; their plan is in it."""


def compose_training(asked: Asked, cfg: DictConfig | None = None) -> DictConfig:
    """What comes before a training.

    Draws the data where an experiment brings its own, decides what nobody gave (``plan=auto``), and looks at the
    annotations. A run that goes on has the plan that it was begun with. Of several processes the first draws and looks,
    and the others have its plan.

    Args:
        asked: of the verb ``train``.
        cfg: what it composes to, where that is known.

    Raises:
        ConfigError: see ``compose``; or more processes than were asked for.
        DataError: the annotations have errors; its remedy is the command that repairs them.
    """
    cfg = asked.compose() if cfg is None else cfg
    join_processes(cfg)
    first_alone(lambda: prepare_data(cfg))
    given = asked.given() if cfg.get("plan") == "auto" else None
    if given is not None:
        records = _of_the_run_before(cfg)
        if records is None:
            records = [decision.as_record() for decision in decide(cfg, given).decisions]
        cfg = compose_planned(asked, given, of_first(records))
        join_processes(cfg)
    if cfg.data.check:
        first_alone(lambda: check_data(cfg))
    return cfg


def _of_the_run_before(cfg: DictConfig) -> list[dict[str, Any]] | None:
    """The plan of the run that is to go on; empty where it had none. None: no run goes on."""
    if cfg.resume is None:
        return None
    if (file := next((name for key, name in SERIES_PLANS.items() if cfg.get(key) is not None), None)) is not None:
        begun = newest_run(Path(cfg.output) / str(cfg.name), file) if cfg.resume == "auto" else None
        before = None if begun is None else read_json(begun / file, "what several runs were begun with")
    else:
        checkpoint = choose_run(Path(cfg.output), str(cfg.name), cfg.resume).checkpoint
        before = None if checkpoint is None else read_resume_checkpoint(checkpoint).settings or {}
    return None if before is None else list(before.get("planned") or [])
