"""Checkpoints from which a run can always go on."""

import math
import os
import time
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from lightning_fabric.plugins.io.torch_io import TorchCheckpointIO
from pytorch_lightning.callbacks import Checkpoint, ModelCheckpoint
from pytorch_lightning.utilities.exceptions import SIGTERMException

from finemask.ops.files.atomic_files import atomic_path
from finemask.training.callbacks.stopping import agreed, asked_to_stop

LAST, BEST = "last.ckpt", "best.ckpt"


class WholeCheckpoints(TorchCheckpointIO):
    """Writes a checkpoint beside the one that it replaces, which stays until the new one is whole.

    Lightning's own writes into the folder for temporary files, and copies from there when that is another disk: a full
    one leaves half a checkpoint, and the one before it is lost.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """See ``CheckpointIO``."""
        with atomic_path(Path(path)) as temporary, temporary.open("wb") as file:
            torch.save(checkpoint, file)
            file.flush()
            os.fsync(file.fileno())


class LastCheckpoint(Checkpoint):
    """Writes ``last.ckpt`` before the first step, every so often within an epoch, and at its end.

    Before the first step, so that a run killed in its first epoch can be resumed too; every epoch, since Lightning's
    own ``save_last`` writes only when the monitored metric rose; within an epoch, and when the process is asked to
    terminate, since an epoch may last for hours. It must stand behind the callback that keeps the best weights, whose
    state it saves.

    Args:
        folder: of the checkpoints.
        every_s: seconds of training between two of them.
    """

    def __init__(self, folder: Path, every_s: float = math.inf) -> None:
        self._path = folder / LAST
        self._every_s = every_s
        self._saved = time.monotonic()
        self._stops = False

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """The best weights so far are those in the run's folder, also where that was moved since.

        Lightning forgets them when a folder has another name than it had, and the next evaluation would replace them.
        """
        folder = self._path.parent
        for state in checkpoint.get("callbacks", {}).values():
            before = state.get("dirpath") if isinstance(state, dict) else None
            if before is None or before == str(folder) or not (folder / BEST).is_file():
                continue
            state["dirpath"] = str(folder)
            state["best_k_models"] = {str(folder / Path(p).name): v for p, v in state["best_k_models"].items()}
            for key in ("best_model_path", "kth_best_model_path", "last_model_path"):
                state[key] = str(folder / Path(state[key]).name) if state.get(key) else state.get(key)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Only if there is none: a resumed run has one."""
        if not self._path.is_file():
            trainer.save_checkpoint(self._path)
        self._saved = time.monotonic()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Where a step is whole and the epoch goes on: what gradients are gathered of is in no checkpoint."""
        at_a_step = (batch_idx + 1) % trainer.accumulate_grad_batches == 0
        validates = (batch_idx + 1) % (trainer.val_check_batch or math.inf) == 0 or trainer.should_stop
        is_late = time.monotonic() - self._saved >= self._every_s
        is_late, self._stops = agreed(trainer, is_late, asked_to_stop(trainer))
        if (is_late or self._stops) and at_a_step and not validates and not trainer.is_last_batch:
            trainer.save_checkpoint(self._path)
            self._saved = time.monotonic()
        if validates or not trainer.is_last_batch:
            self._stop(trainer)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """After the epoch's validation: a resumed run starts at an epoch's boundary."""
        trainer.save_checkpoint(self._path)
        self._saved = time.monotonic()
        self._stop(trainer)

    def _stop(self, trainer: pl.Trainer) -> None:
        """One process is stopped by Lightning, a moment later."""
        if self._stops and trainer.world_size > 1:
            raise SIGTERMException


class BestCheckpoint(ModelCheckpoint):
    """Lightning's checkpoint callback, asked only after epochs that were evaluated: it complains about others."""

    _evaluated = False

    @property
    def state_key(self) -> str:
        """Its parent's: runs that began with that one go on."""
        return super().state_key.replace(type(self).__qualname__, ModelCheckpoint.__qualname__, 1)

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Not yet."""
        self._evaluated = False

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Now there is a value to compare."""
        self._evaluated = True

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Saves if the value is better than all before."""
        if self._evaluated:
            super().on_train_epoch_end(trainer, pl_module)


def best_checkpoint(folder: Path, monitor: str, mode: str) -> ModelCheckpoint:
    """Keeps ``best.ckpt``."""
    return BestCheckpoint(
        dirpath=folder,
        filename=BEST.removesuffix(".ckpt"),
        monitor=monitor,
        mode=mode,
        save_top_k=1,
        enable_version_counter=False,
        save_on_train_epoch_end=True,
        auto_insert_metric_name=False,
    )
