"""A run that frees the backbone part by part, interrupted and not."""

from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch
from run_cases import small_run

from finemask.data.shapes import draw_shapes
from finemask.model_file import read_header
from finemask.workflows.train_model import run_training

GRADUAL = (
    "transfer=gradual",
    "transfer.unfreeze=[0,1,1,2,2]",
    "transfer.layer_decay=0.8",
    "model.anchors=auto",
    "+callbacks.watch={_target_: test_gradual_run.Watch}",
)


class Watch(pl.Callback):
    """Notes which parts of the body are trained, and in training mode, in each epoch."""

    seen: dict[int, set[str]] = {}  # noqa: RUF012 - the run builds the callback

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        body = pl_module.model.backbone.body
        trained = {name.split(".")[0] for name, p in body.named_parameters() if p.requires_grad}
        assert trained == {
            name.split(".")[0] for name, m in body.named_modules() if isinstance(m, torch.nn.BatchNorm2d) and m.training
        }
        self.seen[trainer.current_epoch] = trained


@pytest.fixture(scope="module")
def shapes(tmp_path_factory):
    return draw_shapes(tmp_path_factory.mktemp("shapes") / "data", images=10, size=64, seed=1)


def test_a_resumed_run_frees_the_same_parts_and_ends_with_the_same_weights(shapes, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    from test_gradual_run import Watch as Watched  # the one that the run imports

    Watched.seen.clear()
    finished = run_training(small_run(shapes, tmp_path / "whole", *GRADUAL))
    expected = {0: {"stage3"}, 1: {"stage1", "stage2", "stage3"}, 2: {"stem", *(f"stage{k}" for k in range(4))}}
    assert Watched.seen == expected
    log = (finished.model_path.parent / "train.log").read_text()
    assert "epoch 3: the backbone's part stem is trained from now on" in log
    assert "Anchors, auto: " in log
    assert set(read_header(finished.model_path).model["anchors"]) == {"_target_", "sizes", "aspect_ratios"}

    stop = "+callbacks.stop={_target_: run_cases.StopAt, epoch: 1, batch: 0}"
    assert run_training(small_run(shapes, tmp_path / "killed", *GRADUAL, stop)) is None
    Watched.seen.clear()
    resumed = run_training(small_run(shapes, tmp_path / "killed", *GRADUAL, "resume=auto"))
    assert Watched.seen == {epoch: expected[epoch] for epoch in (1, 2)}
    ends = [
        torch.load(run.model_path.parent / "checkpoints" / "last.ckpt", weights_only=True)
        for run in (finished, resumed)
    ]
    different = [
        name for name, tensor in ends[0]["state_dict"].items() if not torch.equal(tensor, ends[1]["state_dict"][name])
    ]
    assert different == []
    assert ends[0]["class_names"] == ["circle", "rectangle", "triangle", "star"]
    assert len(ends[0]["optimizer_states"][0]["param_groups"]) == 12  # six rates, with and without decay
