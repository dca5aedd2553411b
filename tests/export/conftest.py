import pytest
import torch
from model_cases import model_config

from finemask.model.build import build_model
from finemask.model.mask_rcnn import MaskRCNN


@pytest.fixture
def model_with():
    """A small model with random weights, and the parts that are asked for."""

    def build(*overrides: str) -> MaskRCNN:
        torch.manual_seed(1)
        return build_model(model_config("tiny", *overrides), num_classes=4).eval()

    return build
