"""The study of a search: shared by processes, counted together, taken over from the dead; and it finds a maximum."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytest.importorskip("optuna", reason="the extra sweep")

from finemask.training.callbacks.pruning import Pruning, TrialPlace
from finemask.workflows.several_runs.search_space import Dimension
from finemask.workflows.several_runs.trial_study import JOURNAL, TrialStudy

SPACE = [
    Dimension("optimizer.lr", low=1e-4, high=1e-1, log=True, default=1e-3),
    Dimension("augment", choices=("none", "flip")),
]


HERE = (  # of another process
    "import sys, os; sys.path[:0] = sys.argv[2:]\n"
    "from pathlib import Path; from test_trial_study import make, study_in\n"
)


def study_in(folder, seed=0, startup=4):
    return TrialStudy(folder, SPACE, seed, startup)


def score_of(values):
    """Best at a rate of 0.02, with flips."""
    import math

    off = abs(math.log10(values.get("optimizer.lr", 1e-3)) - math.log10(0.02))
    return 0.8 - 0.2 * off - (0.0 if values.get("augment") == "flip" else 0.1)


def make(study, most):
    """Trials until there are enough; what was tried."""
    tried = []
    while (taken := study.next_trial(most)) is not None:
        trial, values, _ = taken
        tried.append((trial.number, values))
        study.tell(trial, score_of(values), f"trials/{trial.number:03d}")
    return tried


def test_the_first_is_of_the_settings_as_they_are_and_a_search_is_repeated(tmp_path):
    for name in "ab":
        (tmp_path / name).mkdir()
    first, second = (make(study_in(tmp_path / name), 12) for name in "ab")
    assert first[0] == (0, {"optimizer.lr": 1e-3}), "augment has a default outside the space: it is left as it is"
    assert first == second
    rows = study_in(tmp_path / "a").rows()
    assert [row.state for row in rows] == ["complete"] * 12
    assert [row.is_default for row in rows] == [True] + [False] * 11
    assert max(row.score for row in rows) > rows[0].score
    late = [row.values["optimizer.lr"] for row in rows[-4:]]
    assert sum(0.002 < rate < 0.1 for rate in late) >= 3, "it has learned where the good rates are"
    importances = study_in(tmp_path / "a").importances()
    assert set(importances) == {"optimizer.lr", "augment"}
    assert sum(importances.values()) == pytest.approx(1)


def test_several_processes_share_the_trials(tmp_path):
    study_in(tmp_path)
    script = HERE + "make(study_in(Path(sys.argv[1])), 9)"
    command = [sys.executable, "-c", script, str(tmp_path), str(Path(__file__).parent)]
    processes = [subprocess.Popen(command) for _ in range(2)]
    assert [process.wait() for process in processes] == [0, 0]
    rows = study_in(tmp_path).rows()
    assert [row.number for row in rows] == list(range(9)), "none too many, though each asks by itself"
    assert {row.state for row in rows} == {"complete"}
    assert study_in(tmp_path).importances() == {}, "nine trials do not tell what decides"


def test_what_failed_or_was_interrupted_is_not_counted(tmp_path):
    study = study_in(tmp_path)
    trial, _, is_default = study.next_trial(2)
    assert is_default
    study.give_back(trial)
    trial, values, is_default = study.next_trial(2)
    assert (values, is_default) == ({"optimizer.lr": 1e-3}, True), "the same again"
    study.tell(trial, None, "", why="error: no")
    assert make(study, 2)[0][1].keys() == {"optimizer.lr"}, "they have not run to their end yet"
    assert [row.state for row in study.rows()] == ["failed", "failed", "complete", "complete"]
    assert study.rows()[1].why == "error: no"


def test_trials_of_a_process_that_is_gone_are_made_again(tmp_path):
    script = HERE + "study_in(Path(sys.argv[1])).next_trial(3); os._exit(9)"
    subprocess.run([sys.executable, "-c", script, str(tmp_path), str(Path(__file__).parent)], check=False)
    study = study_in(tmp_path)
    assert [row.state for row in study.rows()] == ["running"]
    assert study.take_back_dead() == 1
    assert study.next_trial(3)[2], "the settings as they are, once more"
    assert study.take_back_dead() == 0, "this process lives"
    path = tmp_path / "alive" / "001"
    long_ago = time.time() - 1000
    os.utime(path, (long_ago, long_ago))
    assert study.take_back_dead() == 1, "or gives no sign of it"


class Ended:
    """What the callback reads of a trainer."""

    sanity_checking, is_global_zero, world_size, should_stop = False, True, 1, False

    def __init__(self, value):
        self.callback_metrics = {"val/segm_AP": value}
        self.state = type("State", (), {"fn": "fit"})


def test_a_trial_below_the_median_ends_itself_and_others_go_on(tmp_path):
    study = study_in(tmp_path)
    for height in (0.4, 0.5, 0.6):
        trial, _, _ = study.next_trial(9)
        for step, part in enumerate((0.5, 0.8, 1.0), start=1):
            trial.report(height * part, step)
        study.tell(trial, height, "run")
    ends = {}
    for last in (0.3, 0.45):
        trial, _, _ = study.next_trial(9)
        callback = Pruning(TrialPlace(str(tmp_path / JOURNAL), trial.number, True, "val/segm_AP"))
        trainers = [Ended(0.1), Ended(last)]
        for trainer in trainers:
            callback.on_validation_end(trainer, None)
        ends[last] = [trainer.should_stop for trainer in trainers]
        assert study.was_pruned(trial) == (last == 0.3)
        study.tell(trial, last, "run", pruned=study.was_pruned(trial))
    assert ends == {0.3: [False, True], 0.45: [False, False]}, "the median at the second evaluation is 0.4"
    assert [row.state for row in study.rows()][3:] == ["pruned", "complete"]


def test_a_trial_that_may_not_be_pruned_only_reports(tmp_path):
    study = study_in(tmp_path)
    for _ in range(3):
        trial, _, _ = study.next_trial(9)
        for step in (1, 2):
            trial.report(0.9, step)
        study.tell(trial, 0.9, "run")
    trial, _, _ = study.next_trial(9)
    callback = Pruning(TrialPlace(str(tmp_path / JOURNAL), trial.number, False, "val/segm_AP"))
    for _ in range(3):
        trainer = Ended(float("nan"))
        callback.on_validation_end(trainer, None)
        assert not trainer.should_stop
    assert study.rows()[3].score == 0.0
