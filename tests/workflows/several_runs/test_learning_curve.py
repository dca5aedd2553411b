"""Learning curves: nested parts, runs of equal length, what is written, going on, and what is refused."""

import json
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from run_cases import small_run, small_words

from finemask.cli import main as cli
from finemask.data.shapes import draw_shapes
from finemask.errors import ConfigError
from finemask.evaluation.evaluator import CocoEvaluator
from finemask.evaluation.ground_truth import load_ground_truth
from finemask.evaluation.numbers.pycocotools_reference import ground_truth_as_predictions
from finemask.ops.files.atomic_files import write_json
from finemask.training.run_dir import choose_run, close_run, open_run
from finemask.workflows.finish_run import TrainedRun
from finemask.workflows.several_runs import learning_curve as workflow
from finemask.workflows.several_runs.learning_curve import PLAN, RESULT, choose_images, part_size, run_learning_curve


@pytest.fixture(scope="module")
def shapes(tmp_path_factory):
    return draw_shapes(tmp_path_factory.mktemp("shapes") / "data", images=40, size=64, seed=1, val_fraction=0.5)


class StubTraining:
    """Runs that find more of the validation objects, the more images they were given; without a model."""

    def __init__(self, interrupt_at=None):
        self.configs = []
        self.interrupt_at = interrupt_at

    def __call__(self, cfg):
        self.configs.append(cfg)
        if len(self.configs) == self.interrupt_at:
            return None
        run = choose_run(Path(cfg.output), str(cfg.name), cfg.resume)
        close_run()
        open_run(run)
        run_dir = run.folder
        images = len(json.loads(Path(cfg.data.train).read_text())["images"])
        truth = load_ground_truth(Path(cfg.data.root) / cfg.data.val)
        perfect = ground_truth_as_predictions(truth)
        kept = [r for k, r in enumerate(perfect) if (k * 7) % 20 < 20 * (1 - images**-0.5)]
        evaluator = CocoEvaluator(truth, backend="pycocotools")  # needs no check against itself
        evaluator.add_results(kept)
        metrics = evaluator.compute()
        write_json(run_dir / "metrics.json", metrics)
        write_json(run_dir / "predictions.json", kept)
        return TrainedRun(metrics, run_dir / "model.safetensors", [])


def curve_config(root, output, *overrides, fractions="[0.2,1.0,0.5]"):
    return small_run(root, output, f"learning_curve={fractions}", *overrides)


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 400), st.integers(0, 2**32 - 1), st.lists(st.floats(0.01, 1), min_size=2, max_size=5))
def test_parts_lie_inside_one_another(images, seed, fractions):
    counts = sorted(part_size(fraction, images) for fraction in fractions)
    parts = [choose_images(count, images, seed) for count in counts]
    for smaller, larger in pairwise(parts):
        assert set(smaller) <= set(larger)
    for count, part in zip(counts, parts, strict=True):
        assert part == sorted(set(part))
        assert len(part) == count
        assert 0 <= part[0] <= part[-1] < images
    assert choose_images(images, images, seed) == list(range(images))


def test_another_seed_chooses_other_images():
    assert choose_images(50, 100, 0) != choose_images(50, 100, 1)


@pytest.fixture(scope="module")
def stubbed(shapes, tmp_path_factory):
    training = StubTraining()
    curve = run_learning_curve(curve_config(shapes, tmp_path_factory.mktemp("runs")), training)
    return curve, training


def test_each_fraction_is_a_run_of_its_own(stubbed, shapes):
    curve, training = stubbed
    assert [point.images for point in curve.points] == [4, 10, 20]
    whole = json.loads((shapes / "annotations/train.json").read_text())
    for point, cfg in zip(curve.points, training.configs, strict=True):
        assert point.run_dir.parent == curve.folder / f"fraction_{point.fraction:g}"
        assert cfg.learning_curve is None
        assert cfg.data.val == "annotations/val.json", "the same validation images for all"
        part = json.loads((curve.folder / f"train_{point.fraction:g}.json").read_text())
        ids = {image["id"] for image in part["images"]}
        assert part["annotations"] == [a for a in whole["annotations"] if a["image_id"] in ids]
        assert part["categories"] == whole["categories"]
        assert point.objects == len(part["annotations"])


def test_from_python_with_plain_arguments(shapes, tmp_path, monkeypatch):
    training = StubTraining()
    monkeypatch.setattr(workflow, "run_learning_curve", lambda cfg: run_learning_curve(cfg, training))
    words = [f"output={tmp_path}", "name=small", "model=tiny", "trainer.max_epochs=3"]
    curve = workflow.learning_curve(shapes, [0.2, 0.5, 1.0], words)
    assert [point.images for point in curve.points] == [4, 10, 20]
    assert curve.folder.parent == tmp_path / "small"
    with pytest.raises(ConfigError, match="three different fractions"):
        workflow.learning_curve(shapes, [0.5, 1.0], words)


