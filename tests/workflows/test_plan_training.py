"""From what was typed to the configuration that trains: nothing typed is lost, and one plan comes of every way."""

import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
from omegaconf import OmegaConf

from finemask.config import compose, plain
from finemask.config.composing import Asked
from finemask.errors import ConfigError, DataError
from finemask.ops.files.atomic_files import write_json
from finemask.training.run_dir import Run, resolved_text
from finemask.workflows.data.plan_training import write_plan
from finemask.workflows.running import compose_training as workflow
from finemask.workflows.running.compose_training import SERIES_PLANS, compose_training


@pytest.fixture
def words(shapes_dir) -> list[str]:
    return [f"data.root={shapes_dir}", "model=light"]  # 27 training images of 96 px


def asked(*words: str, **flags) -> Asked:
    return Asked("train", words, **flags)


def without_plan(cfg) -> dict:
    return {key: value for key, value in plain(cfg).items() if key not in ("plan", "planned")}


def test_without_a_plan_nothing_is_added(words) -> None:
    cfg = compose_training(asked(*words, "plan=none"))
    assert cfg == compose("train", [*words, "plan=none"])
    assert without_plan(cfg) == without_plan(compose("train", words))
    assert cfg.planned is None


def test_a_plan_is_composed_beneath_what_was_typed_and_recorded(words) -> None:
    cfg = compose_training(asked(*words))
    assert (cfg.plan, cfg.model.min_size, cfg.model.max_size) == ("auto", 192, 320)  # twice the images' own size
    assert (cfg.data.batch_size, cfg.trainer.max_epochs) == (2, 107)  # 14 steps an epoch
    sets = [word for record in cfg.planned for word in record["set"]]
    assert "model.min_size=192" in sets
    size = next(record for record in plain(cfg)["planned"] if "model.min_size=192" in record["set"])
    assert size["instead"] == ["model.min_size=320", "model.max_size=512"]
    assert "own shorter side is 96 px" in size["why"]

    typed = [
        "model.min_size=64",
        "data.batch_size=8",
        "trainer.max_epochs=3",
        "optimizer.lr=0.1",
        "model.anchors=default",
    ]
    mine = compose_training(asked(*words, *typed))
    assert (mine.model.min_size, mine.model.max_size, mine.data.batch_size) == (64, 512, 8)
    assert (mine.trainer.max_epochs, mine.optimizer.lr, mine.model.anchors.fit) == (3, 0.1, "default")


