"""How many images a second are trained, and how long the rest of the training will take."""

import logging
import math
import time
from collections import deque
from typing import Any

import pytorch_lightning as pl

from finemask.training.callbacks.budget import Budget, Pace

log = logging.getLogger(__name__)

_TOO_SHORT_S = 10.0  # is over before its forecast is read
_SLOW_RUN_S = 600.0  # a training that takes longer deserves the hint
_FORECAST_AFTER, _FORECAST_S = 4, 15.0  # steps that took so long: one image is larger and fuller than another
_LATEST = 100  # batches whose mean forecasts the others: steps grow slower as more proposals hit an object
_UNSEEN_VALIDATION = 0.5  # of the time of a training batch: what one of validation is taken for until one was seen


class Speed(pl.Callback):
    """Logs ``train/images_per_s`` and the share of a step spent waiting for data; knows how much is left.

    Args:
        quicker_preset: what to name to somebody whose machine is too slow for the model, if there is such a thing.
        budget: of the run, which is told the pace.
    """

    def __init__(self, quicker_preset: str | None = None, budget: Budget | None = None) -> None:
        self._quicker_preset = quicker_preset
        self._budget = budget
        self._last_end = 0.0
        self._step_start = 0.0
        self._durations: deque[float] = deque(maxlen=_LATEST)
        self._validation_start = 0.0
        self._validation_s: float | None = None
        self._unseen_batches: float | None = None
        self._batches_done = 0
        self._validated = False
        self._forecast = False

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """A new epoch's first batch includes starting the workers; it is not counted."""
        self._last_end, self._batches_done, self._validated = 0.0, 0, False

    on_train_start = on_train_epoch_start  # a run that is resumed in the midst of an epoch begins none

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """The batch is here; what has passed since the last step was waiting."""
        self._step_start = time.perf_counter()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Logs the speed of the step that ended."""
        now = time.perf_counter()
        if self._last_end:
            duration = now - self._last_end
            self._durations.append(duration)
            if trainer.global_step % trainer.log_every_n_steps == 0:  # type: ignore[attr-defined]
                pl_module.log_dict(
                    {
                        "train/images_per_s": len(batch[0]) * trainer.world_size / duration,
                        "train/data_wait": max(0.0, self._step_start - self._last_end) / duration,
                    }
                )
        self._last_end, self._batches_done = now, batch_idx + 1
        if self._budget is not None and self._durations:
            self._budget.pace = Pace(self._step_s, self._seconds_of(trainer, 0, 1))
        seen = len(self._durations)
        told = (sum(self._durations) >= _FORECAST_S and seen >= _FORECAST_AFTER) or seen == _LATEST
        if told and not self._forecast:
            self._forecast = True
            self._say_forecast(trainer)

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Starts its clock."""
        self._validation_start = time.perf_counter()

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """What one takes, the scoring included; it is no part of the next step."""
        now = time.perf_counter()
        self._validation_s, self._validated = now - self._validation_start, True
        self._last_end = 0.0

    def seconds_left(self, trainer: pl.Trainer) -> float | None:
        """Until the last weights are evaluated, whichever limit ends the training; None while nobody can tell."""
        seconds = self._seconds_of(trainer, *self._to_come(trainer))
        if self._budget is not None:
            seconds = min(seconds, self._budget.seconds_left())
        return seconds if math.isfinite(seconds) else None

    def last_epoch(self, trainer: pl.Trainer) -> int | None:
        """Number of the last epoch, from 1; None where the budget comes first, or nobody can tell yet."""
        batches, _ = self._to_come(trainer)
        time_left = math.inf if self._budget is None else self._budget.training_seconds_left()
        if math.isinf(batches) or self._seconds_of(trainer, batches, 0) > time_left:
            return None
        return self._end(trainer, batches)

    def _to_come(self, trainer: pl.Trainer) -> tuple[float, float]:
        """Training batches and validations until ``max_epochs`` or ``max_steps`` is reached."""
        an_epoch, done, epoch = trainer.num_training_batches, self._batches_done, trainer.current_epoch
        batches = math.inf
        if trainer.max_epochs is not None and trainer.max_epochs != -1:
            batches = (trainer.max_epochs - epoch) * an_epoch - done
        if trainer.max_steps != -1:
            batches = min(batches, (trainer.max_steps - trainer.global_step) * trainer.accumulate_grad_batches)
        if math.isinf(batches) or math.isinf(an_epoch):
            return math.inf, math.inf
        every, interval = trainer.check_val_every_n_epoch, trainer.val_check_batch or an_epoch
        if every is None or interval < an_epoch:
            return batches, math.ceil(batches / interval)
        # the last epoch is evaluated whatever the interval
        return batches, math.ceil(self._end(trainer, batches) / every) - epoch // every - int(self._validated)

    def _end(self, trainer: pl.Trainer, batches: float) -> int:
        an_epoch = trainer.num_training_batches
        return trainer.current_epoch + 1 + max(0, math.ceil((batches + self._batches_done) / an_epoch) - 1)

    def _seconds_of(self, trainer: pl.Trainer, batches: float, validations: float) -> float:
        if not self._durations:
            return math.inf
        validation_s = self._validation_s
        if validation_s is None:
            if self._unseen_batches is None:
                self._unseen_batches = _validation_batches(trainer)
            validation_s = _UNSEEN_VALIDATION * self._step_s * self._unseen_batches
        return batches * self._step_s + (validations * validation_s if validation_s else 0.0)  # not inf * 0

    @property
    def _step_s(self) -> float:
        return sum(self._durations) / len(self._durations)

    def _say_forecast(self, trainer: pl.Trainer) -> None:
        whole_s, end = self.seconds_left(trainer), self.last_epoch(trainer)
        if not trains_on_cpu(trainer) or whole_s is None or whole_s < _TOO_SHORT_S:
            return
        if end is None:
            training_s = 0.0 if self._budget is None else self._budget.training_seconds_left()
            epochs = training_s / (self._step_s * trainer.num_training_batches)
            count = f"{epochs:,.0f}" if epochs >= 10 else f"{epochs:.2g}"
            rest = f"; the budget leaves {format_duration(training_s)} to train, about {count} of them"
        else:
            all_of_it = f"all {end:,} epochs" if end > 1 and trainer.current_epoch == 0 else "what is left to train"
            rest = f", and {all_of_it} with evaluation at least {format_duration(whole_s)}"
        # "at least": a model that finds more has more to learn from and to outline, and its steps grow slower
        log.info(
            "No GPU: at %.1f s a step, an epoch of %s steps takes at least %s%s.",
            self._step_s,
            f"{trainer.num_training_batches:,}",
            format_duration(self._step_s * trainer.num_training_batches),
            rest,
        )
        if whole_s > _SLOW_RUN_S and self._quicker_preset:
            log.warning(
                "This model is made for a GPU. On this machine %s is many times quicker: a smaller model with "
                "fewer regions an image.",
                self._quicker_preset,
            )


def _validation_batches(trainer: pl.Trainer) -> float:
    """Of one validation; Lightning counts them when the first begins."""
    counted = sum(trainer.num_val_batches)
    loader = getattr(trainer, "datamodule", None) and trainer.datamodule.val_dataloader()  # type: ignore[attr-defined]
    return counted or len(loader or [])


def trains_on_cpu(trainer: pl.Trainer) -> bool:
    """Whether the training runs on a CPU."""
    return trainer.strategy.root_device.type == "cpu"


def format_duration(seconds: float) -> str:
    """``45 s``, ``2 min 40 s``, ``12 min``, ``3 h 20 min`` or ``4 days``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 595:  # by ten seconds, as long as a minute more or less matters
        minutes, rest = divmod(round(seconds / 10) * 10, 60)
        return f"{minutes} min {rest} s" if rest else f"{minutes} min"
    hours, minutes = divmod(round(seconds / 60), 60)
    if hours == 0:
        return f"{minutes} min"
    return f"{hours} h {minutes} min" if hours < 48 else f"{seconds / 86400:.0f} days"
