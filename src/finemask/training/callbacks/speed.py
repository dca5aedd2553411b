"""How many images a second are trained, and on a machine without a GPU how long that will take."""

import logging
import time
from typing import Any

import pytorch_lightning as pl

log = logging.getLogger(__name__)

_SLOW_RUN_S = 600.0  # a training that takes longer deserves the hint
_FORECAST_AFTER = 4  # steps: the first ones allocate memory and are slower


class Speed(pl.Callback):
    """Logs ``train/images_per_s`` and the share of a step spent waiting for data; forecasts the first epoch.

    Args:
        quicker_preset: what to name to somebody whose machine is too slow for the model, if there is such a thing.
    """

    def __init__(self, quicker_preset: str | None = None) -> None:
        self._quicker_preset = quicker_preset
        self._last_end = 0.0
        self._step_start = 0.0
        self._durations: list[float] = []
        self._forecast = False

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """A new epoch's first batch includes starting the workers; it is not counted."""
        self._last_end = 0.0

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
        self._last_end = now
        if len(self._durations) == _FORECAST_AFTER and not self._forecast:
            self._forecast = True
            self._say_forecast(trainer)

    def _say_forecast(self, trainer: pl.Trainer) -> None:
        batches = trainer.num_training_batches
        if pl_is_cpu(trainer) and isinstance(batches, int):
            step_s = sorted(self._durations)[len(self._durations) // 2]
            epoch_s, whole_s = step_s * batches, step_s * batches * (trainer.max_epochs or 1)
            log.info(
                "No GPU: at %.1f s a step an epoch of %d steps takes about %s, all %s epochs about %s.",
                step_s,
                batches,
                spell_duration(epoch_s),
                trainer.max_epochs,
                spell_duration(whole_s),
            )
            if whole_s > _SLOW_RUN_S and self._quicker_preset:
                log.warning(
                    "This model is made for a GPU. On this machine %s is many times quicker: a smaller model with "
                    "fewer regions an image.",
                    self._quicker_preset,
                )


def pl_is_cpu(trainer: pl.Trainer) -> bool:
    """Whether the training runs on a CPU."""
    return trainer.strategy.root_device.type == "cpu"


def spell_duration(seconds: float) -> str:
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
