"""What ends a training early: signals, memory, workers, other processes; each said in words."""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytorch_lightning as pl
import torch
from lightning_fabric.utilities.exceptions import MisconfigurationException
from pytorch_lightning.utilities.exceptions import SIGTERMException

from finemask.errors import ConfigError, FinemaskError
from finemask.training.callbacks.stopping import asked_to_stop
from finemask.workflows.finish_run import TrainedRun
from finemask.workflows.running.several_processes import end_others, lost_another


def until_interrupted(trainer: pl.Trainer, work: Callable[[], TrainedRun]) -> TrainedRun | None:
    """Runs the work; ``None`` if it was interrupted: the last checkpoint stands.

    Raises:
        FinemaskError: something that can be mended.
    """
    try:
        with _warned_by_sigusr1():
            return _in_words(trainer, work)
    except Exception:
        end_others(trainer)
        raise


def _in_words(trainer: pl.Trainer, work: Callable[[], TrainedRun]) -> TrainedRun | None:
    try:
        return work()
    except (SIGTERMException, KeyboardInterrupt):
        return None
    except SystemExit:
        if trainer.interrupted:
            return None
        raise
    except MisconfigurationException as error:
        raise ConfigError(str(error), where="trainer") from error
    except torch.OutOfMemoryError as error:
        raise FinemaskError(
            f"the GPU's memory is full ({str(error).splitlines()[0]})",
            where=f"epoch {trainer.current_epoch}, step {trainer.global_step}",
            remedy="Lower data.batch_size (and raise trainer.accumulate_grad_batches by as much), or model.min_size "
            "and model.max_size, or use trainer.precision=bf16-mixed.",
        ) from error
    except RuntimeError as error:
        where = f"epoch {trainer.current_epoch + 1}, step {trainer.global_step}"
        if asked_to_stop(trainer):  # whoever stopped the run stopped its workers too, and a loader found out first
            return None
        if "DataLoader worker" in str(error):
            raise FinemaskError(
                f"a process that loads images was killed ({' '.join(str(error).split())})",
                where=where,
                remedy="The usual reason is that memory ran out: data.num_workers=1 takes less, 0 the least. The same "
                "command with resume=auto goes on from the last checkpoint.",
            ) from error
        if lost_another(error):
            raise FinemaskError(
                "another process of this training has ended",
                where=where,
                remedy="Its own error, if it had the time to say one, stands beside this. The same command with "
                "resume=auto goes on from the last checkpoint.",
            ) from error
        raise


@contextmanager
def _warned_by_sigusr1() -> Iterator[None]:
    """SIGUSR1, with which queues warn before a job's time is up, is SIGTERM."""
    name = getattr(signal, "SIGUSR1", None)
    if name is None or threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(name, lambda *_: os.kill(os.getpid(), signal.SIGTERM))
    try:
        yield
    finally:
        signal.signal(name, before)
