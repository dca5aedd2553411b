import pytest
import torch
from model_cases import model_config

from finemask.cli import main
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
