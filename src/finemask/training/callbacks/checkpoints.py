"""Checkpoints from which a run can always go on."""

from pathlib import Path

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Checkpoint, ModelCheckpoint

LAST, BEST = "last.ckpt", "best.ckpt"


class LastCheckpoint(Checkpoint):
    """Writes ``last.ckpt`` before the first step and at the end of every epoch.

    Before the first step, so that a run killed in its first epoch can be resumed too; every epoch, since Lightning's
    own ``save_last`` writes only when the monitored metric rose. It must stand behind the callback that keeps the best
    weights, whose state it saves.

    Args:
        folder: of the checkpoints.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / LAST

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Only if there is none: a resumed run has one."""
        if not self._path.is_file():
            trainer.save_checkpoint(self._path)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """After the epoch's validation: a resumed run starts at an epoch's boundary."""
        trainer.save_checkpoint(self._path)


class BestCheckpoint(ModelCheckpoint):
    """Lightning's checkpoint callback, asked only after epochs that were evaluated: it complains about others."""

    _evaluated = False

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