def test_runs_take_the_same_number_of_steps_and_evaluations(stubbed):
    """4, 10 and 20 images in batches of 4 are 1, 3 and 5 batches an epoch; three epochs of the whole are 15 steps."""
    _, training = stubbed
    planned = [(cfg.trainer.max_epochs, cfg.trainer.check_val_every_n_epoch) for cfg in training.configs]
    assert planned == [(15, 5), (5, 2), (3, 1)]
    assert [-(-epochs // every) for epochs, every in planned] == [3, 3, 3], "the last epoch is always evaluated"
    assert [epochs * batches for (epochs, _), batches in zip(planned, (1, 3, 5), strict=True)] == [15, 15, 15]


def test_what_is_written_says_what_was_found(stubbed):
    curve, _ = stubbed
    written = json.loads((curve.folder / RESULT).read_text())
    aps = [point["AP"] for point in written["points"]]
    assert aps == sorted(aps)
    assert aps == [json.loads((point.run_dir / "metrics.json").read_text())["segm"]["AP"] for point in curve.points]
    assert all(0 < point["standard_error"] < 0.2 for point in written["points"])
    doubling = written["doubling"]
    assert doubling["images"] == 40
    assert doubling["low"] <= doubling["gain"] <= doubling["high"]
    assert written["text"] == curve.outlook.text
    assert (curve.folder.parent / "latest").resolve() == curve.folder.resolve()


def test_an_interrupted_curve_goes_on_where_it_stopped(shapes, tmp_path):
    first = StubTraining(interrupt_at=2)
    assert run_learning_curve(curve_config(shapes, tmp_path), first) is None
    again = StubTraining()
    curve = run_learning_curve(curve_config(shapes, tmp_path, "resume=auto"), again)
    assert [cfg.name for cfg in again.configs] == ["fraction_0.5", "fraction_1"]
    assert {cfg.resume for cfg in again.configs} == {"auto"}
    assert len(curve.points) == 3
    with pytest.raises(ConfigError, match="the curve that was begun has other fractions"):
        run_learning_curve(curve_config(shapes, tmp_path, "resume=auto", fractions="[0.3,0.6,1]"), again)
    with pytest.raises(ConfigError, match="has other seed"):
        run_learning_curve(curve_config(shapes, tmp_path, "resume=auto", "seed=1"), again)


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["learning_curve=[0.5,1.0]"], "at least three different fractions"),
        (["learning_curve=[0.5,0.5,1.0]"], "at least three different fractions"),
        (["learning_curve=[0,0.5,1.0]"], "above 0 and at most 1"),
        (["learning_curve=[0.5,1.0,1.5]"], "above 0 and at most 1"),
        (["learning_curve=[a,b,c]"], "learning_curve cannot be [a,b,c]"),
        (["learning_curve=0.5"], "learning_curve cannot be 0.5"),
        (["learning_curve=[0.5,0.501,1.0]"], "not all different"),
        (["learning_curve=[0.25,0.5,1.0]", "trainer.devices=2"], "trainer.devices=1"),
        (["learning_curve=[0.25,0.5,1.0]", "resume=runs/x"], "goes on with resume=auto"),
        (["learning_curve=[0.25,0.5,1.0]", "data.val=null"], "needs validation images"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_written(shapes, tmp_path, capsys, monkeypatch, words, why):
    monkeypatch.chdir(tmp_path)
    assert cli(["train", f"data.root={shapes}", "model=tiny", *words]) == 2
    assert why in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


def test_the_whole_way_with_a_tiny_model(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    few = draw_shapes(tmp_path / "few", images=12, size=64, seed=1, val_fraction=0.25)
    words = small_words(few, tmp_path / "runs", "trainer.max_epochs=1", "learning_curve=[0.3,0.5,1.0]")
    assert cli(["train", *words]) == 0
    folder = (tmp_path / "runs/small/latest").resolve()
    assert (folder / PLAN).is_file()
    written = json.loads((folder / RESULT).read_text())
    for point in written["points"]:
        run_dir = folder / f"fraction_{point['fraction']:g}/latest"
        assert (run_dir / "model.safetensors").is_file()
        assert json.loads((run_dir / "metrics.json").read_text())["images"] == 3
        assert "learning_curve: null" in (run_dir / "config.yaml").read_text()
    page = (folder / "index.html").read_text()
    assert "http" not in page.replace("http://www.w3.org", "")
    assert page.count("<circle") == 3
    said = capsys.readouterr().out
    assert written["text"] in said
    assert "Learning curve" in said
