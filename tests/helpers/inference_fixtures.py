"""Fixtures of inference: a predictor by colour, three instances, a real model file."""

from pathlib import Path

import numpy as np
import pytest
import torch
from inference_data import CATEGORIES, ColourModel, colour_header, make_instances

from finemask.inference.instances import Instances
from finemask.inference.predictor import Predictor
from finemask.model_header import TrainingSizes


@pytest.fixture
def predictor() -> Predictor:
    return Predictor(ColourModel(), colour_header())


@pytest.fixture
def three_instances() -> Instances:
    """A holed ring, a blob of two parts that overlaps it, and an instance without pixels, on 20 × 30 px."""
    masks = np.zeros((3, 20, 30), dtype=bool)
    masks[0, 2:14, 3:15] = True
    masks[0, 6:9, 7:10] = False
    masks[1, 10:18, 12:20] = True
    masks[1, 0:2, 25:30] = True
    image = np.random.default_rng(1).integers(0, 255, (20, 30, 3)).astype(np.uint8)
    return make_instances(masks, [1, 2, 3], [0.875, 0.75, 0.5], image=image, name="sub/a photo.jpg")


@pytest.fixture(scope="session")
def tiny_model_file(tmp_path_factory) -> Path:
    """A model file of the shipped ``tiny`` architecture with random weights."""

    from finemask.config import compose, plain
    from finemask.model.build import build_model
    from finemask.model.resolve import resolve_model
    from finemask.model_file import save_model_file

    cfg = compose("train", ["model=tiny", "data.root=unused"])
    config = resolve_model(plain(cfg.model), 20)
    torch.manual_seed(0)
    model = build_model(config, num_classes=len(CATEGORIES) + 1)
    path = tmp_path_factory.mktemp("tiny") / "model.safetensors"
    header = colour_header(
        model=config,
        preprocessing=model.preprocessing,
        metrics={"segm": {"AP": 0.5, "APs": None}, "operating_point": {"f1": 0.3, "threshold": 0.2}},
        licenses={"pretrained weights": "none at all"},
        training_sizes=TrainingSizes((256, 320, 1024), (0.1, 0.4, 0.5), (7.2, 20, 1050), (1.8, 7, 170)),
    )
    save_model_file(path, model.state_dict(), header)
    return path
