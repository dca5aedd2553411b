"""A search: trials of processes, what fails, what is interrupted, what is written; and a real one, slowly."""

import csv
import json
import os
import shlex
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from run_cases import SMALL_RUN

pytest.importorskip("optuna", reason="the extra sweep")

from finemask.cli import main as cli
from finemask.config import compose, plain
from finemask.config.composing import Asked
from finemask.data.shapes import draw_shapes
from finemask.errors import ConfigError, FinemaskError
from finemask.evaluation.evaluator import CocoEvaluator
from finemask.evaluation.ground_truth import load_ground_truth
from finemask.evaluation.numbers.pycocotools_reference import ground_truth_as_predictions
from finemask.ops.files.atomic_files import write_json
from finemask.workflows.running.compose_training import compose_training
from finemask.workflows.several_runs.search_result import write_search
from finemask.workflows.several_runs.search_settings import run_search
from finemask.workflows.several_runs.search_space import joined_words


@pytest.fixture(scope="module")
def shapes(tmp_path_factory):
    return draw_shapes(tmp_path_factory.mktemp("shapes") / "data", images=30, size=64, seed=1, val_fraction=0.5)


SPACE = ["~space.optimizer.weight_decay", "~space.transfer", "augment=flip"]


def search_config(root, output, *words, trials=6, jobs=1):
    typed = [*SMALL_RUN, f"data.root={root}", f"output={output}", "data.check=false", *SPACE, f"trials={trials}"]
    asked = Asked("sweep", (*typed, f"jobs={jobs}", *words))
    return asked.compose(), asked


class StubTraining:
    """Trials that find more of the objects, the nearer their rate is to 0.001; without a model."""

    def __init__(self, root, fails=(), interrupted_at=None):
        self.words, self.environments = [], []
        self._root, self._fails, self._interrupted_at = root, fails, interrupted_at
        self._lock = threading.Lock()

    def __call__(self, words, environment, output):
        with self._lock:
            self.words.append(list(words))
            self.environments.append(dict(environment))
            number = len(self.words) - 1
        if number == self._interrupted_at:
            return 130
        if number in self._fails:
            output.write_text("…\nerror: the training has diverged\nsomething else\n")
            return 2
        typed = dict(word.split("=", 1) for word in words)
        rate, seed = float(typed.get("optimizer.lr", 0.0005)), int(typed.get("seed", 0))
        truth = load_ground_truth(self._root / "annotations/val.json")
        share = 0.9 - 0.4 * abs(np.log10(rate) + 3)
        random = np.random.default_rng(seed)
        kept = [result for result in ground_truth_as_predictions(truth) if random.random() < share]
        evaluator = CocoEvaluator(truth, backend="pycocotools")
        evaluator.add_results(kept)
        run = Path(typed["output"].strip("'")) / typed["name"].strip("'") / "2026-01-01_00-00-00"
        run.mkdir(parents=True)
        write_json(run / "predictions.json", kept)
        write_json(run / "metrics.json", evaluator.compute())
        return 0


def test_a_search_finds_better_settings_and_says_how_sure_that_is(shapes, tmp_path):
    training = StubTraining(shapes)
    search = run_search(*search_config(shapes, tmp_path, "confirm=2", trials=8), training)
    assert [row.state for row in search.rows] == ["complete"] * 8
    assert search.default.number == 0
    assert search.best.score == max(row.score for row in search.rows) > search.default.score
    assert "optimizer.lr" not in " ".join(training.words[0]), "the settings as they are"
    places = [json.loads(environment["FINEMASK_TRIAL"]) for environment in training.environments[:8]]
    assert [place["number"] for place in places] == list(range(8))
    assert [place["prune"] for place in places] == [False] + [True] * 7
    assert [word for words in training.words[8:] for word in words if word.startswith("seed=")] == [
        f"seed={seed}" for seed in (1, 1, 2, 2)
    ]
    content, paths = write_search(search, "mine")
    assert content["versus_default"]["b"] == pytest.approx(search.best.score)
    assert content["versus_default"]["rivals"] == 7
    assert 0 <= content["versus_default"]["p_value_of_the_best"] <= 1
    assert content["confirmed"]["seeds"] == 2
    assert "Trained anew with 2 other seeds each" in content["text"]
    assert content["text"] in paths[1].read_text()
    assert [path.name for path in paths] == ["search.json", "index.html", "best.yaml"]
    best = compose("train", ["experiment=best", "data.root=x"], config_dir=search.folder)
    assert best.optimizer.lr == pytest.approx(search.best.values["optimizer.lr"])


def test_the_search_is_around_what_the_plan_decides(shapes, tmp_path):
    """Trials are trainings with ``plan=auto``, and the settings as they are have the plan's rate."""
    words = ("model=light", f"data.root={shapes}", f"output={tmp_path}")
    planned = compose_training(Asked("train", words))
    assert planned.optimizer.lr != compose("train", [*words, "plan=none"]).optimizer.lr, "the batch moves it"
    asked = Asked("sweep", (*words, "trials=3", "~space.transfer"))
    training = StubTraining(shapes)
    search = run_search(asked.compose(), asked, training)
    space = {dimension.key: dimension for dimension in search.space}
    assert space["optimizer.lr"].default == planned.optimizer.lr
    assert space["optimizer.lr"].low == pytest.approx(planned.optimizer.lr / 5)
    assert space["augment"].default == "light", "typed, it is what nobody typed"
    assert not any(word.startswith("plan=") for words in training.words for word in words)
    begun = json.loads((search.folder / "search_plan.json").read_text())
    assert begun["planned"] == plain(planned)["planned"]


