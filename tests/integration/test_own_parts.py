"""Somebody's own parts, in a package of theirs and YAML files beside it, by the command line from training to info."""

import json
import shutil
import sys
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
QUICK = ["model=tiny", "data.num_workers=0", "trainer.limit_train_batches=1", "trainer.limit_val_batches=1", "name=own"]


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


def batch() -> tuple[list, list]:
    from model_cases import random_scene

    image, target, _ = random_scene(64, 64, 2)
    return [image], [target]
