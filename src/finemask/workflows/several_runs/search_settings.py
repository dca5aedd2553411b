"""A search of settings: trials in processes of their own, in a study that others may share; and what came of it."""

import os
import signal
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from omegaconf import DictConfig

from finemask.config import arguments, plain
from finemask.config.composing import Asked
from finemask.errors import INTERRUPTED, ConfigError, FinemaskError
from finemask.machine.hardware import cores
from finemask.machine.processes import termination_as_interruption
from finemask.ops.files.documents import read_json
from finemask.ops.files.run_folders import newest_run
from finemask.training.callbacks.pruning import TrialPlace
from finemask.workflows.data.plan_training import compose_planned
from finemask.workflows.running.compose_training import compose_training
from finemask.workflows.several_runs.run_series import begun_with, metric_of, open_series
from finemask.workflows.several_runs.search_space import Dimension, read_space, word_of
from finemask.workflows.several_runs.trial_processes import TrialProcesses, last_words
from finemask.workflows.several_runs.trial_study import ALIVE_S, JOURNAL, TrialRow, TrialStudy, need_optuna

PLAN = "search_plan.json"
_OWN_KEYS = ("space", "trials", "jobs", "startup", "prune", "confirm", "name", "output", "resume")
_MANY = ("folds", "learning_curve")  # which are many trainings themselves
_MOST_FAILURES = 3  # in a row: what fails is not the values
_INTERRUPTED, _INTERRUPTING = "interrupted", (INTERRUPTED, -signal.SIGINT, -signal.SIGTERM)
RunTrial = Callable[[Sequence[str], Mapping[str, str], Path], int]


@dataclass(frozen=True)
class Search:
    """A search that has ended.

    Args:
        folder: of everything written.
        space: what was varied.
        rows: all trials.
        importances: of the keys, adding up to 1; empty where nobody can tell.
        metric: that was searched for: masks or boxes, and COCO's name.
        words: of the command line that the trials share.
        confirmed: run folders by ``default`` and ``best``, of further seeds.
        data_val: ground truth of the scores.
    """

    folder: Path
    space: Sequence[Dimension]
    rows: Sequence[TrialRow]
    importances: Mapping[str, float]
    metric: tuple[str, str]
    words: Sequence[str]
    confirmed: Mapping[str, Sequence[Path]]
    data_val: Path

    @property
    def best(self) -> TrialRow | None:
        """The trial with the greatest score, of those that ran to their end."""
        return max(
            (row for row in self.rows if row.state == "complete" and row.score is not None),
            key=lambda row: (row.score, -row.number),
            default=None,
        )

    @property
    def default(self) -> TrialRow | None:
        """The trial of the settings as they are."""
        return next((row for row in self.rows if row.is_default and row.state == "complete"), None)

    def words_of(self, row: TrialRow) -> list[str]:
        """What a trial was trained with besides; nothing where the settings are as they are."""
        return [] if row.is_default else [word_of(key, value) for key, value in row.values.items()]


class _Ended(NamedTuple):
    score: float | None
    run: str
    why: str


