"""A run on two processes: one folder, every image evaluated once, no process left waiting."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from run_cases import SMALL_RUN

from finemask.data.shapes import draw_shapes


@pytest.mark.slow
def test_two_processes_train_one_run(tmp_path):
    # An odd number of validation images, so that the processes' shares differ; some images hold no object.
    root = draw_shapes(tmp_path / "data", images=25, size=64, seed=1)
    annotations = json.loads((root / "annotations" / "train.json").read_text())
    keep = {image["id"] for image in annotations["images"][:10]}
    annotations["annotations"] = [a for a in annotations["annotations"] if a["image_id"] in keep]
    (root / "annotations" / "train.json").write_text(json.dumps(annotations))
    command = [
        sys.executable, "-m", "finemask", "train", *SMALL_RUN, f"data.root={root}", "name=pair", "data.batch_size=1",
        "trainer.devices=2", "trainer.strategy=ddp", "trainer.max_epochs=1",
    ]  # fmt: skip
    done = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, timeout=300, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert "leaked" not in done.stderr
    folders = [path for path in (tmp_path / "runs" / "pair").iterdir() if not path.is_symlink()]
    assert len(folders) == 1
    metrics = json.loads((folders[0] / "metrics.json").read_text())
    results = json.loads((folders[0] / "predictions.json").read_text())
    assert metrics["images"] == 5
    assert metrics["detections"] == len(results)
    assert len({json.dumps(result, sort_keys=True) for result in results}) == len(results), "an image came twice"
    assert not list(Path(folders[0]).rglob("*.lock"))
