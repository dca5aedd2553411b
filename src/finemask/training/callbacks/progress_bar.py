"""What a person sees while it trains: a line for each finished epoch, and on a terminal a bar below them."""

import logging
import math
import time
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import EarlyStopping
from rich import get_console
from rich.progress import BarColumn, TextColumn

from finemask.ops.terminal import TerminalBar
from finemask.training.callbacks.budget import Budget
from finemask.training.callbacks.speed import Speed, format_duration

log = logging.getLogger(__name__)

_IOU_TYPES = {"segm": "mask", "bbox": "box"}


class EpochLines(pl.Callback):
    """One line an epoch: mean loss, the monitored metric if it was measured, images a second, time taken and left.

    Args:
        speed: which stands before it among the callbacks.
        monitor: name of the metric that the best weights are best at.
    """

    def __init__(self, speed: Speed, monitor: str = "val/segm_AP") -> None:
        self._speed = speed
        self._monitor = monitor
        self._epoch_start = 0.0
        self._trained_s = 0.0
        self._loss_sum: torch.Tensor | float = 0.0
        self._losses = 0
        self._images = 0
        self._validated = False

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Starts the means."""
        self._loss_sum, self._losses, self._images, self._trained_s = 0.0, 0, 0, 0.0
        self._epoch_start = time.monotonic()
        self._validated = False

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """A run that is resumed in the midst of an epoch begins none."""
        self.on_train_epoch_start(trainer, pl_module)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Adds to the means; the loss stays on its device."""
        self._images += len(batch[0]) * trainer.world_size
        self._trained_s = time.monotonic() - self._epoch_start
        if outputs and "skipped" not in outputs:  # a skipped step has none, or no loss in it
            # Lightning hands over the share of a step that is gathered from several batches
            self._loss_sum += outputs["loss"].detach() * trainer.accumulate_grad_batches
            self._losses += 1

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Not every epoch is validated, and the numbers of an earlier one would mislead."""
        self._validated = True

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Prints the line, after validation."""
        took, left = format_duration(time.monotonic() - self._epoch_start), self._speed.seconds_left(trainer)
        log.info(
            "%s  %s%s  %s  %s%s",
            self._epoch(trainer),
            self._loss(),
            self._metric(trainer),
            self._pace(),
            took,
            f", {format_duration(left)} left" if left else "",
        )

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Says what ended the training, if it was not the last epoch."""
        epoch = max(1, trainer.current_epoch)
        if epoch == trainer.max_epochs:
            return
        callbacks: list[pl.Callback] = trainer.callbacks  # type: ignore[attr-defined]
        for callback in callbacks:
            if isinstance(callback, Budget) and callback.is_spent:
                log.info("The budget of %s ends the training in epoch %d.", format_duration(callback.seconds), epoch)
            if isinstance(callback, EarlyStopping) and callback.stopped_epoch:
                log.info(
                    "Early stopping ends the training after epoch %d: %s has not become better for %d evaluations.",
                    epoch,
                    _label(callback.monitor),
                    callback.wait_count,
                )
        if trainer.global_step == trainer.max_steps:
            log.info("trainer.max_steps=%d ends the training in epoch %d.", trainer.max_steps, epoch)

    def _epoch(self, trainer: pl.Trainer) -> str:
        """``epoch  3/20``; the number of the last one is left out where time or nothing ends the training."""
        last = self._speed.last_epoch(trainer)
        number = trainer.current_epoch + 1
        return f"epoch {number}" if last is None else f"epoch {number:>{len(str(last))}}/{last}"

    def _loss(self) -> str:
        return f"loss {float(self._loss_sum) / self._losses:.3f}" if self._losses else "loss  –   "

    def _pace(self) -> str:
        pace = self._images / max(1e-9, self._trained_s)
        return f"{pace:5.{1 if pace >= 1 else 2}f} img/s"

    def _metric(self, trainer: pl.Trainer) -> str:
        """The monitored metric, or as much room for it."""
        label = f"  {_label(self._monitor)} "
        value = trainer.callback_metrics.get(self._monitor)
        if not self._validated or value is None:
            return " " * (len(label) + 5)
        return label + ("n/a  " if math.isnan(float(value)) else f"{float(value):.3f}")


class TerminalProgress(EpochLines):
    """The lines, and below them a bar for the epoch or the evaluation that is under way."""

    _shows = True
    _bar: TerminalBar | None = None
    _validation_start = 0.0

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Of several processes the first has the terminal."""
        self._shows = trainer.is_global_zero

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """A new bar."""
        super().on_train_epoch_start(trainer, pl_module)
        self._draw(0, trainer.num_training_batches, self._beginning(trainer), self._left(trainer))

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Moves it on, now and then: reading the loss waits for the device."""
        super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)
        if self._is_due(batch_idx == 0):
            words = f"{self._pace()}  {self._left(trainer):<15}"
            self._draw(batch_idx + 1, trainer.num_training_batches, self._beginning(trainer), words)

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """The bar is the evaluation's now."""
        self._validation_start = time.monotonic()
        self._draw(0, sum(trainer.num_val_batches), self._evaluating(trainer), " " * 15)

    def on_validation_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Moves it on."""
        done, total = batch_idx + 1, sum(trainer.num_val_batches)
        if self._is_due(done in (1, total)):
            left = (time.monotonic() - self._validation_start) * (total / done - 1)
            words = f"{format_duration(left)} left" if done < total else "scoring"
            self._draw(done, total, self._evaluating(trainer), f"{words:<15}")

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Takes the bar away where no training goes on below it."""
        if trainer.state.fn != "fit":
            self._stop()

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """The line takes the place of the bar."""
        self._stop()
        super().on_train_epoch_end(trainer, pl_module)

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Whatever ends the work, nothing is left of the bar."""
        self._stop()

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Likewise."""
        self._stop()

    def _beginning(self, trainer: pl.Trainer) -> str:
        return f"{self._epoch(trainer)}  {self._loss()}"

    def _evaluating(self, trainer: pl.Trainer) -> str:
        return f"{self._epoch(trainer)}  evaluating" if trainer.state.fn == "fit" else "evaluating"

    def _left(self, trainer: pl.Trainer) -> str:
        left = self._speed.seconds_left(trainer)
        return "" if left is None else f"{format_duration(left)} left"

    def _is_due(self, at_once: bool) -> bool:
        return self._bar is not None and (at_once or self._bar.is_due())

    def _draw(self, done: int, total: float, beginning: str, end: str) -> None:
        if not self._shows:
            return
        if self._bar is None:
            columns = BarColumn(bar_width=None), TextColumn("{task.fields[end]}", markup=False)
            self._bar = TerminalBar(*columns, console=get_console(), expand=True)
            self._bar.add_task("", end="")
            self._bar.start()
        is_known = not math.isinf(total)
        count = f"{done:>{len(f'{total:,}')},}/{total:,}" if is_known else f"{done:,}"
        self._bar.draw(done, total if is_known else None, description=beginning, end=f"{count}  {end}")

    def _stop(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


def _label(name: str) -> str:
    """``mask AP50`` for ``val/segm_AP50``."""
    iou_type, _, metric = name.removeprefix("val/").partition("_")
    return f"{_IOU_TYPES[iou_type]} {metric}" if metric and iou_type in _IOU_TYPES else name
