"""The whole way: a model that was trained on labels with planted faults points at them.

The quickstart's model is weak (AP50 of 0.8 on val) and has learned the faulty labels: it tells missing and double
labels from sound ones, and loose masks, but hardly a wrong class, which it confuses itself. What a fair model's
detections give is asked in ``test_find.py``.
"""

import json

import numpy as np
import pytest
from label_faults import is_found, plant_faults

from finemask.cli import main as cli
from finemask.data.shapes import draw_shapes
from finemask.ops.mask_iou import mask_iou


@pytest.mark.slow
def test_a_weak_model_trained_on_the_faulty_labels_points_at_most_of_them(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    root = draw_shapes(tmp_path / "shapes", images=300, size=128, seed=0)  # the quickstart's
    train = root / "annotations/train.json"
    faulty, planted = plant_faults(json.loads(train.read_text()), 0.05, np.random.default_rng(0))
    train.write_text(json.dumps(faulty))
    words = [f"data.root={root}", "data.check=false", "callbacks=none", "logger=csv"]
    assert cli(["train", "experiment=quickstart", *words]) == 0
    model = tmp_path / "runs/quickstart/latest/model.safetensors"
    assert cli(["data", "suspects", f"model={model}", f"data.root={root}", "split=train", "output=out"]) == 0
    entries = json.loads((tmp_path / "out/suspects.json").read_text())["suspects"]
    listed = entries[: 2 * len(planted)]
    found = [fault for fault in planted if is_found(fault, listed, lambda a, b: mask_iou([a], [b])[0, 0])]
    shares = {
        rule: f"{sum(fault.rule == rule for fault in found)} of {sum(fault.rule == rule for fault in planted)}"
        for rule in sorted({fault.rule for fault in planted})
    }
    with capsys.disabled():
        print(f"\n{len(found)} of {len(planted)} in the first {len(listed)} of {len(entries)}: {shares}")
    assert len(found) >= 0.55 * len(planted), shares
    sure = [fault for fault in planted if fault.rule in ("missing-label", "duplicate-label")]
    assert sum(fault in found for fault in sure) >= 0.8 * len(sure), shares
