"""A training that is a trial of a search: it tells what each evaluation came to, and ends where that is hopeless."""

import json
import logging
import math
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pytorch_lightning as pl

from finemask.errors import MissingExtraError

log = logging.getLogger(__name__)

STUDY = "finemask"  # name of the one study of a journal
PRUNED = "pruned"  # attribute of a trial that ended itself
_VARIABLE = "FINEMASK_TRIAL"  # of the environment: the run's configuration is that of any other training
_LEAST_EARLIER = 3  # trials whose median means something
_GRACE = 1  # evaluations that nobody is judged by


@dataclass(frozen=True)
class TrialPlace:
    """Which trial a training is.

    Args:
        journal: file of the study.
        number: of the trial.
        prune: whether it may be ended.
        metric: that it is judged by.
    """

    journal: str
    number: int
    prune: bool
    metric: str

    def environment(self) -> dict[str, str]:
        """What the process that trains has to find in its environment."""
        return {_VARIABLE: json.dumps(asdict(self))}

    @classmethod
    def of_this_process(cls) -> "TrialPlace | None":
        """That of this process; None where it is no trial."""
        text = os.environ.get(_VARIABLE)
        return None if not text else cls(**json.loads(text))


class Pruning(pl.Callback):
    """Reports each evaluation to the study; ends the training where its best lies below the median of earlier trials.

    The median at the same evaluation, counted from the first: trials with a time budget have no steps in common.

    It stands behind ``CocoEvaluation``.

    Args:
        place: of the trial.

    Raises:
        MissingExtraError: optuna is not there.
    """

    def __init__(self, place: TrialPlace) -> None:
        try:
            import optuna
            from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock, JournalStorage
        except ImportError as error:
            raise MissingExtraError("optuna", "sweep", needed_for="finemask sweep") from error
        self._place = place
        lock = JournalFileOpenLock(place.journal)
        self._storage = JournalStorage(JournalFileBackend(place.journal, lock_obj=lock))
        self._study = optuna.load_study(study_name=STUDY, storage=self._storage)
        study_id = self._storage.get_study_id_from_name(STUDY)
        self._trial_id = self._storage.get_trial_id_from_study_id_trial_number(study_id, place.number)
        self._pruner = optuna.pruners.MedianPruner(n_startup_trials=_LEAST_EARLIER, n_warmup_steps=_GRACE + 1)
        self._evaluations = 0

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Reports; of several processes the first decides for all."""
        if trainer.sanity_checking or trainer.state.fn != "fit":
            return
        self._evaluations += 1
        ends = trainer.is_global_zero and self._report(float(trainer.callback_metrics[self._place.metric]))
        if trainer.world_size > 1:
            ends = trainer.strategy.broadcast(ends)
        if ends and not trainer.should_stop:  # else it was the last one anyway
            trainer.should_stop = True
            if trainer.is_global_zero:
                self._storage.set_trial_user_attr(self._trial_id, PRUNED, True)
                log.info("Pruned: after evaluation %d it lies below the median of earlier trials.", self._evaluations)

    def _report(self, value: float) -> bool:
        """Whether the trial is to end."""
        value = 0.0 if math.isnan(value) else value  # nothing was found, or nothing is to be found
        self._storage.set_trial_intermediate_value(self._trial_id, self._evaluations, value)
        hopeless: Any = self._pruner.prune(self._study, self._storage.get_trial(self._trial_id))
        return self._place.prune and bool(hopeless)


def pruning_of_this_process() -> Pruning | None:
    """The callback, where this process was started as a trial."""
    place = TrialPlace.of_this_process()
    return None if place is None or not Path(place.journal).is_file() else Pruning(place)
