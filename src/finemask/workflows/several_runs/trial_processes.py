"""The trials of a search: each a process of its own, some at a time, all known to a study that others may share."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from omegaconf import DictConfig

from finemask.config import arguments
from finemask.errors import INTERRUPTED, FinemaskError
from finemask.machine.hardware import cores
from finemask.machine.processes import termination_as_interruption
from finemask.ops.files.documents import read_json
from finemask.ops.files.run_folders import newest_run
from finemask.training.callbacks.pruning import TrialPlace
from finemask.workflows.several_runs.search_space import Dimension, joined_words, short_words, word_of
from finemask.workflows.several_runs.trial_study import ALIVE_S, JOURNAL, TrialStudy

_MOST_FAILURES = 3  # in a row: what fails is not the values
_INTERRUPTED, _INTERRUPTING = "interrupted", (INTERRUPTED, -signal.SIGINT, -signal.SIGTERM)
RunTrial = Callable[[Sequence[str], Mapping[str, str], Path], int]
_TAIL = 3  # lines of a trial's output in a message


class TrialProcesses:
    """Trainings in processes of their own: a process gives back all memory, and takes no other with it when it dies."""

    def __init__(self) -> None:
        self._processes: set[subprocess.Popen[bytes]] = set()

    def __call__(self, words: Sequence[str], environment: Mapping[str, str], output: Path) -> int:
        """Trains with these words, prints into a file, and gives the exit code."""
        command = [sys.executable, "-m", "finemask", "train", *words]
        with output.open("ab") as file:
            process = subprocess.Popen(command, stdout=file, stderr=file, env={**os.environ, **environment})
            self._processes.add(process)
            try:
                return process.wait()
            finally:
                self._processes.discard(process)

    def stop(self) -> None:
        """Asks all to save and end."""
        for process in list(self._processes):
            process.terminate()


def _last_words(output: Path, code: int) -> str:
    """Why a training failed, by what it said last."""
    text = output.read_text(encoding="utf-8", errors="replace") if output.is_file() else ""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    said = next((line for line in reversed(lines) if line.startswith("error: ")), None)
    return said or f"exit code {code}: {' / '.join(lines[-_TAIL:]) or 'it said nothing'}"


class _Ended(NamedTuple):
    score: float | None
    run: str
    why: str


class SearchTrials:
    """Trials one after another in each of several threads; each trial is a process.

    Args:
        cfg: of the verb ``sweep``.
        folder: of the search.
        space: what is varied.
        metric: that is searched for: masks or boxes, and COCO's name.
        words: of the command line that the trials share.
        run_trial: makes a trial of the words of ``finemask train``, an addition to the environment and a file for its
            output; returns the exit code.
    """

    def __init__(
        self,
        cfg: DictConfig,
        folder: Path,
        space: Sequence[Dimension],
        metric: tuple[str, str],
        words: Sequence[str],
        run_trial: RunTrial | None = None,
    ) -> None:
        self._cfg, self._folder, self._space, self._metric = cfg, folder, list(space), metric
        self._words, self._run_trial = list(words), run_trial or TrialProcesses()
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

    def confirm(
        self, chosen: Mapping[str, Sequence[str]], seeds: int, jobs: int, seed: int
    ) -> Mapping[str, Sequence[Path]] | None:
        """Trains each of the chosen with so many further seeds.

        Args:
            chosen: words by name.
            seeds: further ones.
            jobs: trainings at a time.
            seed: that all have been trained with already.

        Returns:
            The folders of the runs by name; None when it was interrupted.
        """
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
            return _Ended(None, "", _INTERRUPTED if code in _INTERRUPTING else _last_words(output, code))
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
