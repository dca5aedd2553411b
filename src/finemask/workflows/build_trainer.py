"""From a configuration to Lightning's objects: datamodule, optimiser, loggers, callbacks, trainer."""

import logging
import re
from collections.abc import Mapping, Sequence
from datetime import timedelta
from itertools import count
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from lightning_fabric.plugins.io.torch_io import TorchCheckpointIO
from lightning_fabric.utilities.exceptions import MisconfigurationException
from omegaconf import DictConfig

from finemask.config import plain
from finemask.errors import ConfigError, FinemaskError, did_you_mean
from finemask.ops.files.atomic_files import write_json, write_text
from finemask.reports.lr_finder_page import lr_finder_page
from finemask.training.callbacks.budget import Budget
from finemask.training.callbacks.checkpoints import LastCheckpoint, WholeCheckpoints, best_checkpoint
from finemask.training.callbacks.progress_bar import EpochLines, TerminalProgress
from finemask.training.callbacks.pruning import pruning_of_this_process
from finemask.training.callbacks.speed import Speed
from finemask.training.callbacks.stopping import StopRequest
from finemask.training.callbacks.validation import CocoEvaluation
from finemask.training.console import display_path, is_terminal
from finemask.training.lr_finder import try_rates
from finemask.training.module import MaskRCNNModule
from finemask.workflows.running.several_processes import cluster

log = logging.getLogger(__name__)

_SECONDS = {"d": 86_400, "h": 3600, "min": 60, "s": 1}
_RATES, _FEW_RATES, _LONG_BUDGET_S = 100, 60, 1800.0  # steps of find_lr=true, and the budget in which all are taken
_CHECKPOINT_EVERY = "10min"  # where a run of before is resumed, which has no such key
_BEST_AGAIN = 0.3  # of a validation: how often the best weights are not the last, and are evaluated again


def prepare_data(cfg: DictConfig) -> None:
    """Calls what ``prepare`` names, if the data are not there yet: the quickstart draws its own."""
    if cfg.prepare is not None and not Path(cfg.data.root).exists():
        build(cfg.prepare, "prepare")


def build_datamodule(cfg: DictConfig) -> Any:
    """The datamodule of the group ``data``; ``data.batch_size=auto`` begins as what the model's preset says."""
    given = {"batch_size": cfg.preset.batch_size} if cfg.data.get("batch_size") == "auto" else {}
    return build(cfg.data, "data", **given)


def build_optimizer(cfg: DictConfig) -> Any:
    """What makes the optimiser of parameter groups, which have rates and decay of their own."""
    options = {str(key): value for key, value in cfg.optimizer.items() if key not in ("lr", "weight_decay")}
    if options.get("fused") and "mixed" in str(precision_of(cfg.trainer.precision)) and cfg.trainer.gradient_clip_val:
        options["fused"] = False  # a fused one scales gradients itself, and Lightning cannot clip them before that
    return build(options, "optimizer")


def check_monitors(cfg: DictConfig, measured: Sequence[str]) -> None:
    """Refuses a metric that nothing measures before an epoch is trained; what callbacks of one's own log is unknown.

    Args:
        cfg: the composed configuration of the verb ``train``.
        measured: names of metrics; none where there are no validation images, and no weights are best.

    Raises:
        ConfigError: names the key that watches it.
    """
    targets = [str(node.get("_target_")) for node in _callbacks(cfg).values()]
    if not all(target.startswith(("finemask.", "pytorch_lightning.")) for target in targets):
        return
    watched = ({"monitor": cfg.monitor} if measured else {}) | {
        f"callbacks.{name}.monitor": node.monitor for name, node in _callbacks(cfg).items() if node.get("monitor")
    }
    for where, metric in watched.items():
        if metric not in (*measured, "epoch", "step") and not str(metric).startswith("train/"):
            raise ConfigError(
                f"nothing measures {metric}",
                where=where,
                remedy=f"{did_you_mean(str(metric), measured)}There is {', '.join(measured)}."
                if measured
                else "There are no validation images: name their COCO file, data.val=FILE.",
            )


def build_budget(cfg: DictConfig, started: float, of_test: float) -> Budget | None:
    """The time budget of a run, if it has one: ``budget`` or ``trainer.max_time``.

    Args:
        cfg: the composed configuration of the verb ``train``.
        started: ``time.monotonic()`` when the run began.
        of_test: images of the test split, in validation splits.

    Raises:
        ConfigError: both are given.
    """
    seconds = budget_seconds(cfg)
    return None if seconds is None else Budget(seconds, started, 1.0 + _BEST_AGAIN + of_test)


def budget_seconds(cfg: DictConfig) -> float | None:
    """What ``budget`` or ``trainer.max_time`` says; None without either.

    Raises:
        ConfigError: both are given.
    """
    max_time = plain(cfg.trainer).get("max_time")
    budget = cfg.get("budget")  # runs of before have no such key
    if budget is not None and max_time is not None:
        raise ConfigError(f"budget={budget} and trainer.max_time={max_time}", remedy="Give one of them.")
    if budget is not None:
        return seconds_of(budget)
    if isinstance(max_time, Mapping):
        return timedelta(**max_time).total_seconds()
    if max_time is None:
        return None
    of_each = (_SECONDS["d"], _SECONDS["h"], _SECONDS["min"], 1)
    return float(sum(int(number) * unit for number, unit in zip(max_time.split(":"), of_each, strict=True)))


def seconds_of(span: str) -> float:
    """``1h30min`` in seconds."""
    return sum(float(number) * _SECONDS[unit] for number, unit in re.findall(r"([\d.]+)([a-z]+)", span))


def _callbacks(cfg: DictConfig) -> dict[str, DictConfig]:
    return {str(name): node for name, node in cfg.callbacks.items() if node}


