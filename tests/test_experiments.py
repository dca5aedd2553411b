"""The shipped experiments: each short, with its command, and made of parts that a model file may name."""

import re
import shlex
from pathlib import Path

import pytest
import torch

from finemask.config import compose, config_dir, plain
from finemask.config.config_files import read_config_text, shipped_targets
from finemask.model.build import build_model
from finemask.model.resolve import resolve_model

EXPERIMENTS = sorted((config_dir() / "experiment").glob("*.yaml"))
SYSTEMS = ("me_rcnn", "gmask_faces", "buildings_edge", "flood_buildings", "cascade", "point_rend", "lsj")


def test_the_systems_of_the_literature_are_there() -> None:
    assert set(SYSTEMS) <= {path.stem for path in EXPERIMENTS}


@pytest.mark.parametrize("path", EXPERIMENTS, ids=lambda path: path.stem)
def test_an_experiment_is_a_short_difference_that_makes_a_model(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert text.startswith("# @package _global_\n")
    assert len(text.splitlines()) <= 40
    (verb, *words), *others = (shlex.split(command)[1:] for command in read_config_text(path).examples)
    assert (verb, words[0]) == ("train", f"experiment={path.stem}")
    cfg = compose(verb, [*words, "data.root=d", "model.weights=none"])
    assert cfg.name == path.stem
    with torch.device("meta"):
        model = build_model(resolve_model(plain(cfg.model), 10), num_classes=3, allowed=shipped_targets("model"))
    assert model.preprocessing.clahe == (2.0 if path.stem == "flood_buildings" else 0.0)
    for verb, *words in others:
        compose(verb, words)


@pytest.mark.parametrize("name", SYSTEMS)
def test_a_system_of_the_literature_names_its_source(name: str) -> None:
    text = (config_dir() / "experiment" / f"{name}.yaml").read_text(encoding="utf-8")
    assert re.search(r"^# .*https://(arxiv\.org/abs|doi\.org)/", text, flags=re.MULTILINE)
    assert re.search(r"\b(19|20)\d\d\b", text)


def test_a_smaller_model_keeps_what_an_experiment_is_about() -> None:
    cfg = compose("train", ["experiment=lsj", "model=light", "data.root=d"])
    assert (cfg.model.name, cfg.model.min_size) == ("light", 1024)
