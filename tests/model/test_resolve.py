"""What is filled in from the data: anchors."""

import numpy as np
import pytest
from model_cases import model_config

from finemask.errors import ConfigError
from finemask.model.build import build_model
from finemask.model.resolve import anchor_coverage, resolve_model


def planted(side, count=200):
    """Squares in images of 400 × 600 px, which model=tiny shrinks to 128 × 192."""
    low = np.random.default_rng(0).uniform(0, 300, (count, 2))
    return np.concatenate([low, low + side], axis=1), np.tile([[400, 600]], (count, 1))


def composed(fit):
    config = model_config("tiny")
    config["anchors"]["fit"] = fit
    return config


def test_auto_fits_anchors_at_training_resolution_and_leaves_plain_numbers():
    boxes, before = planted(25), composed("auto")  # 8 px after resizing; the smallest anchor of tiny has 12
    after = resolve_model(before, 1, boxes=boxes)
    assert before["anchors"]["fit"] == "auto"  # the configuration itself is left alone
    assert set(after["anchors"]) == {"_target_", "sizes", "aspect_ratios"}
    assert len(after["anchors"]["sizes"]) == 5
    assert 8 * 0.5**0.5 < after["anchors"]["sizes"][0] < 8 * 2**0.5
    assert anchor_coverage(before, boxes) < 0.2
    assert anchor_coverage(after, boxes) > 0.9
    assert all(type(size) is float for size in after["anchors"]["sizes"])
    build_model(after, num_classes=2)


def test_without_data_or_by_default_sizes_stay():
    given = model_config("tiny")["anchors"]["sizes"]
    assert resolve_model(composed("auto"), 1)["anchors"]["sizes"] == given
    assert resolve_model(composed("default"), 1, boxes=planted(25))["anchors"]["sizes"] == given
    empty = (np.zeros((0, 4)), np.zeros((0, 2), np.int64))
    assert resolve_model(composed("auto"), 1, boxes=empty)["anchors"]["sizes"] == given
    assert anchor_coverage(composed("auto"), empty) is None


def test_what_cannot_be_fitted_is_refused():
    with pytest.raises(ConfigError, match="neither default nor auto"):
        resolve_model(composed("kmeans"), 1)
    with pytest.raises(ConfigError, match="must be numbers by now"):
        build_model(composed("auto"), num_classes=2)


def test_a_size_for_each_level_of_the_pyramid():
    config = model_config("tiny")
    config["anchors"]["sizes"] = [16, 32, 64]
    with pytest.raises(ConfigError, match="3 sizes for the 5 levels"):
        build_model(config, num_classes=2)
    config["anchors"] |= {"sizes": 16, "fit": "auto"}
    with pytest.raises(ConfigError, match="16 is no list of numbers"):
        resolve_model(config, 1, boxes=planted(25))
