"""A search of settings: trials in processes of their own, in a study that others may share; and what came of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from finemask.config import plain
from finemask.config.composing import Asked
from finemask.errors import ConfigError
from finemask.workflows.data.plan_training import compose_planned
from finemask.workflows.running.compose_training import compose_training
from finemask.workflows.several_runs.run_series import begun_with, metric_of, open_series
from finemask.workflows.several_runs.search_space import Dimension, joined_words, key_of_word, read_space, word_of
from finemask.workflows.several_runs.trial_processes import RunTrial, SearchTrials
from finemask.workflows.several_runs.trial_study import TrialRow, need_optuna

PLAN = "search_plan.json"
_OWN_KEYS = ("space", "trials", "jobs", "startup", "prune", "confirm", "name", "output", "resume")
_MANY = ("folds", "learning_curve")  # which are many trainings themselves


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


def run_search(cfg: DictConfig, asked: Asked, run_trial: RunTrial | None = None) -> Search | None:
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
    work = SearchTrials(cfg, series.folder, space, metric, [*flags, *words], run_trial)
    if series.is_resumed and (dead := work.study().take_back_dead()):
        print(f"{dead} trials of processes that are gone are made again")
    print(f"Search in {series.folder}: {cfg.trials} trials, {cfg.jobs} at a time here")
    if not work.until_done(int(cfg.trials), int(cfg.jobs)):
        return None
    study = work.study()
    search = Search(series.folder, space, study.rows(), study.importances(), metric, words, {}, val)
    if not cfg.confirm or search.best is None or search.default is None:
        return search
    chosen = {"default": search.words_of(search.default), "best": search.words_of(search.best)}
    confirmed = work.confirm(chosen, int(cfg.confirm), int(cfg.jobs), int(cfg.seed))
    if confirmed is None:
        return None
    return Search(series.folder, space, search.rows, search.importances, metric, words, confirmed, val)


def _is_own(word: str) -> bool:
    return key_of_word(word).partition(".")[0] in _OWN_KEYS


def _as_plain(dimension: Dimension) -> dict[str, Any]:
    return {"key": dimension.key, "choices": list(dimension.choices), "low": dimension.low, "high": dimension.high}
