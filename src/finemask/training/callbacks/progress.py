"""What a person sees while it trains: a bar on a terminal, one line an epoch in a log."""

import logging
import time
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import RichProgressBar

from finemask.training.callbacks.speed import spell_duration

log = logging.getLogger(__name__)

_SHOWN = ("train/loss", "train/images_per_s", "val/segm_AP")


class TerminalProgress(RichProgressBar):
    """Lightning's Rich bar with the few numbers that fit beside it."""

    def get_metrics(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> dict[str, Any]:
        """Loss, speed and the metric that is optimised."""
        metrics = trainer.callback_metrics
        return {name.split("/")[-1]: f"{float(metrics[name]):.3g}" for name in _SHOWN if name in metrics}


class EpochLines(pl.Callback):
    """One line an epoch: mean loss, validation AP, images a second, time taken and time left."""

    def __init__(self) -> None:
        self._fit_start = 0.0
        self._epoch_start = 0.0
        self._trained_s = 0.0
        self._first_epoch = 0
        self._losses: list[torch.Tensor] = []
        self._images = 0
        self._validated = False

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Starts the clock."""
        self._fit_start, self._first_epoch = time.monotonic(), trainer.current_epoch

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Starts the means."""
        self._losses, self._images, self._trained_s = [], 0, 0.0
        self._epoch_start = time.monotonic()
        self._validated = False

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Adds to the means; the losses stay on their device until the epoch ends."""
        self._images += len(batch[0]) * trainer.world_size
        self._trained_s = time.monotonic() - self._epoch_start
        if outputs:  # a skipped step has none
            self._losses.append(outputs["loss"].detach())

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Not every epoch is validated, and the numbers of an earlier one would mislead."""
        self._validated = True

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Prints the line, after validation."""
        done = trainer.current_epoch + 1 - self._first_epoch
        total = (trainer.max_epochs or 0) - self._first_epoch
        elapsed = time.monotonic() - self._fit_start
        metrics = trainer.callback_metrics
        validation = "".join(
            f"  {name.split('/')[1]} {float(metrics[name]):.3f}"
            for name in ("val/segm_AP", "val/segm_AP50", "val/bbox_AP")
            if name in metrics and self._validated
        )
        log.info(
            "epoch %d/%s  loss %.3f%s  %.1f img/s  %s, %s left",
            trainer.current_epoch + 1,
            trainer.max_epochs,
            float(torch.stack(self._losses).mean()) if self._losses else float("nan"),
            validation,
            self._images / max(1e-9, self._trained_s),
            spell_duration(elapsed),
            spell_duration(elapsed / done * max(0, total - done)),
        )
