import json
from pathlib import Path

import pytest
import torch
from model_cases import model_config

from finemask.cli import main
from finemask.data.shapes import draw_shapes
from finemask.export import certificate
from finemask.model.build import build_model
from finemask.model.mask_rcnn import MaskRCNN
from finemask.model_file import save_model_file
from finemask.model_header import ModelHeader
from finemask.types import Category

CATEGORIES = (Category(3, "red fig"), Category(70, "dätte"), Category(9, "blue"))


@pytest.fixture
def model_with():
    """A small model with random weights, and the parts that are asked for."""

    def build(*overrides: str) -> MaskRCNN:
        torch.manual_seed(1)
        return build_model(model_config("tiny", *overrides), num_classes=4).eval()

    return build


@pytest.fixture(scope="session")
def exported(tmp_path_factory):
    """A model file with random weights, and what ``finemask export`` writes of it: one export for all tests."""
    folder = tmp_path_factory.mktemp("export")
    config = model_config("tiny")
    torch.manual_seed(3)
    model = build_model(config, num_classes=4)
    header = ModelHeader(config, CATEGORIES, model.preprocessing, thresholds={"global": 0.2})
    save_model_file(folder / "model.safetensors", model.state_dict(), header)
    assert main(["export", f"model={folder}/model.safetensors", f"output={folder}/out/model.onnx"]) == 0
    return folder


@pytest.fixture
def _one_probe(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(certificate, "PROBE_SIZES_HW", certificate.PROBE_SIZES_HW[4:5])


@pytest.fixture
def shapes(exported: Path, tmp_path: Path) -> Path:
    """A dataset of the categories of the model: three images to train, one to validate."""
    draw_shapes(tmp_path / "shapes", images=4, size=64, seed=1)
    for name in ("train", "val"):
        path = tmp_path / "shapes" / "annotations" / f"{name}.json"
        content = json.loads(path.read_text())
        content["categories"] = content["categories"][: len(CATEGORIES)]
        for category, ours in zip(content["categories"], CATEGORIES, strict=True):
            category["name"] = ours.name
        ids = {category["id"] for category in content["categories"]}
        content["annotations"] = [one for one in content["annotations"] if one["category_id"] in ids]
        path.write_text(json.dumps(content))
    return tmp_path / "shapes"
