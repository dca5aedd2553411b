"""Folds: every image predicted by a training that has not seen it, scored once; the model of all images."""

import json
from pathlib import Path

import numpy as np
import pytest
from run_cases import small_run, small_words

from finemask.cli import main as cli
from finemask.config import plain
from finemask.config.composing import Asked
from finemask.data.shapes import draw_shapes
from finemask.errors import ConfigError
from finemask.evaluation.evaluator import CocoEvaluator
from finemask.evaluation.ground_truth import load_ground_truth
from finemask.evaluation.numbers.pycocotools_reference import ground_truth_as_predictions
from finemask.ops.files.atomic_files import write_json
from finemask.training.run_dir import choose_run, close_run, open_run
from finemask.workflows.compare_models import compare_models
from finemask.workflows.finish_run import TrainedRun
from finemask.workflows.running.compose_training import compose_training
from finemask.workflows.several_runs.folds import POOLED, compose_folds, run_folds
from finemask.workflows.train_model import train


@pytest.fixture(scope="module")
def shapes(tmp_path_factory):
    return draw_shapes(tmp_path_factory.mktemp("shapes") / "data", images=30, size=64, seed=1, val_fraction=0.2)


class StubTraining:
    """Runs that find a part of the objects of their fold, another one by seed; without a model."""

    def __init__(self, interrupt_at=None):
        self.configs, self.measured = [], []
        self.interrupt_at = interrupt_at

    def __call__(self, cfg, measured):
        self.configs.append(cfg)
        self.measured.append(measured)
        if len(self.configs) == self.interrupt_at:
            return None
        run = choose_run(Path(cfg.output), str(cfg.name), cfg.resume)
        close_run()
        open_run(run)
        metrics = {}
        if cfg.data.val is not None:
            truth = load_ground_truth(cfg.data.val)
            perfect = ground_truth_as_predictions(truth)
            random = np.random.default_rng(cfg.seed)
            kept = [result for result in perfect if random.random() < 0.5 + 0.1 * cfg.seed]
            evaluator = CocoEvaluator(truth, backend="pycocotools")
            evaluator.add_results(kept)
            metrics = evaluator.compute()
            write_json(run.folder / "metrics.json", metrics)
            write_json(run.folder / "predictions.json", kept)
        (run.folder / "model.safetensors").write_bytes(b"weights")
        return TrainedRun(metrics, run.folder / "model.safetensors", [])


def folds_config(root, output, *overrides, folds=3, seeds=2):
    return small_run(root, output, f"folds={folds}", f"seeds={seeds}", *overrides)


@pytest.fixture(scope="module")
def stubbed(shapes, tmp_path_factory):
    training = StubTraining()
    return run_folds(folds_config(shapes, tmp_path_factory.mktemp("runs")), train_one=training), training


def image_names(file):
    return [image["file_name"] for image in json.loads(Path(file).read_text())["images"]]


def test_each_image_is_held_out_once_a_seed(stubbed, shapes):
    """Of train and val together: the folds divide them, and each training sees what its fold leaves."""
    found, training = stubbed
    everything = sorted(image_names(shapes / "annotations/train.json") + image_names(shapes / "annotations/val.json"))
    assert sorted(image_names(found.folder / POOLED)) == everything
    assert [cfg.seed for cfg in training.configs[:-1]] == [0, 0, 0, 1, 1, 1]
    for start in (0, 3):
        held_out = [image_names(cfg.data.val) for cfg in training.configs[start : start + 3]]
        assert sorted(name for names in held_out for name in names) == everything
        assert [len(names) for names in held_out] == [10, 10, 10]
        for cfg, names in zip(training.configs[start : start + 3], held_out, strict=True):
            assert sorted(image_names(cfg.data.train) + names) == everything
    assert image_names(training.configs[0].data.val) != image_names(training.configs[3].data.val)


