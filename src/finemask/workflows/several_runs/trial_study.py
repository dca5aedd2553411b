"""The trials of a search, in a journal that several processes and machines write to: optuna's study."""

import logging
import os
import platform
import time
import warnings
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from finemask.errors import MissingExtraError
from finemask.training.callbacks.pruning import PRUNED, STUDY
from finemask.workflows.several_runs.search_space import Dimension, Value

JOURNAL = "study.journal"
ALIVE_S = 20.0  # between signs of life of whoever runs a trial
_DEAD_S = 120.0  # without one
_FEWEST = 10  # trials of which can be told what decides
_AS_THEY_ARE, _RUN, _WHY = "settings_as_they_are", "run", "why"


@dataclass(frozen=True)
class TrialRow:
    """One trial as it stands.

    Args:
        number: from 0.
        state: ``complete``, ``pruned``, ``failed``, ``running`` or ``waiting``.
        values: of the keys, as far as it varies them.
        score: of its best weights; of a pruned one the last that was seen.
        run: its folder, relative to that of the search; empty while there is none.
        seconds: that it took; None while it runs.
        is_default: it is of the settings as they are.
        why: it failed.
    """

    number: int
    state: str
    values: Mapping[str, Value]
    score: float | None
    run: str
    seconds: float | None
    is_default: bool
    why: str


def need_optuna() -> None:
    """Raises unless optuna is there.

    Raises:
        MissingExtraError: it is not.
    """
    try:
        import optuna
    except ImportError as error:
        raise MissingExtraError("optuna", "sweep", needed_for="finemask sweep") from error
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    logging.getLogger("optuna").setLevel(logging.ERROR)


