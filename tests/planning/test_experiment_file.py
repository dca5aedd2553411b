"""The plan as a file: what stands in it, and which files are not written over."""

import pytest
import yaml

from finemask.errors import ConfigError
from finemask.planning.decision import Decision
from finemask.planning.experiment_file import experiment_text, train_command, words_of_a_file, write_experiment

GROUPS = ["model", "augment", "model/anchors"]
DECISIONS = [
    Decision(
        (("model.min_size", 512), ("model.max_size", 832)),
        "a tenth of the objects are under 9 px",
        "FPN",
        instead=("model.min_size=320", "model.max_size=512"),
    ),
    Decision((("model/anchors", "auto"),), "12 % of the objects have an anchor", "YOLOv5"),
    Decision((("data.batch_size", 7),), "kept as typed", "nnU-Net", kept=True),
]
WORDS = ["data.root='my data: # 1'", "model=light", "data.batch_size=7", "+model.extra=[1,2]", "budget=20min"]


def text(seen: str = "What was seen.") -> str:
    return experiment_text(DECISIONS, WORDS, GROUPS, [seen], ["finemask", "train", "experiment=it's.yaml"])


def test_a_file_holds_what_was_typed_and_what_was_decided_with_its_reason() -> None:
    written = text()
    assert written.startswith("# @package _global_\n")
    assert yaml.safe_load(written) == {
        "defaults": [{"override /model": "light"}, {"override /model/anchors": "auto"}],
        "plan": "none",
        "data": {"root": "my data: # 1", "batch_size": 7},
        "model": {"extra": [1, 2], "min_size": 512, "max_size": 832},
        "budget": "20min",
    }
    lines = [line.strip() for line in written.splitlines()]
    above = lines[lines.index("min_size: 512") - 1]
    assert above == ("# A tenth of the objects are under 9 px. (FPN) Instead of 320, 512.")
    assert lines[lines.index("- override /model/anchors: auto") - 1].startswith("# 12 % of the objects have an anchor.")
    assert lines[lines.index("root: 'my data: # 1'") - 1] == "# typed"
    assert "# Not changed: Kept as typed. (nnU-Net)" in lines
    assert "# What was seen." in lines
    assert """# finemask train 'experiment=it'"'"'s.yaml'""" in lines
    assert all(len(line) <= 120 for line in lines)


def test_words_that_a_file_cannot_hold_stay_with_the_command() -> None:
    words = ["a.b=1", "~model.clahe", "experiment=mine", "plan=auto", "+c=2", "hydra.verbose=true"]
    assert words_of_a_file(words) == (["a.b=1", "+c=2"], ["~model.clahe", "experiment=mine", "hydra.verbose=true"])
    assert train_command("p.yaml", ["~model.clahe"]) == ["finemask", "train", "experiment=p.yaml", "~model.clahe"]
    assert train_command("p.yaml", ["experiment=mine"])[2:] == ["experiment=[p.yaml,mine]"]
    assert train_command("p.yaml", ["experiment=[a,b]"])[2:] == ["experiment=[p.yaml,a,b]"]


def test_a_file_that_somebody_has_edited_is_not_written_over(tmp_path) -> None:
    path = tmp_path / "plans" / "mine.yaml"
    write_experiment(path, text())
    write_experiment(path, text("Other data."))
    assert path.read_text() == text("Other data.")
    write_experiment(path, text())
    for edited in (text().replace("min_size: 512", "min_size: 416"), "model: {min_size: 3}\n", ""):
        path.write_text(edited)
        with pytest.raises(ConfigError, match=r"mine\.yaml: there is a file, and it is no plan as it was written"):
            write_experiment(path, text())
        assert path.read_text() == edited