def test_nothing_is_chosen_by_the_images_of_a_fold(stubbed):
    _, training = stubbed
    for cfg in training.configs:
        assert cfg.trainer.check_val_every_n_epoch > cfg.trainer.max_epochs
        assert (cfg.folds, cfg.seeds, cfg.prepare) == (None, 1, None)


def test_the_last_training_has_all_images_and_states_the_numbers_of_the_folds(stubbed):
    found, training = stubbed
    last = training.configs[-1]
    assert (last.data.train, last.data.val) == (str(found.folder / POOLED), None)
    assert training.measured[:-1] == [None] * 6
    metrics = json.loads((found.folder / "metrics.json").read_text())
    assert training.measured[-1]["segm"] == metrics["segm"]
    assert found.trained.model_path.read_bytes() == b"weights"
    assert found.trained.model_path.parent == found.folder


def test_pooled_predictions_are_scored_once_a_seed(stubbed):
    """The mean of the folds' APs is another number than the AP of all of them together."""
    found, _ = stubbed
    content = json.loads((found.folder / "folds.json").read_text())
    truth = load_ground_truth(found.folder / POOLED)
    aps = []
    for row in content["seeds"]:
        evaluator = CocoEvaluator(truth, backend="pycocotools")
        for fold in row["folds"]:
            evaluator.add_results(json.loads((found.folder / fold["run"] / "predictions.json").read_text()))
        aps.append(evaluator.compute()["segm"]["AP"])
        assert row["AP"] == pytest.approx(aps[-1], abs=1e-12)
    assert content["segm"]["AP"]["mean"] == pytest.approx(np.mean(aps))
    assert content["segm"]["AP"]["deviation"] == pytest.approx(np.std(aps, ddof=1))
    low, high = content["segm"]["AP"]["interval"]
    assert 0 <= low < min(aps) < max(aps) < high <= 1, "two seeds say little"
    shown = next(row for row in content["seeds"] if row["seed"] == content["shown_seed"])
    metrics = json.loads((found.folder / "metrics.json").read_text())
    assert metrics["segm"]["AP"] == pytest.approx(shown["AP"])
    assert metrics["images"] == 30


def test_the_report_says_whose_numbers_these_are(stubbed):
    found, _ = stubbed
    page = (found.folder / "report/index.html").read_text()
    assert found.content["text"] in page
    assert "one split is luck" in page
    assert "trained on all 30 images" in page
    single = [fold["AP"] for row in found.content["seeds"] for fold in row["folds"]]
    assert f"from {min(single):.3f} to {max(single):.3f}" in page


def test_compare_takes_all_seeds(stubbed, shapes, tmp_path):
    """Of a run with itself there is no difference; of one seed more the means are compared."""
    found, _ = stubbed
    other = run_folds(folds_config(shapes, tmp_path, "seed=3", seeds=1), train_one=StubTraining())
    options = {"annotations": None, "images": None, "split": "val", "iou_types": "auto", "max_detections": "auto"}
    options |= {"a": found.folder.parent / "latest", "b": other.folder, "examples": 1, "output": tmp_path / "compared"}
    content, _ = compare_models(options)
    assert (content["a"]["seeds"], content["b"]["seeds"]) == (2, 1)
    row = content["segm"]["AP"]
    assert row["a"] == pytest.approx(found.content["segm"]["AP"]["mean"])
    assert row["b"] == pytest.approx(other.content["segm"]["AP"]["mean"])
    images_alone = {**options, "a": found.folder / "predictions_seed0.json", "annotations": found.folder / POOLED}
    narrow = compare_models(images_alone)[0]["segm"]["AP"]["interval"]
    assert row["interval"][1] - row["interval"][0] > narrow[1] - narrow[0], "it holds what other seeds would change"
    assert -1 <= row["interval"][0] < row["interval"][1] <= 1


