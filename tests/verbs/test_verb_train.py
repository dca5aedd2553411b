"""What ``finemask train`` does before it starts."""

import json

import pytest

from finemask import cli
from finemask.data.shapes import draw_shapes

QUICK = ("plan=none", "model=tiny", "trainer.max_epochs=1", "data.num_workers=0", "logger=csv", "callbacks=none")


@pytest.fixture
def shapes(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return draw_shapes(tmp_path / "shapes", images=4, size=64, seed=1)


def change(path, **edits):
    """Writes a file anew, each list changed by the function given for it."""
    document = json.loads(path.read_text())
    for name, edit in edits.items():
        edit(document[name])
    path.write_text(json.dumps(document))


def test_errors_are_refused_with_the_command_that_repairs_them(shapes, tmp_path, capsys):
    change(shapes / "annotations/train.json", annotations=lambda a: a[0].update(category_id=99))
    assert cli.main(["train", "data.root=shapes", *QUICK]) == 2
    said = capsys.readouterr()
    assert "annotation-without-category  once" in said.out
    assert "1 error in the annotations. To repair: finemask data check" in said.err
    assert not (tmp_path / "runs").exists()

    command = said.err.rpartition("To repair: finemask ")[2].replace("'", "").split()
    assert cli.main(command) == 0
    fixed = ["data.train=annotations/fixed/train.json", "data.val=annotations/fixed/val.json"]
    assert cli.main(["train", "data.root=shapes", *QUICK, *fixed]) == 0


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("compile=fast", "error: compile cannot be 'fast'. It is null, default, reduce-overhead or max-autotune."),
        ("seed=-1", "error: seed cannot be -1. It is a whole number from 0 to 4,294,967,295."),
        ("trainer.max_epochs=0", "error: trainer.max_epochs cannot be 0. It is -1, a whole number of at least 1"),
        ("trainer.max_epochs=1.5", "error: trainer.max_epochs cannot be 1.5. It is -1, a whole number of at least 1"),
        ("optimizer.lr=-1", "error: optimizer.lr cannot be -1. It is a number above 0"),
        ("optimizer.lr=quick", "error: optimizer.lr cannot be 'quick'. It is a number above 0"),
        ("scheduler.warmup=2", "error: scheduler.warmup cannot be 2. It is a number from 0 to 1."),
        ("model.roi_heads.detections_per_img=0", "error: model.roi_heads.detections_per_img cannot be 0. It is auto"),
        ("model.min_size=[]", "error: model.min_size cannot be []. It is a whole number from 32 to 16,384 or a list"),
        ("resume=true", "error: resume cannot be true. It is null, auto or a path."),
        ("data.train=null", "error: data.train cannot be null. It is a path."),
        ("~model.backbone.norm", "error: the key model.backbone.norm is missing. It is auto, frozen_bn"),
    ],
)
def test_a_value_that_cannot_be_is_named(shapes, capsys, word, message):
    assert cli.main(["train", "data.root=shapes", *QUICK, word]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("key", ["train", "val", "images"])
def test_what_is_not_there_is_named_by_the_key_of_this_verb(shapes, capsys, key):
    assert cli.main(["train", "data.root=shapes", *QUICK, f"data.{key}=gone"]) == 2
    told = capsys.readouterr().err
    assert told.startswith("error: shapes/gone: there is no such ")
    assert f"It is data.{key}=gone in data.root=shapes: give another data.{key}=" in told
    command = "finemask data split annotations=shapes/annotations/train.json images=shapes/images output=shapes/splits"
    assert (command in told) == (key == "val")
    assert "annotations=" not in told.replace(command, "")


def test_without_the_check_the_reader_still_refuses(shapes, capsys):
    change(shapes / "annotations/train.json", annotations=lambda a: a[0].update(category_id=99))
    assert cli.main(["train", "data.root=shapes", "data.check=false", *QUICK]) == 2
    said = capsys.readouterr()
    assert "its category_id is 99; there is no such category" in said.err
    assert "annotation-without-category" not in said.out


def test_warnings_are_shown_in_a_table_and_training_starts(shapes, capsys):
    change(shapes / "annotations/train.json", annotations=lambda a: a.append({**a[0], "id": 10**6}))
    assert cli.main(["train", "data.root=shapes", *QUICK]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "Warnings about the data" in shown
    assert "annotation-repeated" in shown


def test_other_processes_of_a_run_leave_the_looking_to_the_first(shapes, monkeypatch):
    from finemask.config import compose
    from finemask.errors import DataError
    from finemask.workflows.data.check_before_training import check_data

    change(shapes / "annotations/train.json", annotations=lambda a: a[0].update(category_id=99))
    cfg = compose("train", ["data.root=shapes", *QUICK])
    with pytest.raises(DataError, match="1 error"):
        check_data(cfg)
    monkeypatch.setenv("LOCAL_RANK", "1")
    check_data(cfg)