def run_search(cfg: DictConfig, asked: Asked, run_trial: "RunTrial | None" = None) -> Search | None:
    """Trains until there are enough trials, then says what they came to, for ``write_search`` to write.

    Args:
        cfg: of the verb ``sweep``.
        asked: what it is composed of; the trainings are composed of the same words.
        run_trial: makes a trial of the words of ``finemask train``, an addition to the environment and a file for its
            output; returns the exit code.

    Returns:
        None when it was interrupted; the same command with ``resume=auto`` goes on.

    Raises:
        FinemaskError: something the user can mend.
    """
    need_optuna()
    if cfg.data.val is None:
        raise ConfigError("a search needs validation images", where="data.val", remedy="Name their COCO file.")
    if cfg.resume not in (None, "auto"):
        raise ConfigError(f"resume={cfg.resume} is one run", remedy="A search goes on with resume=auto.")
    if asked.config_name is not None:
        raise ConfigError(
            "trials are composed of the shipped train.yaml",
            where=f"--config-name {asked.config_name}",
            remedy="Put what it holds into an experiment: experiment=PATH.yaml.",
        )
    for key in _MANY:
        if cfg.get(key) is not None:
            raise ConfigError(f"a trial is one training, and {key} is many", remedy=f"Leave {key} out.")
    words = [word for word in asked.words if not _is_own(word)]
    config_dir = asked.config_dir
    trained = Asked("train", tuple(words), config_dir)
    base = compose_training(trained)

    def composed(more: Sequence[str]) -> DictConfig:
        """Of a trial; its plan keeps to what the trial has typed, and is the same in the rest."""
        trial = replace(trained, words=tuple(joined_words(words, more)))
        given = trial.given() if base.plan == "auto" else None
        return trial.compose() if given is None else compose_planned(trial, given, plain(base)["planned"] or [])

    space = read_space(plain(cfg.space), base, composed)
    val = (Path(cfg.data.root) / cfg.data.val).absolute()
    metric = metric_of(str(cfg.monitor))
    plan = {"words": words, "seed": int(cfg.seed), "space": [_as_plain(dimension) for dimension in space]}
    plan = begun_with(base, plan)
    series = open_series(cfg, PLAN, plan, "the search")
    flags = [] if config_dir is None else [f"--config-dir={config_dir}"]
    work = _Work(cfg, series.folder, space, metric, [*flags, *words], run_trial or TrialProcesses())
    if series.is_resumed and (dead := work.study().take_back_dead()):
        print(f"{dead} trials of processes that are gone are made again")
    print(f"Search in {series.folder}: {cfg.trials} trials, {cfg.jobs} at a time here")
    if not work.until_done(int(cfg.trials), int(cfg.jobs)):
        return None
    study = work.study()
    search = Search(series.folder, space, study.rows(), study.importances(), metric, words, {}, val)
    if not cfg.confirm or search.best is None or search.default is None:
        return search
    confirmed = work.confirm(search, int(cfg.confirm), int(cfg.jobs), int(cfg.seed))
    if confirmed is None:
        return None
    return Search(series.folder, space, search.rows, search.importances, metric, words, confirmed, val)


def joined_words(words: Sequence[str], more: Sequence[str]) -> list[str]:
    """Words of a command line and those that take the place of some: what is searched may have been typed as well."""
    replaced = {_key_of_word(word) for word in more}
    return [*(word for word in words if _key_of_word(word) not in replaced), *more]


def short_words(words: Sequence[str]) -> str:
    """Words with numbers of three digits: what is typed exactly stands in the experiment that is written."""
    short = []
    for word in words:
        key, _, value = word.partition("=")
        try:
            short.append(f"{key}={float(value):.3g}")
        except ValueError:
            short.append(word)
    return " ".join(short)


def _key_of_word(word: str) -> str:
    return word.lstrip("+~").partition("=")[0].replace("/", ".")


def _is_own(word: str) -> bool:
    return _key_of_word(word).partition(".")[0] in _OWN_KEYS


def _as_plain(dimension: Dimension) -> dict[str, Any]:
    return {"key": dimension.key, "choices": list(dimension.choices), "low": dimension.low, "high": dimension.high}