def test_interrupted_folds_go_on_where_they_stopped(shapes, tmp_path):
    assert run_folds(folds_config(shapes, tmp_path), train_one=StubTraining(interrupt_at=5)) is None
    again = StubTraining()
    found = run_folds(folds_config(shapes, tmp_path, "resume=auto"), train_one=again)
    assert [cfg.name for cfg in again.configs] == ["seed1/fold2", "seed1/fold3", "all_images"]
    assert len(found.content["seeds"]) == 2
    with pytest.raises(ConfigError, match="has other folds"):
        run_folds(folds_config(shapes, tmp_path, "resume=auto", folds=5), train_one=again)


def test_a_budget_is_for_everything(shapes, tmp_path):
    """Seven trainings of 700 s, with room for the report: each is given no more than its part of what is left."""
    training = StubTraining()
    run_folds(folds_config(shapes, tmp_path, "budget=700s"), train_one=training)
    shares = [float(cfg.budget.removesuffix("s")) for cfg in training.configs]
    assert shares[0] == pytest.approx(680 / 7, abs=3)
    assert all(share <= 680 / (7 - number) + 0.1 for number, share in enumerate(shares))


def test_the_plan_is_made_once_for_all_trainings(shapes, tmp_path):
    """Of the training file, as for one training; not anew of what each fold leaves."""
    words = ("model=light", f"data.root={shapes}", f"output={tmp_path}")
    alone = compose_training(Asked("train", words))
    assert alone.planned, "the shapes ask for something"
    cfg = compose_folds(Asked("train", (*words, "folds=3")))
    training = StubTraining()
    found = run_folds(cfg, train_one=training)
    assert len(training.configs) == 4
    for run in training.configs:
        assert run.planned == alone.planned
        assert (run.data.batch_size, run.optimizer.lr) == (alone.data.batch_size, alone.optimizer.lr)
    begun = json.loads((found.folder / "folds_plan.json").read_text())
    assert begun["planned"] == plain(alone)["planned"]


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["folds=1"], "at least 2"),
        (["seeds=3"], "seeds=3 without folds"),
        (["folds=3", "trainer.devices=2"], "trainer.devices=1"),
        (["folds=3", "data.held_out=1/2"], "data.held_out=1/2 with folds"),
        (["folds=3", "learning_curve=[0.2,0.5,1.0]"], "two different questions"),
        (["folds=31"], "31 parts cannot be made of 30 images"),
        (["folds=3", "group_by=nothing_of_the_kind"], "matches none of the 30 file names"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_written(shapes, tmp_path, capsys, monkeypatch, words, why):
    monkeypatch.chdir(tmp_path)
    assert cli(["train", f"data.root={shapes}", "model=tiny", *words]) == 2
    assert why in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "runs").exists()


def test_from_python_train_points_to_the_function(shapes):
    with pytest.raises(ConfigError, match="cross_validate"):
        train(shapes, ["folds=3"])


def test_the_whole_way_with_a_tiny_model(tmp_path, capsys, monkeypatch):
    """Without a validation file: it is not needed. The model of all images is predicted with, and has thresholds."""
    monkeypatch.chdir(tmp_path)
    few = draw_shapes(tmp_path / "few", images=8, size=64, seed=1, val_fraction=0.25)
    (few / "annotations/val.json").unlink()
    words = small_words(few, tmp_path / "runs", "trainer.max_epochs=1", "folds=2")
    assert cli(["train", *words]) == 0
    said = capsys.readouterr().out
    folder = (tmp_path / "runs/small/latest").resolve()
    content = json.loads((folder / "folds.json").read_text())
    assert content["text"] in said
    assert said.count("Model: ") == 1, "the tables are shown of the first training"
    assert "the numbers are those of the folds" in said
    assert (content["images"], content["folds"]) == (6, 2)
    from finemask.model_file import read_header

    header = read_header(folder / "model.safetensors")
    assert header.metrics["segm"] == json.loads((folder / "metrics.json").read_text())["segm"]
    assert header.metrics["images"] == 6
    assert not (folder / content["model"] / "metrics.json").exists(), "nothing was measured on what it has seen"
