"""Which weights ``auto`` stands for, and those that finemask ships."""

import pytest
import torch
from model_cases import model_config

from finemask.model.build import build_model
from finemask.model.pretrained.published_weights import OBJECTS, best_weights
from finemask.model.pretrained.weights import load_weights
from finemask.model.resolve import resolve_model
from finemask.model_file import load_model_file


@pytest.mark.parametrize(
    ("name", "word", "norm"),
    [
        ("light", "objects", "frozen_bn"),
        ("resnet50_fpn", "coco", "frozen_bn"),
        ("resnet50_fpn_v2", "coco", "bn"),  # as its recipe says
        ("mobilenet_v3_fpn", "imagenet", "frozen_bn"),
    ],
)
def test_auto_is_the_nearest_that_exists(name, word, norm):
    assert best_weights(model_config(name)) == word
    resolved = resolve_model({**model_config(name), "weights": "auto"}, 0)
    assert resolved["weights"] == word
    assert resolved["backbone"]["norm"] == norm


def test_another_backbone_under_lights_heads_has_none_of_them():
    config = model_config("light")
    assert best_weights({**config, "backbone": {**config["backbone"], "name": "mobilenet_v3_large"}}) == "imagenet"


def test_the_shipped_weights_fill_the_whole_of_light_and_start_every_class():
    config = resolve_model(model_config("light"), 0)
    model = build_model(config, num_classes=4)
    report = load_weights(model, config, ["fig", "date", "nut"])
    assert report.reinitialised == []
    assert report.skipped == []
    assert [sources for _, sources in report.class_rows.taken] == [("object",)] * 3


def test_the_shipped_weights_are_a_small_model_file_of_one_class_in_single_precision_once_loaded():
    assert OBJECTS.stat().st_size <= 8_000_000
    model, header = load_model_file(OBJECTS)
    assert [category.name for category in header.categories] == ["object"]
    assert {tensor.dtype for tensor in model.state_dict().values()} <= {torch.float32, torch.int64}
