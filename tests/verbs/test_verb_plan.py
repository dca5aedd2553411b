"""``finemask plan``: what is printed and written, what is refused, and the plans of data that a person can look at."""

import json
import shlex

import pytest
import yaml

from finemask import cli


@pytest.fixture(autouse=True)
def _eighty_columns(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")


def test_a_plan_is_printed_and_written_and_its_command_composes(shapes_dir, tmp_path, capsys) -> None:
    assert cli.main(["plan", f"data.root={shapes_dir}", "model=light", "budget=15min", "output=plans/a.yaml"]) == 0
    said = capsys.readouterr().out
    assert all(len(line) <= 80 for line in said.splitlines() if not line.startswith("  finemask"))
    flat = " ".join(said.replace("│", " ").split())
    assert "27 images of 96 × 96 px (median), in colour" in flat
    assert "model.min_size=192" in flat
    text = " ".join((tmp_path / "plans/a.yaml").read_text().replace("#", " ").split())
    assert "The images' own shorter side is 96 px: 320 px would only enlarge them" in text
    assert "Instead of 320, 512." in text
    written = yaml.safe_load((tmp_path / "plans/a.yaml").read_text())
    assert written["budget"] == "15min"
    assert written["model"]["min_size"] == 192
    assert "trainer" not in written, "the budget decides how long"
    (command,) = [line for line in said.splitlines() if line.startswith("  finemask train ")]
    words = shlex.split(command)[1:]
    assert words == ["train", "experiment=plans/a.yaml"]
    assert cli.main([*words, "--cfg", "job"]) == 0
    shown = yaml.safe_load(capsys.readouterr().out)
    assert (shown["model"]["name"], shown["model"]["min_size"], shown["plan"]) == ("light", 192, "none")

    (tmp_path / "plans/a.yaml").write_text("# mine\n")
    assert cli.main(["plan", f"data.root={shapes_dir}", "output=plans/a.yaml"]) == 2
    assert "plans/a.yaml: there is a file, and it is no plan as it was written" in capsys.readouterr().err
    assert (tmp_path / "plans/a.yaml").read_text() == "# mine\n"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["data.root=gone"], "there is no such folder"),
        (["data.root={}", "min_size=3"], "unknown key 'min_size'"),
        (["data.root={}", "plan=maybe"], "plan cannot be 'maybe'. It is auto or none."),
        (["data.root={}", "plan=none"], "plan=none says that nothing is to be planned"),
        (["data.root={}", "experiment=tutorial"], "Type plan=auto"),
        (["data.root={}", "data.train=no.json"], "there is no such COCO annotation file"),
        (["data.root={}", "experiment=no.yaml"], "'no.yaml' is no option of the group 'experiment'"),
    ],
)
def test_what_cannot_be_planned_is_said_and_nothing_is_written(shapes_dir, tmp_path, capsys, words, said) -> None:
    assert cli.main(["plan", *(word.format(shapes_dir) for word in words)]) == 2
    told = capsys.readouterr().err
    assert said in told
    assert told.startswith("error: ")
    assert list(tmp_path.iterdir()) == []


def test_the_help_lists_the_keys_of_train(capsys) -> None:
    assert cli.main(["plan", "--help"]) == 0
    page = " ".join(capsys.readouterr().out.split())
    assert "output=plan.yaml the experiment file" in page
    assert "budget=null time of the whole run" in page
    assert "model.min_size=800" in page


def test_training_prints_the_plan_and_keeps_it(shapes_dir, tmp_path, capsys) -> None:
    words = [f"data.root={shapes_dir}", "model=tiny", "trainer.max_epochs=1", "data.num_workers=0", "name=planned"]
    words += ["trainer.limit_train_batches=1", "trainer.limit_val_batches=1", "callbacks=none", "logger=csv"]
    assert cli.main(["train", *words]) == 0
    run = next((tmp_path / "runs/planned").glob("*/metrics.json")).parent
    log = (run / "train.log").read_text()
    for text in (capsys.readouterr().out, log):
        assert "data.batch_size=2" in text
        assert "of 27 training images" in " ".join(text.replace("│", " ").split())
    config = yaml.safe_load((run / "config.yaml").read_text())
    assert config["data"]["batch_size"] == 2
    assert config["planned"][0]["set"] == ["data.batch_size=2"]
    more = ["resume=auto", "trainer.max_epochs=2"]
    document = json.loads((shapes_dir / "annotations/train.json").read_text())
    assert len(document["images"]) == 27
    assert cli.main(["train", *words[:2], *words[3:], *more]) == 0, capsys.readouterr().err
    assert "data.batch_size" not in capsys.readouterr().out.partition("differ")[2]


PLANS = {
    # 12 photographs of three kinds of fruit, large objects: small batches, all else as it is
    "fruits_nuts": {"data.batch_size": 2, "model.backbone.norm": "bn", "optimizer.lr": 0.000707},
    # 21 photographs of 80 classes
    "coco_ccby33": {"data.batch_size": 2, "model.backbone.norm": "bn", "optimizer.lr": 0.000707},
    # 77 photographs of four kinds of bottles that fill a quarter of the picture: to be told apart
    "bottles": {"model.backbone.norm": "bn", "optimizer.lr": 0.001},
    # 1,024² with windows of 29 px: at 320 px they are 9, and 512 px are named, as is what repeats rare classes
    "facade_night": {"model.backbone.norm": "bn", "optimizer.lr": 0.001},
    # tiny cells in every direction: that they may be turned is said
    "nuclei": {},
}


@pytest.mark.parametrize("name", PLANS)
def test_the_plans_of_real_data(shared_dir, name) -> None:
    from finemask.config.composing import Asked
    from finemask.workflows.data.plan_training import plan_training

    words = (f"data.root={shared_dir / 'datasets' / name}", "model=light", "budget=15min", "trainer.accelerator=cpu")
    planned = plan_training(Asked("train", (*words, "data.check=false")))
    found = {key: value for one in planned.decisions if not one.kept for key, value in one.changes}
    assert found == PLANS[name]