def test_the_file_of_a_plan_trains_as_the_plan_does(words, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    more = [
        *words,
        "budget=20min",
        "+model.mine=[1,2]",
        "~callbacks.learning_rate",
        "optimizer.lr=1e-3",
        "name='my run'",
    ]
    path = Path("my plans/cells.yaml")
    planned, command = write_plan(asked(*more), path)
    assert command == ["finemask", "train", "experiment=my plans/cells.yaml", "~callbacks.learning_rate"]
    assert len(planned.decisions) >= 2
    assert without_plan(compose_training(asked(*command[2:]))) == without_plan(compose_training(asked(*more)))
    (tmp_path / "own" / "experiment").mkdir(parents=True)
    shutil.copy(path, tmp_path / "own" / "experiment" / "by_name.yaml")
    by_name = asked("experiment=by_name", "data.batch_size=3", "~callbacks.learning_rate", config_dir=tmp_path / "own")
    edited = compose_training(by_name)
    assert (edited.data.batch_size, edited.model.min_size, edited.planned) == (3, 192, None)


def test_what_an_experiment_or_a_file_of_ones_own_sets_counts_as_typed(words, tmp_path) -> None:
    own = tmp_path / "own"
    for name, text in {
        "experiment/mine.yaml": "# @package _global_\nmodel: {min_size: 96}\ntrainer: {max_epochs: 5}\n",
        "data/mine.yaml": "defaults: [coco, _self_]\nbatch_size: 6\n",
        "model/anchors/mine.yaml": "_target_: finemask.model.rpn.fpn_anchors\nfit: default\n",
    }.items():
        (own / name).parent.mkdir(parents=True, exist_ok=True)
        (own / name).write_text(text)
    more = [*words, "experiment=mine", "data=mine", "debug=limit"]
    cfg = compose_training(asked(*more, config_dir=own))
    assert (cfg.model.min_size, cfg.data.batch_size, cfg.trainer.max_epochs) == (96, 6, 2)  # debug=limit has two
    assert cfg.optimizer.lr == pytest.approx(2 * 0.0005 * 1.5**0.5, rel=1e-2), "the batch, and live norm"


def test_shipped_experiments_are_whole_recipes(words) -> None:
    cfg = compose_training(asked(words[0], "experiment=nuclei"))
    assert (cfg.plan, cfg.planned, cfg.model.min_size) == ("none", None, 320)
    cfg = compose_training(asked(words[0], "experiment=nuclei", "plan=auto"))
    assert (cfg.model.min_size, cfg.augment.transforms[0]._target_) == (192, "albumentations.D4")
    assert cfg.model.anchors.sizes == [8, 16, 32, 64, 128]


def test_the_configuration_of_a_run_is_repeated_as_it_stands(words, tmp_path) -> None:
    cfg = compose_training(asked(*words))
    (tmp_path / "config.yaml").write_text(resolved_text(cfg))
    again = compose_training(asked("seed=3", config_dir=tmp_path, config_name="config"))
    assert plain(again) == {**plain(OmegaConf.create(resolved_text(cfg))), "seed": 3}
    with pytest.raises(ConfigError, match="there is nothing to plan"):
        write_plan(asked(config_dir=tmp_path, config_name="config"), tmp_path / "p.yaml")


def test_a_run_that_goes_on_has_the_plan_it_was_begun_with(words, tmp_path, monkeypatch) -> None:
    begun = {"set": ["model.min_size=224", "augment=topdown", "data.batch_size=3"], "why": "w", "source": "s"}
    begun |= {"kept": False, "instead": []}
    kept = {"set": ["model.max_size=9999"], "why": "w", "source": "s", "kept": True, "instead": []}
    settings = {"planned": [begun, kept]}
    run = Run(tmp_path, tmp_path / "last.ckpt")
    monkeypatch.setattr(workflow, "choose_run", lambda *_: run)
    monkeypatch.setattr(workflow, "read_resume_checkpoint", lambda _: SimpleNamespace(settings=settings))
    cfg = compose_training(asked(*words, "resume=auto", "data.batch_size=5"))
    assert (cfg.model.min_size, cfg.model.max_size, cfg.data.batch_size) == (224, 512, 5)
    assert cfg.augment.transforms[0]._target_ == "albumentations.D4"
    assert plain(cfg)["planned"] == [begun, kept]
    typed = compose_training(asked(*words, "resume=auto", "augment=flip"))
    assert len(typed.augment.transforms) == 1
    for before in ({}, None):  # of a run without a plan, of a finemask that kept no settings
        settings_before = SimpleNamespace(settings=before)
        monkeypatch.setattr(workflow, "read_resume_checkpoint", lambda _, found=settings_before: found)
        assert compose_training(asked(*words, "resume=auto")).model.min_size == 320
    monkeypatch.setattr(workflow, "choose_run", lambda *_: Run(tmp_path))
    assert compose_training(asked(*words, "resume=auto")).model.min_size == 192, "a new run begins"


@pytest.mark.parametrize("asked_for", ["learning_curve=[0.2,0.5,1.0]", "folds=3"])
def test_several_runs_that_go_on_too(words, tmp_path, asked_for) -> None:
    begun = tmp_path / "several" / "2026-01-01_00-00-00"
    record = {"set": ["model.min_size=224"], "why": "w", "source": "s", "kept": False, "instead": []}
    begun.mkdir(parents=True)
    file = begun / SERIES_PLANS[asked_for.partition("=")[0]]
    write_json(file, {"seed": 0, "planned": [record]})
    several = [*words, asked_for, f"output={tmp_path}", "name=several", "resume=auto"]
    assert compose_training(asked(*several)).model.min_size == 224
    write_json(file, {"seed": 0})
    assert compose_training(asked(*several)).model.min_size == 320


def test_nothing_to_plan_and_data_that_cannot_be_used(words, tmp_path) -> None:
    with pytest.raises(ConfigError, match=r"plan=none says that nothing is to be planned\. Type plan=auto"):
        write_plan(asked(*words, "plan=none"), tmp_path / "p.yaml")
    for way in (compose_training, lambda asked: write_plan(asked, tmp_path / "p.yaml")):
        with pytest.raises(DataError, match="there is no such COCO annotation file"):
            way(asked(*words, "data.train=gone.json"))
    assert list(tmp_path.iterdir()) == []
