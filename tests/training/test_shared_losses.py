"""Two processes learn what one with the doubled batch learns."""

import csv
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import distributed

from finemask.data.shapes import draw_shapes
from finemask.training.shared_losses import shared_losses

HELPERS = Path(__file__).parents[1] / "helpers"


def test_two_processes_equal_one_with_the_doubled_batch(tmp_path):
    """Ten steps: images without objects, batches of unequal size, and a step that is NaN on one process."""
    root = draw_shapes(tmp_path / "data", images=13, size=64, seed=1)
    path = root / "annotations" / "train.json"
    content = json.loads(path.read_text())
    without = {image["id"] for image in content["images"][::2]}
    content["annotations"] = [entry for entry in content["annotations"] if entry["image_id"] not in without]
    path.write_text(json.dumps(content))
    script = [sys.executable, str(HELPERS / "ranks.py"), str(root), str(tmp_path)]
    done = subprocess.run(script, capture_output=True, text=True, timeout=600, cwd=HELPERS)
    assert done.returncode == 0, done.stderr[-3000:]

    together, alone = (list(csv.DictReader((tmp_path / f"{name}.csv").open())) for name in ("together", "alone"))
    names = [name for name in alone[0] if name.startswith("train/loss")]
    assert len(names) == 6
    losses = np.array([[float(row[name]) for name in names] for row in alone if row["train/loss"]])
    assert len(losses) == 9, "one step was skipped"
    found = [[float(row[name]) for name in names] for row in together if row["train/loss"]]
    np.testing.assert_allclose(found, losses, atol=1e-4)
    assert losses[:, 0].std() > 0.01, "nothing was learned"

    wanted, first, second = (torch.load(tmp_path / f"{name}.pt") for name in ("alone_0", "together_0", "together_1"))
    for name, tensor in wanted["weights"].items():
        torch.testing.assert_close(first["weights"][name], tensor, atol=1e-4, rtol=0)
        assert torch.equal(first["weights"][name], second["weights"][name])
    assert first["AP"] == second["AP"] == pytest.approx(wanted["AP"], abs=1e-3)


@pytest.fixture
def two(monkeypatch):
    """The sums of two processes, one of which is this one and the other has told what it sends."""

    def answer(other):
        monkeypatch.setattr(distributed, "all_reduce", lambda message: message.add_(other))

    return answer


def test_a_process_counts_by_its_rows(two):
    # 3 masks of loss 2 here, 1 of loss 6 there: the mean of all four is 3, that of the means would be 4
    two(torch.tensor([[1.0], [6.0]], dtype=torch.float64))
    here = torch.tensor(2.0, requires_grad=True)
    total, means = shared_losses({"loss_mask": here}, {"loss_mask": 3}, processes=2)
    assert total.item() == means["loss_mask"].item() == pytest.approx(3.0)
    total.backward()
    assert here.grad.item() == pytest.approx(2 * 3 / 4)  # averaged over two processes: three quarters


def test_without_any_row_on_any_process_there_is_nothing_and_a_gradient_of_zero(two):
    two(torch.zeros(2, 1, dtype=torch.float64))
    here = torch.tensor(0.0, requires_grad=True)
    total, _ = shared_losses({"loss_mask": here}, {"loss_mask": 0}, processes=2)
    total.backward()
    assert (total.item(), here.grad.item()) == (0.0, 0.0)


def test_nan_elsewhere_is_nan_here(two):
    two(torch.tensor([[1.0], [float("nan")]], dtype=torch.float64))
    total, _ = shared_losses({"loss_mask": torch.tensor(1.0)}, {"loss_mask": 1}, processes=2)
    assert total.isnan()
