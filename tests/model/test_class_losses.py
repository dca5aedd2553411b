"""Classification losses against hand-computed values, and against torchvision's focal loss."""

import math

import pytest
import torch
from model_cases import model_config
from torchvision.ops import sigmoid_focal_loss

from finemask.errors import ConfigError
from finemask.model.build import build_model
from finemask.model.class_losses import CrossEntropyLoss, FocalLoss, LabelSmoothingLoss, weights_from_counts
from finemask.model.resolve import resolve_model

# p = 1/2 for the first RoI's class 0 (of 1, 1/2, 1/2), p = 3/4 for the second's class 1
LOGITS = torch.tensor([[math.log(2), 0.0, 0.0], [0.0, math.log(6), 0.0]], dtype=torch.float64)
LABELS = torch.tensor([0, 1])
COST = (math.log(2), math.log(4 / 3))


@pytest.fixture(scope="module")
def tiny():
    return model_config("tiny")


def with_weights(config, weights):
    return {**config, "class_loss": {**config["class_loss"], "class_weights": weights}}


def test_cross_entropy_by_hand():
    assert CrossEntropyLoss()(LOGITS, LABELS).item() == pytest.approx((COST[0] + COST[1]) / 2)


def test_class_weights_make_a_weighted_mean_with_background_at_one():
    expected = (1 * COST[0] + 3 * COST[1]) / (1 + 3)
    for loss in (CrossEntropyLoss([3.0, 7.0]), FocalLoss(0.0, [3.0, 7.0]), LabelSmoothingLoss(0.0, [3.0, 7.0])):
        assert loss(LOGITS, LABELS).item() == pytest.approx(expected)


def test_label_smoothing_by_hand():
    asked = torch.tensor([[0.8, 0.1, 0.1], [0.1, 0.8, 0.1]], dtype=torch.float64)
    expected = -(asked * (LOGITS.exp() / LOGITS.exp().sum(1, keepdim=True)).log()).sum(1).mean()
    assert LabelSmoothingLoss(0.3)(LOGITS, LABELS).item() == pytest.approx(expected.item())


def test_focal_loss_by_hand():
    expected = ((1 / 2) ** 2 * COST[0] + (1 / 4) ** 2 * COST[1]) / 2
    assert FocalLoss(2.0)(LOGITS, LABELS).item() == pytest.approx(expected)


@pytest.mark.parametrize("gamma", [0.5, 1.0, 2.0, 5.0])
def test_the_softmax_of_two_classes_is_torchvisions_sigmoid(gamma):
    generator = torch.Generator().manual_seed(0)
    logits = 4 * torch.randn(50, 2, generator=generator, dtype=torch.float64)
    labels = torch.randint(2, (50,), generator=generator)
    expected = sigmoid_focal_loss(logits[:, 1] - logits[:, 0], labels.double(), alpha=-1, gamma=gamma, reduction="mean")
    assert FocalLoss(gamma)(logits, labels).item() == pytest.approx(expected.item(), rel=1e-9)


def test_weights_fall_with_the_root_of_the_count_and_average_one():
    weights = weights_from_counts([100, 25, 1, 0])
    assert weights[1] / weights[0] == pytest.approx(2, rel=1e-4)
    assert weights[2] / weights[0] == pytest.approx(10, rel=1e-4)
    assert weights[3] == weights[2]
    # 100 a + 25 · 2 a + 10 a + 10 a = 127
    assert weights[0] == pytest.approx(127 / 170, rel=1e-4)
    assert weights_from_counts([7, 7, 7]) == [1.0, 1.0, 1.0]


def test_automatic_weights_are_numbers_in_the_resolved_configuration(tiny):
    config = with_weights(tiny, "auto")
    resolved = resolve_model(config, 5, [100, 25, 25])
    assert resolved["class_loss"]["class_weights"] == weights_from_counts([100, 25, 25])
    assert config["class_loss"]["class_weights"] == "auto"
    loss = build_model(resolved, 4).roi_heads.box_loss.class_loss
    heavy, light = (loss(torch.zeros(2, 4), torch.tensor([0, label])).item() for label in (1, 2))
    assert heavy == pytest.approx(light)  # equal logits cost the same, whatever they weigh
    leaning = torch.tensor([[0.0, 0, 0, 0], [5.0, 0, 0, 0]])
    assert loss(leaning, torch.tensor([0, 2])) > loss(leaning, torch.tensor([0, 1]))


@pytest.mark.parametrize(
    ("weights", "counts", "reason"),
    [
        ("auto", None, "needs training data"),
        ("often", [1, 2, 3], "neither null, auto nor"),
        ([1.0, "x", 2.0], [1, 2, 3], "neither null, auto nor"),
        ([1.0, 2.0], [1, 2, 3], "2 weights for 3 categories"),
    ],
)
def test_weights_that_cannot_be_meant(tiny, weights, counts, reason):
    with pytest.raises(ConfigError, match=reason):
        resolve_model(with_weights(tiny, weights), 5, counts)


@pytest.mark.parametrize(("weights", "reason"), [("auto", "numbers by now"), ([1.0, -1.0], "positive")])
def test_a_loss_refuses_weights_that_are_none(weights, reason):
    with pytest.raises(ConfigError, match=reason):
        CrossEntropyLoss(weights)


def test_a_configuration_from_before_there_was_the_group_still_builds(tiny):
    config = {key: value for key, value in tiny.items() if key != "class_loss"}
    model = build_model(resolve_model(config, 5, [3, 3, 3]), 4)
    assert isinstance(model.roi_heads.box_loss.class_loss, CrossEntropyLoss)