class _Work:
    """Trials one after another in each of several threads; each trial is a process."""

    def __init__(
        self,
        cfg: DictConfig,
        folder: Path,
        space: Sequence[Dimension],
        metric: tuple[str, str],
        words: Sequence[str],
        run_trial: "RunTrial",
    ) -> None:
        self._cfg, self._folder, self._space, self._metric = cfg, folder, list(space), metric
        self._words, self._run_trial = list(words), run_trial
        self._failures = 0
        self._printing = threading.Lock()
        self._stopping = threading.Event()

    def study(self) -> TrialStudy:
        """A study for one thread."""
        return TrialStudy(self._folder, self._space, int(self._cfg.seed), int(self._cfg.startup))

    def until_done(self, trials: int, jobs: int) -> bool:
        """Trains until there are so many trials; False when it was interrupted."""
        self.study()  # one writes the journal's beginning
        return self._in_threads([lambda: self._worker(trials, jobs)] * jobs, jobs)

    def confirm(self, search: Search, seeds: int, jobs: int, seed: int) -> Mapping[str, Sequence[Path]] | None:
        """Trains the best and the settings as they are with other seeds; None when it was interrupted."""
        best, default = search.best, search.default
        assert best is not None
        assert default is not None
        chosen = {"default": search.words_of(default), "best": search.words_of(best)}
        names = {
            f"confirm/{name}_seed{seed + number}": [*words, f"seed={seed + number}"]
            for number in range(1, seeds + 1)
            for name, words in chosen.items()
        }
        ended: dict[str, _Ended] = {}

        def train(name: str, words: Sequence[str]) -> None:
            if (done := newest_run(self._folder / name, "metrics.json")) is None:
                self._say(f"{name}: {short_words(words)}")
                ended[name] = self._trained(name, words, {}, jobs, lambda: None)
            else:
                ended[name] = _Ended(self._score(done), str(done.relative_to(self._folder)), "")

        if not self._in_threads([partial(train, name, words) for name, words in names.items()], jobs):
            return None
        for name, end in ended.items():
            if end.why == _INTERRUPTED:
                return None
            if end.score is None:
                raise FinemaskError(f"{name} failed: {end.why}", where=self._folder / f"{name}.log")
        return {
            of: [self._folder / ended[name].run for name in names if name.startswith(f"confirm/{of}_")] for of in chosen
        }

    def _in_threads(self, tasks: Sequence[Callable[[], None]], jobs: int) -> bool:
        """Does tasks, so many at a time; False where a person interrupted them, after the trainings have saved."""
        with termination_as_interruption(), ThreadPoolExecutor(jobs) as pool:
            futures = [pool.submit(task) for task in tasks]
            try:
                done, _ = wait(futures, return_when=FIRST_EXCEPTION)
                for future in done:
                    future.result()
            except KeyboardInterrupt:
                self._stop(futures)
                return False
            except BaseException:
                self._stop(futures)
                raise
        return not self._stopping.is_set()

    def _stop(self, futures: Sequence[Any]) -> None:
        self._stopping.set()
        for future in futures:
            future.cancel()
        if isinstance(self._run_trial, TrialProcesses):
            self._run_trial.stop()

    def _worker(self, trials: int, jobs: int) -> None:
        study = self.study()
        while not self._stopping.is_set():
            taken = study.next_trial(trials)
            if taken is None:
                return
            trial, values, is_default = taken
            words = [] if is_default else [word_of(key, value) for key, value in values.items()]
            name = f"trials/{trial.number:03d}"
            self._say(f"trial {trial.number}: {short_words(words) or 'the settings as they are'}")
            prune = bool(self._cfg.prune) and not is_default  # which the best is compared with
            place = TrialPlace(str(self._folder / JOURNAL), trial.number, prune, self._monitor)
            started = time.monotonic()
            alive = partial(study.sign_of_life, trial.number)
            end = self._trained(name, words, place.environment(), jobs, alive)
            if end.score is None and (self._stopping.is_set() or end.why == _INTERRUPTED):
                study.give_back(trial)
                self._stopping.set()
                return
            pruned = study.was_pruned(trial)
            study.tell(trial, end.score, end.run, pruned=pruned, why=end.why)
            self._say_end(trial.number, end, is_default, pruned, time.monotonic() - started)

    @property
    def _monitor(self) -> str:
        return f"val/{'_'.join(self._metric)}"

    def _trained(
        self, name: str, words: Sequence[str], environment: Mapping[str, str], jobs: int, alive: Callable[[], None]
    ) -> _Ended:
        """Makes one training in a process, with a sign of life now and then."""
        output = self._folder / f"{name}.log"
        output.parent.mkdir(parents=True, exist_ok=True)
        own = arguments({"output": str(self._folder), "name": name, "monitor": self._monitor})
        threads = {} if "OMP_NUM_THREADS" in os.environ else {"OMP_NUM_THREADS": str(max(1, cores() // jobs))}
        done = threading.Event()

        def beat() -> None:
            while not done.wait(ALIVE_S):
                alive()

        heart = threading.Thread(target=beat, daemon=True)
        heart.start()
        try:
            typed = joined_words(self._words, [*words, *own])
            code = self._run_trial(typed, {**threads, **environment}, output)
        finally:
            done.set()
            heart.join()
        run = newest_run(self._folder / name, "metrics.json")
        if code != 0 or run is None:
            return _Ended(None, "", _INTERRUPTED if code in _INTERRUPTING else last_words(output, code))
        score = self._score(run)
        return _Ended(score, str(run.relative_to(self._folder)), "" if score is not None else "there is no AP")

    def _score(self, run: Path) -> float | None:
        iou_type, key = self._metric
        score: float | None = read_json(run / "metrics.json", "the metrics of a run")[iou_type][key]
        return score

    def _say(self, line: str) -> None:
        with self._printing:
            print(line, flush=True)

    def _say_end(self, number: int, end: _Ended, is_default: bool, pruned: bool, seconds: float) -> None:
        with self._printing:
            if end.score is not None:
                self._failures = 0
                how = "pruned at" if pruned else self._metric[1]
                print(f"trial {number}: {how} {end.score:.4f} after {seconds:,.0f} s", flush=True)
                return
            self._failures += 1
            print(f"trial {number} failed: {end.why}", flush=True)
        if is_default or self._failures >= _MOST_FAILURES:
            raise FinemaskError(
                f"trial {number} failed: {end.why}",
                where=self._folder / f"trials/{number:03d}.log",
                remedy=f"{'' if is_default else 'So did those before it. '}Mend it, then go on with resume=auto.",
            )
