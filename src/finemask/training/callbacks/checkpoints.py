"""Checkpoints from which a run can always go on."""

from pathlib import Path

import pytorch_lightning as pl
from pytorch_lightning.callbacks import ModelCheckpoint

LAST, BEST = "last.ckpt", "best.ckpt"


class FirstCheckpoint(pl.Callback):
    """Writes ``last.ckpt`` before the first step, so that a run killed in its first epoch can be resumed too.

    Args:
        folder: of the checkpoints.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / LAST

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Only if there is none: a resumed run has one."""
        if not self._path.is_file():
            trainer.save_checkpoint(self._path)


def best_and_last(folder: Path, monitor: str, mode: str) -> ModelCheckpoint:
    """Lightning's checkpoint callback, writing ``best.ckpt`` and ``last.ckpt`` at the end of every epoch.

    After the epoch's validation, so that a resumed run starts at an epoch's boundary.
    """
    return ModelCheckpoint(
        dirpath=folder,
        filename=BEST.removesuffix(".ckpt"),
        monitor=monitor,
        mode=mode,
        save_last=True,
        save_top_k=1,
        enable_version_counter=False,
        save_on_train_epoch_end=True,
        auto_insert_metric_name=False,
    )
