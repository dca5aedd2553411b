"""Somebody's own parts, in a package of theirs and YAML files beside it, by the command line from training to info."""

import json
import re
import shutil
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

import finemask
from finemask import cli
from finemask.data.shapes import draw_shapes

LOSSES = '''
import torch
from torch import nn
from torch.nn import functional


class SquaredLoss(nn.Module):
    """Squared error of mask probabilities, with a strength that is learned."""

    def __init__(self, power):
        super().__init__()
        self.power = power
        self.strength = nn.Parameter(torch.ones(()))

    def forward(self, mask_logits, mask_targets, labels):
        error = (mask_logits.sigmoid() - mask_targets).abs() ** self.power
        return self.strength.abs() * (error.mean() if error.numel() else error.sum())
'''
NETS = '''
from collections import OrderedDict

from torch import nn


class Backbone(nn.Module):
    """Two maps, of strides 8 and 16; the stem is a part of its own."""

    def __init__(self, width, stem):
        super().__init__()
        self.stem = stem
        self.deep = nn.Conv2d(stem.out_channels, width, 3, stride=2, padding=1)
        self.out_channels = width

    def forward(self, images):
        features = self.stem(images).relu()
        return OrderedDict([("0", features), ("1", self.deep(features))])


class Head(nn.Module):
    def __init__(self, in_channels):
        super().__init__()
        self.out_channels = in_channels

    def forward(self, features):
        return features.mean(dim=(2, 3))
'''
CONFIGS = {
    "model/backbone/two_maps.yaml": """
        _target_: mylab.nets.Backbone
        width: 8
        stem: {_target_: torch.nn.Conv2d, in_channels: 3, out_channels: 8, kernel_size: 8, stride: 8}
        """,
    "model/ours.yaml": """
        defaults:
          - tiny
          - _self_
        name: ours
        box_head:
          _target_: mylab.nets.Head
        anchors:
          sizes: [16, 48]
        """,
    "model/sampler/first.yaml": "_target_: mylab.data.FirstProposals\nmost: 20\n",
    "augment/dark.yaml": "_target_: mylab.data.Darker\nfactor: 0.5\n",
}
DATA = """
import numpy as np


class FirstProposals:
    def __init__(self, most):
        self.most = most

    def __call__(self, labels, hardness):
        return [(of_image >= 0).nonzero().flatten()[: self.most] for of_image in labels]


class Darker:
    def __init__(self, factor):
        self.factor = factor

    def __call__(self, image, layers, rng):
        return (image * self.factor).astype(np.uint8), layers
"""
QUICK = ["model=tiny", "data.num_workers=0", "trainer.limit_train_batches=1", "trainer.limit_val_batches=1", "name=own"]
QUICK += ["plan=none"]


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_shapes(tmp_path_factory.mktemp("shapes") / "data", images=8, size=64, seed=1)


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder to stand in, with the package ``mylab`` on the path and the folder ``configs``."""
    package = tmp_path / "lab" / "mylab"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    monkeypatch.syspath_prepend(package.parent)
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    forget()


def forget() -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == "mylab"]:
        del sys.modules[name]


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def test_a_loss_of_ones_own_trains_and_resumes_and_is_not_needed_to_predict(
    shapes: Path, lab: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(lab / "lab/mylab/losses.py", LOSSES)
    write(lab / "configs/model/mask_loss/squared.yaml", "_target_: mylab.losses.SquaredLoss\npower: 2\n")
    own = ["--config-dir", "configs", f"data.root={shapes}", *QUICK, "model/mask_loss=squared"]
    assert cli.main(["train", *own, "trainer.max_epochs=1"]) == 0
    assert cli.main(["train", *own, "trainer.max_epochs=2", "resume=auto"]) == 0, capsys.readouterr().err
    shutil.rmtree(lab / "lab")  # another machine
    forget()

    assert cli.main(["evaluate", "model=runs/own", f"data.root={shapes}", "output=scores"]) == 0
    scores = json.loads((lab / "scores/metrics.json").read_text())
    ours = json.loads((lab / "runs/own/latest/metrics.json").read_text())
    assert scores["segm"] == ours["segm"]
    assert cli.main(["predict", "model=runs/own", f"source={shapes / 'images'}", "save=coco", "output=found"]) == 0
    capsys.readouterr()
    assert cli.main(["info", "model=runs/own"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "not needed to predict mylab.losses.SquaredLoss (mask_loss)" in said
    assert "trust" not in said
    with pytest.raises(finemask.FinemaskError, match=r"mylab\.losses\.SquaredLoss cannot be imported"):
        finemask.load("runs/own", device="cpu", trust="mylab.*").model.train()(*batch())


def test_every_kind_of_part_from_outside_by_the_command_line(
    shapes: Path, lab: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(lab / "lab/mylab/nets.py", NETS)
    write(lab / "lab/mylab/data.py", DATA)
    for name, text in CONFIGS.items():
        write(lab / "configs" / name, textwrap.dedent(text))
    parts = ["model=ours", "model/backbone=two_maps", "model/sampler=first", "augment=dark"]
    own = ["--config-dir", "configs", f"data.root={shapes}", *QUICK, *parts]
    assert cli.main(["train", *own, "trainer.max_epochs=1"]) == 0, capsys.readouterr().err
    assert cli.main(["train", *own, "trainer.max_epochs=2", "resume=auto"]) == 0, capsys.readouterr().err
    of_run = json.loads((lab / "runs/own/latest/metrics.json").read_text())

    scored = ["evaluate", "model=runs/own", f"data.root={shapes}", "output=scores"]
    assert cli.main(scored) == 2
    said = " ".join(capsys.readouterr().err.split())
    named = ["mylab.nets.Backbone", "torch.nn.Conv2d", "mylab.nets.Head"]
    assert all(f"{name} (model." in said for name in named)
    assert "FirstProposals" not in said
    (by_name, by_package) = re.findall(r"'(trust=\[.*?\])'", said)
    assert by_package == "trust=[mylab.*,torch.nn.Conv2d]"
    assert by_name == f"trust=[{','.join(named)}]"
    assert cli.main([*scored, by_name]) == 0
    assert json.loads((lab / "scores/metrics.json").read_text())["segm"] == of_run["segm"]
    predict = ["predict", "model=runs/own", f"source={shapes / 'images'}", "save=coco", "output=found"]
    assert cli.main([*predict, by_package]) == 0
    assert cli.main(["data", "suspects", "model=runs/own", f"data.root={shapes}", "output=s", by_package]) == 0

    capsys.readouterr()
    assert cli.main(["info", "model=runs/own"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "mylab.nets.Backbone (backbone)" in said
    assert by_package in said
    assert "not needed to predict mylab.data.FirstProposals (sampler)" in said
    checkpoint = (lab / "runs/own/latest/checkpoints/last.ckpt").resolve()
    with pytest.raises(finemask.FinemaskError, match=r"last\.ckpt: mylab\.nets\.Backbone"):
        finemask.MaskRCNNModule.load_from_checkpoint(checkpoint)
    module = finemask.MaskRCNNModule.load_from_checkpoint(checkpoint, trust=["mylab.*", "torch.nn.Conv2d"])
    assert type(module.model.backbone.body).__module__ == "mylab.nets"


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        ("self.stem(images).relu()", "line 17, in forward: ZeroDivisionError"),
        ("super().__init__()", "line 11, in __init__: ZeroDivisionError"),
    ],
)
def test_an_error_in_a_part_names_the_file_of_its_owner(
    shapes: Path, lab: Path, capsys: pytest.CaptureFixture[str], broken: str, said: str
) -> None:
    write(lab / "lab/mylab/nets.py", NETS)
    write(lab / "configs/model/backbone/two_maps.yaml", textwrap.dedent(CONFIGS["model/backbone/two_maps.yaml"]))
    own = ["--config-dir", "configs", "model=tiny", "model/backbone=two_maps", "model.anchors.sizes=[16,48]"]
    model = finemask.maskrcnn("tiny", 5, "none", overrides=own[3:], config_dir="configs")
    categories = [finemask.types.Category(k, f"class {k}") for k in range(4)]
    finemask.save_model(finemask.MaskRCNNModule(model, categories=categories), "model.safetensors")
    forget()
    write(lab / "lab/mylab/nets.py", NETS.replace(broken, "1 / 0", 1))

    commands = [
        ["train", *own, f"data.root={shapes}", "data.num_workers=0"],
        ["predict", "model=model.safetensors", f"source={shapes / 'images'}", "trust=[mylab.*,torch.nn.Conv2d]"],
    ]
    for command in commands:
        assert cli.main(command) == 2
        text = " ".join(capsys.readouterr().err.split())
        assert f"error in your own code: {lab / 'lab/mylab/nets.py'}, {said}" in text


def batch() -> tuple[list, list]:
    from model_cases import random_scene

    image, target, _ = random_scene(64, 64, 2)
    return [image], [target]
