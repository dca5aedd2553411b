"""The whole way: models that were trained on labels with planted faults point at the faults they have not seen.

What a fair model's detections give is asked in ``test_find.py``, without an hour's training.
"""

import json

import numpy as np
import pytest
from label_faults import is_found, plant_faults

from finemask.cli import main as cli
from finemask.data.shapes import draw_shapes
from finemask.ops.rle import mask_iou


@pytest.mark.slow
def test_two_models_that_have_not_seen_the_faults_point_at_most_of_them(tmp_path, monkeypatch, capsys):
    """About ten minutes on two quiet cores."""
    monkeypatch.chdir(tmp_path)
    root = draw_shapes(tmp_path / "shapes", images=600, size=128, seed=1)
    train = root / "annotations/train.json"
    faulty, planted = plant_faults(json.loads(train.read_text()), 0.05, np.random.default_rng(1))
    train.write_text(json.dumps(faulty))
    words = [f"data.root={root}", "data.check=false", "callbacks=none", "logger=csv", "trainer.max_epochs=40"]
    for part in (1, 2):
        assert cli(["train", "experiment=quickstart", *words, f"data.held_out={part}/2", f"name=half{part}"]) == 0
    models = ",".join(f"{tmp_path}/runs/half{part}/latest/model.safetensors" for part in (1, 2))
    assert cli(["data", "suspects", f"model=[{models}]", f"data.root={root}", "split=train", "output=out"]) == 0
    entries = json.loads((tmp_path / "out/suspects.json").read_text())["suspects"]
    listed = entries[: 2 * len(planted)]
    found = [fault for fault in planted if is_found(fault, listed, lambda a, b: mask_iou([a], [b])[0, 0])]
    shares = {
        rule: f"{sum(fault.rule == rule for fault in found)} of {sum(fault.rule == rule for fault in planted)}"
        for rule in sorted({fault.rule for fault in planted})
    }
    with capsys.disabled():
        print(f"\n{len(found)} of {len(planted)} in the first {len(listed)} of {len(entries)}: {shares}")
    assert len(found) >= 0.8 * len(planted), shares
