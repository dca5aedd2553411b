"""torch.export: the program without finemask, on sizes, thresholds and counts that it was not traced with."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torchvision.ops import nms

import finemask
from finemask.cli import main
from finemask.export import certificate

WITHOUT_FINEMASK = """
import sys
sys.modules["finemask"] = None
import numpy, torch, torchvision
header = {"finemask": ""}
run = torch.export.load("model.pt2", extra_files=header).module()
images, answers = numpy.load("images.npz"), {}
for name in images:
    for thresh in (0.0, 1.0):
        found = run(torch.from_numpy(images[name]), torch.tensor(thresh))
        answers |= {f"{name} {thresh} {key}": part.numpy() for key, part in enumerate(found)}
numpy.savez("answers.npz", **answers)
print(header["finemask"])
"""
IMAGES = {
    name: np.random.default_rng(5).integers(0, 256, (*size_hw, 3), dtype=np.uint8)
    for name, size_hw in {"wide": (77, 154), "high": (170, 50), "small": (9, 12)}.items()
}


def test_torch_alone_finds_the_same(exported: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(certificate, "PROBE_SIZES_HW", certificate.PROBE_SIZES_HW[2:5:2])
    folder = exported / "torch"
    words = [f"model={exported}/model.safetensors", "format=torch_export", f"output={folder}/model.pt2"]
    assert main(["export", *words]) == 0
    parity = json.loads((folder / "model.pt2.parity.json").read_text())
    assert (parity["agrees"], min(parity["found"].values()) > 0) == (True, True)
    np.savez(folder / "images.npz", **IMAGES)
    command = [sys.executable, "-W", "ignore", "-c", WITHOUT_FINEMASK]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    assert [one["name"] for one in json.loads(done.stdout)["categories"]] == ["red fig", "dätte", "blue"]
    answers = np.load(folder / "answers.npz")
    predictor = finemask.load(exported / "model.safetensors", device="cpu")
    predictor.model.roi_heads.score_thresh = 0.0
    for name, image in IMAGES.items():
        wanted = predictor.predict(image, threshold=0.0)
        boxes, labels, scores, masks = (answers[f"{name} 0.0 {key}"] for key in range(4))
        assert len(scores) > 10
        np.testing.assert_array_equal(labels, wanted.labels)
        np.testing.assert_allclose(boxes, wanted.boxes, atol=1e-3)
        np.testing.assert_allclose(scores, wanted.scores, atol=1e-5)
        assert masks.shape == (len(wanted), 28, 28)
        assert [answers[f"{name} 1.0 {key}"].shape for key in range(4)] == [(0, 4), (0,), (0,), (0, 28, 28)]


def test_suppression_is_torchvisions_again_afterwards() -> None:
    """While a model is traced, what is known of NMS is another; that ends with it."""
    from finemask.export.torch_export_file import _any_number_kept

    boxes, scores = torch.tensor([[0.0, 0, 10, 10], [1, 0, 10, 10], [50, 50, 60, 60]]), torch.tensor([0.5, 0.9, 0.7])

    class Kept(torch.nn.Module):
        def forward(self, boxes, scores):
            return nms(boxes, scores, 0.5)

    def bounds() -> set[str]:
        program = torch.export.export(Kept(), (boxes, scores))
        assert program.module()(boxes, scores).tolist() == [1, 2]
        return {str(one.lower) for one in program.range_constraints.values()}

    before = bounds()
    with _any_number_kept():
        assert bounds() == {"0"}
    assert bounds() == before
