"""Preprocessing against torchvision's ``GeneralizedRCNNTransform``, and local contrast before it."""

import numpy as np
import pytest
import torch
from inference_data import colour_header
from model_cases import model_config, random_scene
from torchvision.models.detection.transform import GeneralizedRCNNTransform

from finemask.errors import ConfigError
from finemask.model.build import build_model
from finemask.model.mask_rcnn import ImageTransform, preprocessing_from
from finemask.model_file import load_model_file, read_header, save_model_file
from finemask.ops.images.clahe import clahe
from finemask.types import Preprocessing
from finemask.verbs.info import rows

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@pytest.mark.parametrize(
    "sizes",
    [
        [(40, 60)] * 3,  # all alike: one operation for the batch
        [(40, 60), (60, 40), (33, 90)],
        [(64, 96), (64, 96)],  # nothing to resize
        [(40, 60)],
    ],
)
def test_batches_are_torchvisions(sizes):
    generator = torch.Generator().manual_seed(0)
    images = [torch.randint(0, 256, (3, *size), generator=generator, dtype=torch.uint8) for size in sizes]
    ours = ImageTransform(Preprocessing((64,), 110, MEAN, STD)).eval()
    theirs = GeneralizedRCNNTransform(64, 110, list(MEAN), list(STD)).eval()
    batch, _ = ours(images)
    expected, _ = theirs([image.float() / 255 for image in images])
    assert batch.image_sizes == expected.image_sizes
    assert torch.allclose(batch.tensors, expected.tensors, atol=1e-5)


def test_float_images_are_refused():
    transform = ImageTransform(Preprocessing((64,), 110, MEAN, STD))
    with pytest.raises(TypeError, match="uint8"):
        transform([torch.zeros(3, 40, 40), torch.zeros(3, 40, 40)])


@pytest.fixture(scope="module")
def config():
    return model_config("tiny", "model.clahe=2")


@pytest.mark.parametrize("is_training", [True, False])
def test_the_batch_is_that_of_equalised_images(config, is_training):
    own = ImageTransform(preprocessing_from(config)).train(is_training)
    plain = ImageTransform(preprocessing_from(config | {"clahe": 0.0})).train(is_training)
    for sizes in ([(60, 80), (60, 80)], [(60, 80), (44, 50)]):  # stacked, and one by one
        images = [random_scene(*size, 3, seed)[0] for seed, size in enumerate(sizes)]
        equalised = [clahe(image[None], 2.0)[0] for image in images]
        assert torch.equal(own(images)[0].tensors, plain(equalised)[0].tensors)
        assert not torch.equal(own(images)[0].tensors, plain(images)[0].tensors)


def test_a_model_file_carries_it(config, tmp_path):
    model = build_model(config, num_classes=4)
    path = tmp_path / "model.safetensors"
    header = colour_header(model=config, preprocessing=model.preprocessing)
    save_model_file(path, model.state_dict(), header)
    loaded, header = load_model_file(path)
    assert loaded.preprocessing == header.preprocessing == read_header(path).preprocessing
    assert loaded.preprocessing.clahe == 2.0
    assert "clip limit 2" in dict(rows(header, {"numbers": 1, "bytes": 1}))["input"]
    assert "clip limit" not in dict(rows(colour_header(), {"numbers": 1, "bytes": 1}))["input"]


@pytest.mark.parametrize("value", [-1.0, np.nan, np.inf])
def test_a_clip_limit_that_cannot_be(config, value):
    with pytest.raises(ConfigError, match="clip limit such as 2"):
        preprocessing_from(config | {"clahe": value})
