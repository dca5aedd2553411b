"""The group ``transfer`` as it composes, whatever else is on the command line."""

import itertools

import pytest

from finemask.config import compose, plain
from finemask.model.pretrained.transfer import Transfer


@pytest.fixture(scope="module")
def full():
    return plain(compose("train", ["data.root=d", "transfer=full"]).transfer)


@pytest.mark.parametrize(
    "words",
    [
        ["transfer=scratch"],
        *itertools.permutations(["experiment=nuclei", "transfer=scratch"]),
        ["transfer=scratch", "model=light", "experiment=tutorial"],
    ],
    ids=" ".join,
)
def test_scratch_is_full_training_from_random_weights_in_every_company(words, full):
    cfg = compose("train", ["data.root=d", *words])
    assert plain(cfg.transfer) == full
    assert cfg.model.weights == "none"
    Transfer(**plain(cfg.transfer))


def test_an_experiment_may_begin_from_scratch_and_the_command_line_may_take_it_back(tmp_path, full):
    (tmp_path / "experiment").mkdir()
    text = "# @package _global_\ndefaults:\n  - override /transfer: scratch\n  - override /model: light\n"
    (tmp_path / "experiment" / "own.yaml").write_text(text)
    cfg = compose("train", ["data.root=d", "experiment=own"], config_dir=tmp_path)
    assert (plain(cfg.transfer), cfg.model.weights) == (full, "none")
    cfg = compose("train", ["data.root=d", "experiment=own", "transfer=heads"], config_dir=tmp_path)
    assert (cfg.transfer.trainable_stages, cfg.model.weights) == (0, "auto")
