"""A training run small enough for a test."""

import os
import signal
from functools import cache

import pytorch_lightning as pl
from omegaconf import DictConfig

from finemask.config import compose

SMALL_RUN = [
    "plan=none",
    "model=tiny",
    "model.min_size=64",
    "model.max_size=96",
    "augment=flip",
    "transfer=full",
    "optimizer=adamw",
    "callbacks=none",
    "logger=csv",
    "trainer.accelerator=cpu",
    "trainer.max_epochs=3",
    "trainer.log_every_n_steps=1",
    "data.num_workers=0",
    "data.batch_size=4",
]


def small_words(root, output, *overrides):
    """What a short run is asked for with."""
    return [f"data.root={root}", f"output={output}", "name=small", *SMALL_RUN, *overrides]


def small_run(root, output, *overrides):
    """The composed configuration of a short run."""
    cfg = _composed(overrides).copy()
    cfg.data.root, cfg.output = str(root), str(output)
    return cfg


@cache
def _composed(overrides: tuple[str, ...]) -> DictConfig:
    """Composing takes as long as a few steps of training."""
    return compose("train", small_words("data", "runs", *overrides))


class StopAt(pl.Callback):
    """Sends this process a signal in the middle of an epoch."""

    def __init__(self, epoch: int, batch: int, signal_name: str = "SIGTERM") -> None:
        self._where = (epoch, batch)
        self._signal = getattr(signal, signal_name)

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        if (trainer.current_epoch, batch_idx) == self._where:
            os.kill(os.getpid(), self._signal)


class PoisonLosses(pl.Callback):
    """Makes every loss of some steps NaN."""

    def __init__(self, first: int, last: int) -> None:
        self._first, self._last = first, last

    def on_train_start(self, trainer, pl_module):
        forward = pl_module.model.losses
        self._step = 0

        def poisoned(images, targets):
            losses = forward(images, targets)
            self._step += 1
            if self._first <= self._step <= self._last:
                losses["loss_mask"] = losses["loss_mask"] * float("nan")
            return losses

        pl_module.model.losses = poisoned
