"""The script that compares recipes in the same minutes: its table, and what it runs; no training."""

import importlib.util
import json
from pathlib import Path

import pytest

_SCRIPT = Path(__file__).parent.parent / "scripts" / "compare_recipes.py"
_SPEC = importlib.util.spec_from_file_location("compare_recipes", _SCRIPT)
assert _SPEC is not None
assert _SPEC.loader is not None
recipes = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(recipes)


def result(dataset, minutes, recipe, value, between=None):
    interval = {"segm": {"AP": between}}
    return {"dataset": dataset, "minutes": minutes, "recipe": recipe, "segm": {"AP": value}, "interval": interval}


def test_the_table_has_means_over_seeds_or_an_interval_and_below_means_over_datasets_that_have_every_recipe():
    found = [
        *(result("figs", 5, "plan", value) for value in (0.4, 0.6)),
        result("figs", 5, "rival", 0.3, [0.2, 0.45]),
        result("nuts", 5, "plan", 0.7),
        result("nuts", 5, "rival", 0.1),
        result("nuts", 15, "plan", 0.9),
    ]
    assert recipes.table(found, ["plan", "rival"])[2:] == [
        "| figs | 5 | 0.500 (0.400 to 0.600) | 0.300 (0.200 to 0.450) |",
        "| nuts | 5 | 0.700 | 0.100 |",
        "| nuts | 15 | 0.900 | – |",
        "| all 2 | 5 | 0.600 | 0.200 |",
    ]


def test_an_ablated_recipe_is_trained_once_more_without_each_decision_of_its_plan(monkeypatch):
    planned = [
        {"set": ["model.anchors=auto"], "instead": ["model.anchors=default"], "kept": False},
        {"set": ["model.min_size=320"], "instead": [], "kept": True},
        {"set": ["data.batch_size=2", "optimizer.lr=0.1"], "instead": ["data.batch_size=4"], "kept": False},
    ]
    asked = []
    monkeypatch.setattr(recipes, "compose_training", lambda each: asked.append(each) or {"planned": planned})
    found = recipes.recipes_of(Path("figs"), 5, [["plan", "seed=3"], ["fixed", "plan=none"]], ["plan"])
    assert found == [
        ("plan", ("seed=3",)),
        ("plan without model.anchors=auto", ("seed=3", "model.anchors=default")),
        ("plan without data.batch_size=2", ("seed=3", "data.batch_size=4")),
        ("fixed", ("plan=none",)),
    ]
    assert {"data.root=figs", "budget=300s", "seed=3"} <= set(asked[0].words)
    results = [result("figs", 5, "plan", 0.5), result("figs", 5, "plan without model.anchors=auto", 0.4)]
    assert recipes.ablations(results)[2:] == ["| figs | 5 | model.anchors=auto | 0.400 | 0.500 | +0.100 |"]


@pytest.mark.parametrize(("has_test", "split"), [(True, "test"), (False, "val")])
def test_what_is_scored_is_a_split_that_nothing_was_chosen_by(tmp_path, has_test, split):
    (tmp_path / "annotations").mkdir()
    if has_test:
        (tmp_path / "annotations" / "test.json").write_text("{}")
    assert recipes.Job(tmp_path, 5, "plan", (), 0, tmp_path).split == split


@pytest.mark.parametrize("words", [("plan=none", "augment=flip"), ("rival.py",)])
def test_a_run_trains_scores_and_is_not_done_again(tmp_path, monkeypatch, words):
    commands = []

    def run(command, **options):
        commands.append(command)
        scored = [word.partition("=")[2] for word in command if word.startswith("output=")]
        if "evaluate" in command:
            Path(scored[0]).mkdir()
            metrics = {"images": 3, "segm": {"AP": 0.5}, "bbox": {"AP": 0.4}, "confidence_interval": {}}
            (Path(scored[0]) / "metrics.json").write_text(json.dumps(metrics))
        return type("Done", (), {"returncode": 0})()

    monkeypatch.setattr(recipes.subprocess, "run", run)
    job = recipes.Job(tmp_path / "data", 5, "mine", words, 2, tmp_path / "run")
    assert recipes.run(job, 1, "features.pth")
    train, score = commands
    assert train[:3] == ["taskset", "-c", "1"]
    if words == ("rival.py",):
        assert train[4:7] == ["rival.py", str(tmp_path / "data"), "5"]
        assert f"predictions={tmp_path / 'run' / 'predictions.json'}" in score
    else:
        assert {"budget=300s", "seed=2", "plan=none", "augment=flip"} <= set(train)
        assert f"model={tmp_path / 'run' / 'run'}" in score
    assert recipes.run(job, 1, "features.pth")
    assert len(commands) == 2


def test_a_failure_is_said_and_leaves_no_result(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(recipes.subprocess, "run", lambda *a, **k: type("Failed", (), {"returncode": 2})())
    job = recipes.Job(tmp_path, 5, "mine", (), 0, tmp_path / "run")
    assert not recipes.run(job, 0, None)
    assert "log.txt" in capsys.readouterr().err
    assert not (tmp_path / "run" / recipes.RECORD).exists()