def test_what_is_searched_may_be_typed_as_well():
    words = ["augment=flip", "model.mask_loss=bce", "data.root=x"]
    assert joined_words(words, ["augment=light", "model/mask_loss=dice_bce"]) == [
        "data.root=x",
        "augment=light",
        "model/mask_loss=dice_bce",
    ]


def test_trials_at_the_same_time(shapes, tmp_path):
    training = StubTraining(shapes)
    search = run_search(*search_config(shapes, tmp_path, jobs=3), training)
    assert sorted(row.number for row in search.rows) == list(range(6))
    assert len({row.run for row in search.rows}) == 6


def test_one_that_fails_is_said_and_the_search_goes_on(shapes, tmp_path, capsys):
    search = run_search(*search_config(shapes, tmp_path, trials=4), StubTraining(shapes, fails=(2,)))
    assert [row.state for row in search.rows] == ["complete", "complete", "failed", "complete", "complete"]
    assert "trial 2 failed: error: the training has diverged" in capsys.readouterr().out


def test_three_in_a_row_or_the_settings_as_they_are_end_it(shapes, tmp_path):
    with pytest.raises(FinemaskError, match="trial 0 failed: error: the training has diverged"):
        run_search(*search_config(shapes, tmp_path / "a"), StubTraining(shapes, fails=(0,)))
    with pytest.raises(FinemaskError, match="So did those before it") as refused:
        run_search(*search_config(shapes, tmp_path / "b"), StubTraining(shapes, fails=(2, 3, 4)))
    assert "trial 4 failed" in str(refused.value)


def test_an_interrupted_search_goes_on_and_another_joins(shapes, tmp_path):
    assert run_search(*search_config(shapes, tmp_path), StubTraining(shapes, interrupted_at=2)) is None
    search = run_search(*search_config(shapes, tmp_path, "resume=auto"), StubTraining(shapes))
    states = [row.state for row in search.rows]
    assert states.count("complete") == 6
    assert states[2] == "failed"
    assert search.rows[2].values == search.rows[3].values, "made again"
    assert len(list((tmp_path / "sweep").glob("2*"))) == 1, "one search"
    with pytest.raises(FinemaskError, match="has other words"):
        run_search(*search_config(shapes, tmp_path, "resume=auto", "trainer.max_epochs=9"), StubTraining(shapes))


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["~space"], "space"),
        (["+space.optimizer.rate=[0.1,0.2]"], "unknown key 'optimizer.rate'"),
        (["trials=0"], "trials cannot be 0"),
        (["data.val=null"], "a search needs validation images"),
        (["optimizer.lr=-1"], "optimizer.lr cannot be -1"),
        (["n_trials=30"], "Type: trials=30"),
        (["folds=3"], "a trial is one training, and folds is many"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_written(shapes, tmp_path, capsys, monkeypatch, words, why):
    monkeypatch.chdir(tmp_path)
    assert cli(["sweep", f"data.root={shapes}", "model=tiny", *words]) == 2
    assert why in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "runs").exists()


def test_a_primary_configuration_of_ones_own_is_refused(shapes, tmp_path):
    cfg, asked = search_config(shapes, tmp_path)
    with pytest.raises(ConfigError, match=r"--config-name mine: trials are composed of the shipped train\.yaml"):
        run_search(cfg, replace(asked, config_name="mine"), StubTraining(shapes))


def test_without_optuna_the_extra_is_named(shapes, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    assert cli(["sweep", f"data.root={shapes}", "model=tiny"]) == 2
    assert "pip install 'finemask[sweep]'" in " ".join(capsys.readouterr().err.split())


@pytest.mark.slow
def test_a_real_search_of_twelve_trials_in_three_processes(shared_dir, tmp_path):
    """On photographs, with rates from far too low ones to far too high ones: some trials end before their time."""
    data = ["model=light", "model.min_size=128", "model.max_size=192", f"data.root={shared_dir}/datasets/fruits_nuts"]
    short = [
        "trainer.max_epochs=4",
        "trainer.check_val_every_n_epoch=1",
        "trainer.accelerator=cpu",
        "data.num_workers=0",
    ]
    space = ["space.optimizer.lr.times=[0.002,20]", "~space.optimizer.weight_decay", "~space.transfer"]
    words = [*data, *short, *space, "callbacks=none", "logger=csv", f"output={tmp_path}"]
    command = [sys.executable, "-m", "finemask", "sweep", *words, "trials=12", "jobs=3", "confirm=1"]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ}, check=False)
    assert done.returncode == 0, shlex.join(command) + done.stdout + done.stderr
    (folder,) = (tmp_path / "sweep").glob("2*")
    content = json.loads((folder / "search.json").read_text())
    trials = content["trials"]
    states = [trial["state"] for trial in trials]
    assert len(states) == 12
    assert set(states) == {"complete", "pruned"}
    best = max(trial["score"] for trial in trials if trial["state"] == "complete")
    assert all(trial["score"] < best for trial in trials if trial["state"] == "pruned")
    evaluations = {trial["number"]: _evaluations(folder / trial["run"] / "metrics.csv") for trial in trials}
    assert {evaluations[trial["number"]] for trial in trials if trial["state"] == "complete"} == {4}
    assert min(evaluations[trial["number"]] for trial in trials if trial["state"] == "pruned") in (2, 3)
    assert (folder / "index.html").is_file()
    assert content["text"] in " ".join(done.stdout.split()) or content["text"] in done.stdout


def _evaluations(path):
    with path.open(newline="") as file:
        return sum(bool(row["val/segm_AP"]) for row in csv.DictReader(file))
