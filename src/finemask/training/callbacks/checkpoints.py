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


def best_checkpoint(folder: Path, monitor: str, mode: str) -> ModelCheckpoint:
    """Lightning's checkpoint callback, keeping ``best.ckpt``."""
    return ModelCheckpoint(
        dirpath=folder,
        filename=BEST.removesuffix(".ckpt"),
        monitor=monitor,
        mode=mode,
        save_top_k=1,
        enable_version_counter=False,
        save_on_train_epoch_end=True,
        auto_insert_metric_name=False,
    )