def build_trainer(cfg: DictConfig, evaluation: CocoEvaluation, budget: Budget | None = None) -> pl.Trainer:
    """The trainer with its loggers and callbacks, in the order in which they depend on each other.

    Args:
        cfg: the composed configuration of the verb ``train``.
        evaluation: on the validation images.
        budget: that ends the training.

    Raises:
        ConfigError: a value that Lightning refuses.
    """
    run_dir = Path(cfg.run_dir)
    callbacks = [build(node, f"callbacks.{name}") for name, node in _callbacks(cfg).items()]
    loggers = [build(node, f"logger.{name}") for name, node in cfg.logger.items() if node]
    quicker = None if cfg.model.name in ("light", "tiny") else "model=light"
    speed = Speed(quicker, budget)
    lines = TerminalProgress if is_terminal() else EpochLines
    try:
        # The pace, by which the budget asks to stop, for which evaluation looks, whose numbers the others read.
        pruning = pruning_of_this_process()
        before, behind = [budget] if budget else [], [pruning] if pruning else []
        own = [StopRequest(), speed, *before, evaluation, *behind, lines(speed, cfg.monitor)]
        plugins = {} if "plugins" in cfg.trainer else {"plugins": cluster()}
        trainer: pl.Trainer = build(
            cfg.trainer,
            "trainer",
            precision=precision_of(cfg.trainer.precision),
            # Checkpoints come last of themselves.
            callbacks=[
                *own,
                *callbacks,
                best_checkpoint(run_dir / "checkpoints", cfg.monitor, cfg.mode),
                LastCheckpoint(run_dir / "checkpoints", seconds_of(cfg.get("checkpoint_every") or _CHECKPOINT_EVERY)),
            ],
            logger=loggers,
            default_root_dir=str(run_dir),
            use_distributed_sampler=False,
            max_time=None,
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            **plugins,
        )
    except (MisconfigurationException, RuntimeError, TypeError, ValueError) as error:
        raise ConfigError(str(error), where="trainer") from error
    if type(trainer.strategy.checkpoint_io) is TorchCheckpointIO:  # a person may have chosen another
        trainer.strategy.checkpoint_io = WholeCheckpoints()
    return trainer


def take_found_rate(cfg: DictConfig, module: MaskRCNNModule, datamodule: Any, trainer: pl.Trainer) -> None:
    """What ``find_lr=true`` does: tries rates, writes what came of them, and takes the one that is suggested.

    Args:
        cfg: whose ``optimizer.lr`` becomes that rate; a run that is repeated need not find it again.
        module: likewise.
        datamodule: after ``setup``.
        trainer: that will train, in one process.
    """
    strategy, configured = trainer.strategy, float(cfg.optimizer.lr)
    module.to(strategy.root_device)
    loader = datamodule.train_dataloader()
    seconds = budget_seconds(cfg)
    steps = _RATES if seconds is None or seconds > _LONG_BUDGET_S else _FEW_RATES
    log.info("find_lr=true: up to %d steps, each with a higher rate, which are then undone.", steps)
    trial = try_rates(
        module,
        (strategy.batch_to_device(batch, strategy.root_device) for _ in count() for batch in loader),
        lr=configured,
        steps=steps,
        clip=plain(cfg.trainer).get("gradient_clip_val"),
        precision=trainer.precision_plugin.forward_context,
    )
    found = trial.suggestion
    text = f"{len(trial.rates)} steps with a rate that rises from {trial.rates[0]:.2g} to {trial.rates[-1]:.2g}: "
    if found is None:
        text += f"the loss does not fall, and optimizer.lr={configured:g} stays."
    elif trial.ends_early:
        text += f"the loss does not rise with it. Taken is optimizer.lr={found:.2g}, a quarter of the last."
    else:
        text += f"from {trial.largest:.2g} on the loss rises. Taken is a quarter of that, optimizer.lr={found:.2g}."
    if found is not None:
        text += f" Configured was {configured:g}."
    log.info("%s", text)
    if found is not None:
        cfg.optimizer.lr = float(f"{found:.2g}")
        module.set_rate(cfg.optimizer.lr)
    cfg.find_lr = False
    content = {
        **{name: getattr(trial, name).tolist() for name in ("rates", "losses", "smoothed")},
        "largest": trial.largest,
        "suggestion": found,
        "configured": configured,
        "text": text,
    }
    run_dir = Path(cfg.run_dir)
    write_json(run_dir / "lr_finder.json", content)
    write_text(run_dir / "lr_finder.html", lr_finder_page(content, title=str(cfg.name)))
    log.info("wrote %s", display_path(run_dir / "lr_finder.html"))


def build(node: Any, where: str, **arguments: Any) -> Any:
    """What a node's ``_target_`` makes of the node's other keys and of these arguments.

    Args:
        node: of the configuration.
        where: its key, for messages.
        **arguments: keep their types and win.

    Raises:
        ConfigError: it cannot be found or does not take what it is given.
    """
    try:
        return instantiate(node, **arguments, _convert_="all")
    except InstantiationException as error:
        cause = error.__cause__
        if isinstance(cause, FinemaskError):
            raise cause from error
        raise ConfigError(str(cause or error).splitlines()[0], where=where) from error


def precision_of(value: Any, device: torch.device | None = None) -> Any:
    """What ``auto`` means: bfloat16 where the GPU has it, half precision on others; any other value is as it is.

    Args:
        value: of ``trainer.precision``.
        device: that is computed on; None: a GPU if there is one.
    """
    if value != "auto":
        return value
    if not torch.cuda.is_available() or (device is not None and device.type != "cuda"):
        return "32-true"
    return "bf16-mixed" if torch.cuda.is_bf16_supported() else "16-mixed"
