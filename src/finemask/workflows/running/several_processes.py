"""Several processes that train one run: how many, what they agree on before the first step, and how they end."""

import ctypes
import logging
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from lightning_fabric.plugins.environments.slurm import SLURMEnvironment
from lightning_fabric.utilities.exceptions import MisconfigurationException
from omegaconf import DictConfig

from finemask.config import plain
from finemask.errors import ConfigError
from finemask.machine.processes import is_first_process, launched
from finemask.training.run_dir import Run

_UNSET = (None, 1, "1", "auto", -1, "-1")  # of trainer.devices: what a launcher decides
_PARENT_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG of Linux's prctl
_OF_LIGHTNING = ("pytorch_lightning", "lightning_fabric")
_HOW = "docs/guide/several_devices.md shows how."


def join_processes(cfg: DictConfig) -> None:
    """Makes the configuration that of the processes which torchrun or srun has started, and lets them meet.

    Without such a launcher nothing happens: Lightning then starts the other processes itself.

    Args:
        cfg: of the verb ``train``; the trainer's devices, machines and strategy are filled in.

    Raises:
        ConfigError: what was typed contradicts what was started, or machines that nothing connects.
    """
    together, trainer = launched(), cfg.trainer
    if together is None:
        if not is_first_process():
            _end_with_the_first()
        if plain(trainer).get("num_nodes", 1) not in (1, "1"):
            raise ConfigError(
                "several machines, and nothing that starts a process on each",
                where=f"trainer.num_nodes={trainer.num_nodes}",
                remedy=f"Start the training with torchrun or srun, which say how many there are. {_HOW}",
            )
        return
    devices = plain(trainer).get("devices")
    count = len(devices) if isinstance(devices, list) else devices
    if count not in _UNSET and str(count) != str(together.per_machine):
        raise ConfigError(
            f"{together.by} has started {together.per_machine} processes on this machine",
            where=f"trainer.devices={devices}",
            remedy=f"Leave trainer.devices out: {together.by} decides. {_HOW}",
        )
    if not isinstance(devices, list):
        trainer.devices = together.per_machine
    trainer.num_nodes = together.machines
    if torch.distributed.is_initialized():
        return
    values = plain(trainer)
    options = {key: values[key] for key in ("accelerator", "devices", "num_nodes", "strategy") if key in values}
    with _quiet():
        try:
            bare = pl.Trainer(
                **options, plugins=cluster(), logger=False, enable_checkpointing=False, enable_progress_bar=False
            )
        except (MisconfigurationException, RuntimeError, TypeError, ValueError) as error:
            raise ConfigError(str(error), where="trainer") from error
        bare.strategy.setup_environment()


def _end_with_the_first() -> None:
    """A process that Lightning has started does not outlive the one that started it, on Linux.

    It would wait for gradients that never come, and hold on to its GPU.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PARENT_DEATH_SIGNAL, signal.SIGKILL)


def cluster() -> list[Any] | None:
    """What the trainer is told of a cluster; None lets Lightning find out.

    A job of SLURM that is warned saves and ends, and its batch file queues it anew: Lightning would do both within the
    signal. In a job whose processes were not started by srun there is one, and SLURM's number is of no matter.
    """
    together = launched()
    if together is not None and together.by == "srun":
        return [SLURMEnvironment(auto_requeue=False)]
    return [LightningEnvironment()] if together is None and "SLURM_NTASKS" in os.environ else None


def of_first(what: Any) -> Any:
    """What the first process has, on all; ``what`` itself where they have not met yet, or there is one."""
    if not torch.distributed.is_initialized():
        return what
    message = [what]
    torch.distributed.broadcast_object_list(message)
    return message[0]


def first_alone(work: Any) -> None:
    """Lets the first process do something that the others find done."""
    if is_first_process():
        work()
    of_first(None)


def agreed_run(run: Run) -> Run:
    """The first process's choice of folder and checkpoint."""
    choice = None if run.checkpoint is None else str(run.checkpoint)
    folder, checkpoint, note = of_first((str(run.folder), choice, run.note))
    return Run(Path(folder), None if checkpoint is None else Path(checkpoint), note)


def end_others(trainer: pl.Trainer) -> None:
    """Ends the processes that Lightning has started, which may be waiting for this one for ever."""
    if (launcher := trainer.strategy.launcher) is not None:
        launcher.kill(getattr(signal, "SIGKILL", signal.SIGTERM))


def lost_another(error: RuntimeError) -> bool:
    """Whether this is how the end of another process is noticed."""
    text = str(error)
    return torch.distributed.is_initialized() and any(
        word in text for word in ("gloo", "Connection closed by peer", "Connection reset by peer", "NCCL")
    )


@contextmanager
def _quiet() -> Iterator[None]:
    """Lightning speaks of its defaults as soon as a trainer is made."""
    loggers = [logging.getLogger(name) for name in _OF_LIGHTNING]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)