class TrialStudy:
    """The study in a folder; begun if it is not there. Each thread and process has one of its own.

    Args:
        folder: of the search.
        space: what is varied.
        seed: of what is drawn: a trial's number and the trials before it decide its values.
        startup: trials at random.
    """

    def __init__(self, folder: Path, space: Sequence[Dimension], seed: int, startup: int) -> None:
        need_optuna()
        import optuna
        from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock, JournalStorage

        self._folder, self._space, self._seed, self._startup = folder, list(space), seed, startup
        journal = str(folder / JOURNAL)
        lock = JournalFileOpenLock(journal)  # not the symbolic link, which not every disk has
        storage = JournalStorage(JournalFileBackend(journal, lock_obj=lock))
        self._study = optuna.create_study(storage=storage, study_name=STUDY, direction="maximize", load_if_exists=True)
        self._asking = JournalFileOpenLock(str(folder / "asking"))

    def next_trial(self, most: int) -> tuple[Any, dict[str, Value], bool] | None:
        """Takes the next trial; None when there are enough.

        Args:
            most: trials that end well, in all processes together.

        Returns:
            The trial, to be handed to ``tell``, values by key, and whether it is of the settings as they are.
        """
        import optuna

        self._asking.acquire()  # two processes would both see one that is missing
        try:
            trials = self._study.get_trials(deepcopy=False)
            failed = sum(trial.state == optuna.trial.TrialState.FAIL for trial in trials)
            waiting = sum(trial.state == optuna.trial.TrialState.WAITING for trial in trials)
            if len(trials) - failed - waiting >= most:
                return None
            ended_badly = optuna.trial.TrialState.FAIL
            if not any(trial.user_attrs.get(_AS_THEY_ARE) and trial.state != ended_badly for trial in trials):
                self._study.enqueue_trial(self._defaults(), user_attrs={_AS_THEY_ARE: True})
            self._study.sampler = optuna.samplers.TPESampler(
                n_startup_trials=self._startup, seed=self._seed + len(trials), multivariate=False
            )
            trial = self._study.ask()
            values = self._values(trial)
            trial.set_user_attr("host", platform.node())
            trial.set_user_attr("pid", os.getpid())
            self.sign_of_life(trial.number)
        finally:
            self._asking.release()
        return trial, values, bool(trial.user_attrs.get(_AS_THEY_ARE))

    def _defaults(self) -> dict[str, Value]:
        return {dimension.key: dimension.default for dimension in self._space if dimension.default is not None}

    def _values(self, trial: Any) -> dict[str, Value]:
        """What is suggested; of the settings as they are, a key outside the space is left as it is."""
        varied = self._space
        if trial.user_attrs.get(_AS_THEY_ARE):
            varied = [dimension for dimension in varied if dimension.default is not None]
        return {dimension.key: _suggested(trial, dimension) for dimension in varied}

    def sign_of_life(self, number: int) -> None:
        """Says that a trial goes on."""
        path = self._folder / "alive" / f"{number:03d}"
        path.parent.mkdir(exist_ok=True)
        path.touch()

    def tell(self, trial: Any, score: float | None, run: str, *, pruned: bool = False, why: str = "") -> None:
        """How a trial ended.

        Args:
            trial: of ``next_trial``.
            score: of its best weights; None: it failed.
            run: its folder, relative to that of the search.
            pruned: it was ended before its time.
            why: it failed.
        """
        from optuna.trial import TrialState

        trial.set_user_attr(_RUN, run)
        trial.set_user_attr("score", score)
        if why:
            trial.set_user_attr(_WHY, why)
        state = TrialState.FAIL if score is None else TrialState.PRUNED if pruned else TrialState.COMPLETE
        self._study.tell(trial, score if state is TrialState.COMPLETE else None, state=state)
        (self._folder / "alive" / f"{trial.number:03d}").unlink(missing_ok=True)

    def was_pruned(self, trial: Any) -> bool:
        """Whether the process that ran it said so."""
        return bool(self._study.get_trials(deepcopy=False)[trial.number].user_attrs.get(PRUNED))

    def give_back(self, trial: Any) -> None:
        """A trial that was interrupted is to be made again by whoever goes on."""
        values, attributes = dict(trial.params), {}
        if trial.user_attrs.get(_AS_THEY_ARE):
            attributes = {_AS_THEY_ARE: True}
        self.tell(trial, None, "", why="interrupted")
        self._study.enqueue_trial(values, user_attrs=attributes)

    def take_back_dead(self) -> int:
        """Trials of processes that were killed are to be made again.

        Returns:
            How many there were.
        """
        import optuna

        dead = 0
        for frozen in self._study.get_trials(states=(optuna.trial.TrialState.RUNNING,)):
            path = self._folder / "alive" / f"{frozen.number:03d}"
            age = time.time() - path.stat().st_mtime if path.is_file() else _DEAD_S
            if age >= _DEAD_S or self._is_gone(frozen.user_attrs):
                attributes = {_AS_THEY_ARE: True} if frozen.user_attrs.get(_AS_THEY_ARE) else {}
                with suppress(ValueError):  # another process was quicker
                    self._study.tell(frozen.number, state=optuna.trial.TrialState.FAIL)
                    self._study.enqueue_trial(dict(frozen.params), user_attrs=attributes)
                    dead += 1
        return dead

    @staticmethod
    def _is_gone(attributes: Mapping[str, Any]) -> bool:
        """Whether the process ran here, and runs no more."""
        if attributes.get("host") != platform.node() or not isinstance(attributes.get("pid"), int) or os.name == "nt":
            return False
        try:
            os.kill(attributes["pid"], 0)
        except ProcessLookupError:
            return True
        except PermissionError:
            return False
        return False

    def rows(self) -> list[TrialRow]:
        """All trials, by number."""
        from optuna.trial import TrialState

        names = {
            TrialState.COMPLETE: "complete",
            TrialState.PRUNED: "pruned",
            TrialState.FAIL: "failed",
            TrialState.RUNNING: "running",
            TrialState.WAITING: "waiting",
        }
        found = []
        for frozen in self._study.get_trials(deepcopy=False):
            attributes = frozen.user_attrs
            seen = frozen.intermediate_values
            score = frozen.value if frozen.value is not None else seen[max(seen)] if seen else attributes.get("score")
            took = None if frozen.duration is None else frozen.duration.total_seconds()
            found.append(
                TrialRow(
                    number=frozen.number,
                    state=names[frozen.state],
                    values=dict(frozen.params),
                    score=score,
                    run=str(attributes.get(_RUN, "")),
                    seconds=took,
                    is_default=bool(attributes.get(_AS_THEY_ARE)),
                    why=str(attributes.get(_WHY, "")),
                )
            )
        return found

    def importances(self) -> dict[str, float]:
        """How much each key decides of the score, adding up to 1, the greatest first; empty: nobody can tell yet."""
        import optuna

        complete = self._study.get_trials(states=(optuna.trial.TrialState.COMPLETE,))
        keys = [dimension.key for dimension in self._space]
        whole = [trial for trial in complete if set(keys) <= set(trial.params)]
        if len(whole) < fewest_to_weigh(len(keys)):
            return {}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that it is a hint while there are few trials, the page says
            try:
                found = optuna.importance.get_param_importances(self._study, params=keys)
            except (ValueError, RuntimeError):  # all came to the same
                return {}
        return dict(sorted(found.items(), key=lambda item: -item[1]))


def fewest_to_weigh(keys: int) -> int:
    """How many trials have to run to their end before it can be told which of so many keys decides."""
    return max(_FEWEST, 2 * keys)


def _suggested(trial: Any, dimension: Dimension) -> Value:
    key = dimension.key
    value: Value
    if not dimension.is_range:
        value = trial.suggest_categorical(key, list(dimension.choices))
    elif dimension.whole:
        step = 1 if dimension.step is None else int(dimension.step)
        value = trial.suggest_int(key, int(dimension.low), int(dimension.high), step=step, log=dimension.log)
    else:
        value = trial.suggest_float(key, dimension.low, dimension.high, step=dimension.step, log=dimension.log)
    return value
