"""The trainings of a run of folds, one after another, and what each may take of a time budget for everything."""

import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from finemask.datatools.split.split_files import Split, write_split
from finemask.ops.files.run_folders import MODEL_FILE
from finemask.ops.wording import plural
from finemask.training.callbacks.speed import format_duration
from finemask.training.console import progress_alone
from finemask.workflows.build_trainer import budget_seconds
from finemask.workflows.finish_run import TrainedRun
from finemask.workflows.several_runs.run_series import RunSeries

_NEVER = 1_000_000  # epochs between evaluations: the last weights are evaluated, and no others
_REPORT_S = 20.0  # of a budget: scoring the folds, and their report

TrainOne = Callable[[DictConfig, Mapping[str, Any] | None], TrainedRun | None]


class FoldTrainings:
    """K trainings a seed, each without one fold, and one on all images.

    Args:
        cfg: of the verb ``train``.
        series: where they are kept; those that have ended are not made again.
        started: ``time.monotonic()`` from which the budget counts.
        runs: how many there are in all.
        train_one: makes a run of a configuration; the metrics are what the model file is to state.
    """

    def __init__(self, cfg: DictConfig, series: RunSeries, started: float, runs: int, train_one: TrainOne) -> None:
        self._cfg, self._series, self._train_one = cfg, series, train_one
        self._runs, self._done, self._has_shown = runs, 0, False
        self._budget = budget_seconds(cfg)
        self._started = started
        self._spent_before = 0.0

    def say_beginning(self, images: int) -> None:
        """What is to come."""
        share = ""
        if self._budget is not None:
            share = f"; {format_duration(self._share())} each, {format_duration(self._budget)} in all"
        print(f"{self._runs} trainings on {plural(images, 'image')}: {self._runs - 1} without a fold, 1 on all{share}")

    def folds_of(self, seed: int, split: Split) -> list[Path] | None:
        """The folders of the runs of a seed; None when one was interrupted."""
        folder = self._series.folder / "splits" / f"seed{seed}"
        if not folder.is_dir():
            write_split(folder, split, True, {"seed": seed})
        found = []
        for fold in split.names:
            changes = {
                "seed": seed,
                "data.train": str(folder / fold / "train.json"),
                "data.val": str(folder / fold / "val.json"),
                "data.test": None,
            }
            run = self._run(f"seed{seed}/{fold}", changes, f"seed {seed}, {fold} of {len(split.names)}")
            if run is None:
                return None
            found.append(run)
        return found

    def final(self, pooled: str, measured: Mapping[str, Any]) -> Path | None:
        """The folder of the run on all images; None when it was interrupted."""
        changes = {"data.train": pooled, "data.val": None}
        return self._run("all_images", changes, "all images, for the model", measured)

    def _run(
        self, name: str, changes: Mapping[str, Any], what: str, measured: Mapping[str, Any] | None = None
    ) -> Path | None:
        done = self._series.finished(name, MODEL_FILE)
        self._done += 1
        if done is not None:
            if self._budget is not None:
                self._spent_before += self._budget / self._runs
            return done
        print(f"\n== training {self._done} of {self._runs}: {what}")
        own = {**changes, "trainer.check_val_every_n_epoch": _NEVER}
        if self._budget is not None:
            own |= {"budget": f"{self._share():.1f}s", "trainer.max_time": None}
        with progress_alone() if self._has_shown else nullcontext():
            finished = self._train_one(self._series.config(self._cfg, name, own), measured)
        self._has_shown = True
        return None if finished is None else finished.model_path.parent.resolve()

    def _share(self) -> float:
        """Seconds of the next training: what is left of the budget, in equal parts."""
        assert self._budget is not None
        spent = time.monotonic() - self._started + self._spent_before
        left = self._budget - spent - min(_REPORT_S, 0.1 * self._budget)
        return max(1.0, left / max(1, self._runs - max(0, self._done - 1)))
