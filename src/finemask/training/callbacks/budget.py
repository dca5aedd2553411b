"""A time budget that is kept: schedule, evaluations and the end of a run are laid out over it."""

import logging
import math
import time
from dataclasses import dataclass
from typing import Any

import pytorch_lightning as pl
from torch.optim.lr_scheduler import LambdaLR

from finemask.errors import ConfigError

log = logging.getLogger(__name__)

SCHEDULE_STEPS = 10_000  # that a schedule over time is divided into
_EVALUATIONS = 0.1  # share of the training that evaluations before the last may take
_BETWEEN = 0.2  # share of the training that lies between two of them, and before the end, at least
_TAIL, _LONGEST_TAIL = 0.01, 0.05  # shares of the training at the final rate
_LEAST_TRAINING = 0.5  # share of what is left at the first step that is trained, whatever evaluation and report take
_REPORT_S, _REPORT_OF_VALIDATION = 6.0, 0.5  # report and model file: seconds, and a share of the validation's time
_NEVER = 2**31


@dataclass(frozen=True)
class Pace:
    """What the parts of a training take.

    Args:
        step_s: seconds of a batch.
        validation_s: seconds of a validation, the scoring included.
    """

    step_s: float
    validation_s: float


class Budget(pl.Callback):
    """Ends the training so that the whole run ends when its time is up, with the learning rate at its final value.

    The schedule is stepped by the share of the time that has passed, or of the steps where ``max_epochs`` or
    ``max_steps`` comes first: a machine that slows down in the middle still ends on time, and annealed. Evaluations
    before the last one take a tenth of the time at most.

    It stands behind ``Speed``, which tells it the pace, and before whatever evaluates.

    Args:
        seconds: of the whole run: start, training, evaluations, report, model file.
        started: ``time.monotonic()`` when the run began.
        evaluations: how long the evaluations behind the last step take, in validations: 1 for the last weights, and
            more where there is a test split.

    Attributes:
        pace: of the training; None before the first steps.
        is_spent: whether it has ended the training.
    """

    def __init__(self, seconds: float, started: float, evaluations: float = 1.0) -> None:
        self.seconds = seconds
        self.pace: Pace | None = None
        self.is_spent = False
        self._started = started
        self._evaluations = evaluations
        self._spent_before = 0.0
        self._first_step = self._last_evaluation = started
        self._every: int | None = 1
        self._steps = math.inf
        self._share = self._share_before = 0.0
        self._warned = False

    def seconds_left(self) -> float:
        """Until the run ends."""
        return max(0.0, self._deadline - time.monotonic())

    def training_seconds_left(self) -> float:
        """Until the last step."""
        return max(0.0, self._last_step() - time.monotonic())

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Starts the clock of the steps.

        Raises:
            ConfigError: the rates cannot follow a clock.
        """
        if not all(isinstance(config.scheduler, LambdaLR) for config in trainer.lr_scheduler_configs):
            raise ConfigError(
                "a budget steps the schedule by the clock, and this one is no LambdaLR",
                where="scheduler",
                remedy="Give trainer.max_epochs instead of budget, or a function of the step to torch's LambdaLR.",
            )
        self._first_step = self._last_evaluation = time.monotonic()
        self._every = trainer.check_val_every_n_epoch
        self._steps = float(trainer.estimated_stepping_batches)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Moves the schedule to where the time is; decides whether this step is the last, and whether it is evaluated.

        Lightning has stepped the schedule just before; what is set here is the rate of the step to come.
        """
        is_over, share, is_due = self._where(trainer)
        if trainer.world_size > 1:  # one clock for all, or their rates would differ
            is_over, share, is_due = trainer.strategy.broadcast((is_over, share, is_due))
        self._share = max(self._share, share)
        for config in trainer.lr_scheduler_configs:
            schedule = config.scheduler
            assert isinstance(schedule, LambdaLR)
            schedule.last_epoch = round(self._share * SCHEDULE_STEPS) - 1
            schedule.step()
        if is_over:
            self.is_spent = trainer.should_stop = True
        if self._every is not None:
            trainer.check_val_every_n_epoch = self._every if is_due else _NEVER

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """The next one is due a while from now."""
        self._last_evaluation = time.monotonic()

    def state_dict(self) -> dict[str, Any]:
        """Seconds spent so far, all runs together."""
        return {"spent": self._spent_before + time.monotonic() - self._started, "share": self._share}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """What was spent before counts."""
        self._spent_before = float(state_dict["spent"])
        self._share = self._share_before = float(state_dict["share"])

    @property
    def _deadline(self) -> float:
        return self._started + self.seconds - self._spent_before

    def _last_step(self) -> float:
        """When the last step ends, by the clock of ``time.monotonic``."""
        whole = max(0.0, self._deadline - self._first_step)
        validation_s = self.pace.validation_s if self.pace else 0.0
        after = validation_s * (self._evaluations + _REPORT_OF_VALIDATION) + _REPORT_S
        if after > (1 - _LEAST_TRAINING) * whole and self.pace and not self._warned:
            self._warned = True
            log.warning(
                "The evaluation and the report will take about %.0f s of the %.0f s that are left: the run will take "
                "longer than its budget.",
                after,
                whole,
            )
        return self._deadline - min(after, (1 - _LEAST_TRAINING) * whole)

    def _where(self, trainer: pl.Trainer) -> tuple[bool, float, bool]:
        """Whether the time is up; the schedule's share that has passed, 0..1; whether this epoch is evaluated."""
        now, last, step_s = time.monotonic(), self._last_step(), self.pace.step_s if self.pace else 0.0
        whole = max(1e-9, last - self._first_step)
        # The last steps have the final rate, and one of them is logged.
        logged: int = trainer.log_every_n_steps  # type: ignore[attr-defined]
        tail = min(_LONGEST_TAIL * whole, max(_TAIL * whole, (logged + 1) * step_s))
        of_the_rest = (now - self._first_step) / (whole - tail)
        share = max(self._share_before + (1 - self._share_before) * of_the_rest, trainer.global_step / self._steps)
        between = max(_BETWEEN * whole, (self.pace.validation_s if self.pace else 0.0) / _EVALUATIONS)
        is_due = now - self._last_evaluation >= between <= last - now
        return now + step_s / 2 >= last, min(1.0, share), is_due
