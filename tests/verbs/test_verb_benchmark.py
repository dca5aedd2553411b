"""``finemask benchmark`` on a model small enough for a test."""

import json

import pytest

from finemask import cli

SMALL = ["model=tiny", "images=2", "height=64", "width=96", "objects=3", "rounds=1", "device=cpu"]


def test_each_kind_of_work_has_its_speed(tmp_path, capsys):
    output = tmp_path / "speed.json"
    assert cli.main(["benchmark", *SMALL, f"output={output}"]) == 0
    shown = capsys.readouterr().out
    assert "tiny on " in shown
    assert "An epoch of 1,000 images takes about" in shown
    found = json.loads(output.read_text())
    assert list(found["work"]) == ["data", "train", "predict", "evaluate"]
    assert all(speed["images_per_s"] > 0 for speed in found["work"].values())
    assert found["work"]["evaluate"]["what"] == "bbox and segm, 3 detections an image"
    assert found["machine"]["cores"] >= 1
    assert found["machine"]["torch"]


def test_only_what_was_asked_for_is_measured(capsys):
    assert cli.main(["benchmark", *SMALL, "work=[data]", "augment=none"]) == 0
    shown = capsys.readouterr().out
    assert "not augmented" in shown
    assert "predict" not in shown


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("work=[tran]", "error: work cannot be [tran]. It is a list, of one or more, each data, train"),
        ("rounds=0", "error: rounds cannot be 0. It is a whole number of at least 1."),
        ("height=8", "error: height cannot be 8. It is a whole number from 32 to 16,384."),
        ("precision=8-bit", "error: precision cannot be '8-bit'. It is auto, 32-true"),
        ("device=meta", "error: device cannot be 'meta'. It is auto, cpu"),
        ("device=tpu0", "error: device cannot be 'tpu0'. It is auto, cpu"),
    ],
)
def test_what_cannot_be_is_named(word, message, capsys):
    assert cli.main(["benchmark", *SMALL, word]) == 2
    assert message in capsys.readouterr().err
