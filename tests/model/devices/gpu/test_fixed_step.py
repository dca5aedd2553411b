"""Every part trains and detects with fixed shapes what it trains and detects with lists."""

import pytest
import torch
from model_cases import random_scene
from part_cases import KINDS, NUM_CLASSES, parts_config, variants
from torch import nn

from finemask.model.build import build_model
from finemask.model.devices.gpu import batched_overlaps as overlaps
from finemask.model.devices.gpu.fixed_step import fixed_detection, fixed_training
from finemask.model.mask_predictor import point_rend

EVERY_VARIANT = [(kind, option) for kind in KINDS for option in variants(kind)]
SCENES = [
    random_scene(60, 90, 5, 0),
    random_scene(90, 60, 0, 1),
    random_scene(64, 64, 2, 2),
    random_scene(50, 80, 3, 3),
]
IMAGES, TARGETS = [scene[0] for scene in SCENES], [scene[1] for scene in SCENES]


def build(**parts):
    """All that is there is sampled, so that no random choice differs."""
    torch.manual_seed(0)
    config = parts_config(**parts)
    config["sampler"] |= {"batch_size_per_image": 10**6, "positive_fraction": 1.0}
    config["rpn"]["batch_size_per_image"] = 10**6
    return build_model(config, NUM_CLASSES)


def points_on_a_grid(logits, count, oversample, importance):
    side = int(count**0.5)
    axis = (torch.arange(side) + 0.5) / side
    return torch.cartesian_prod(axis, axis).expand(len(logits), -1, -1)


def losses_and_gradients(model, fixed):
    model.train().zero_grad()
    model.fixed_shapes = fixed
    torch.manual_seed(1)  # points are drawn
    losses = model(IMAGES, TARGETS)
    torch.stack(list(losses.values())).sum().backward()
    gradients = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    return {name: loss.item() for name, loss in losses.items()}, gradients


@pytest.mark.parametrize(("kind", "option"), EVERY_VARIANT)
def test_losses_and_gradients_are_those_of_lists(kind, option, monkeypatch):
    monkeypatch.setattr(point_rend, "sample_uncertain_points", points_on_a_grid)  # not drawn, as RoIs differ in order
    model = build(**{kind: option})
    assert fixed_training(model)
    expected, reference = losses_and_gradients(model, fixed=False)
    rows = [model.rows_of(name) for name in expected]
    found, gradients = losses_and_gradients(model, fixed=True)
    counted = {"loss_mask_iou"}  # of cells from 0.5 on: rounding moves one of them
    assert found.keys() == expected.keys()
    assert [model.rows_of(name) for name in found] == rows
    for name, loss in expected.items():
        assert found[name] == pytest.approx(loss, rel=1e-5, abs=1e-4 if name in counted else 1e-5), name
    assert gradients.keys() == reference.keys()
    for name, gradient in reference.items():
        assert (gradients[name] - gradient).norm() <= 1e-3 * gradient.norm() + 1e-6, name


SUPPRESSIONS = ("mask", "mask_agnostic", "soft_gaussian", "soft_linear")


@pytest.mark.parametrize("parts", [{}, {"box_predictor": "cascade"}, {"mask_predictor": "mask_iou"}], ids=str)
def test_losses_in_half_precision_are_those_of_lists(parts):
    model = build(**parts)
    with torch.autocast("cpu", torch.bfloat16):
        expected, _ = losses_and_gradients(model, fixed=False)
        found, gradients = losses_and_gradients(model, fixed=True)
    assert found == pytest.approx(expected, rel=0.02, abs=0.02)
    assert all(gradient.dtype == torch.float32 and gradient.isfinite().all() for gradient in gradients.values())


ALIKE = 0.7  # scores of random weights lie so near one another that rounding decides which of two suppresses the other
WITH_LISTS = {("box_predictor", "iterative"), *(("suppression", option) for option in SUPPRESSIONS)}


@pytest.mark.parametrize(("kind", "option"), EVERY_VARIANT)
def test_detections_are_those_of_lists(kind, option):
    model = build(**{kind: option}).eval()
    assert fixed_detection(model) == ((kind, option) not in WITH_LISTS)
    if option == "point_rend":  # each of its masks takes its time
        model.roi_heads.detections_per_img = 10
    found = {}
    for model.fixed_shapes in (False, True):
        with torch.inference_mode():
            found[model.fixed_shapes] = model(IMAGES)
    assert sum(len(of_image["boxes"]) for of_image in found[False]) > 20
    for lists, fixed in zip(found[False], found[True], strict=True):
        assert fixed["image_size_hw"] == lists["image_size_hw"]
        assert share_found_again(lists, fixed) > ALIKE
        assert share_found_again(fixed, lists) > ALIKE


def share_found_again(some, others):
    same = (some["boxes"][:, None] - others["boxes"]).abs().amax(2) < 1e-2
    same &= some["labels"][:, None] == others["labels"]
    same &= (some["scores"][:, None] - others["scores"]).abs() < 1e-4
    masks = (some["mask_probs"][:, None] - others["mask_probs"]).abs().amax((2, 3))
    return (same & (masks < 1e-2)).any(1).float().mean()


def test_what_scores_less_than_is_asked_for_gets_no_mask():
    model = build().eval()
    model.fixed_shapes = True
    least = [0.26, 1.0, 0.3]
    with torch.inference_mode():
        every, some = model.detect(IMAGES), model.detect(IMAGES, least)
    limits = torch.tensor([0.0, *least])
    dropped = 0
    for whole, asked in zip(every, some, strict=True):
        wanted = whole["scores"] >= limits[whole["labels"]]
        dropped += int((~wanted).sum())
        for name in ("boxes", "labels", "scores", "mask_probs"):
            assert torch.allclose(asked[name], whole[name][wanted], atol=1e-5), name
    assert dropped > 5


class OwnSampler:
    """A sampler that is not finemask's: it sees lists."""

    def __call__(self, labels, hardness):
        return [torch.where(of_image >= 0)[0] for of_image in labels]


def test_a_part_from_outside_is_given_lists():
    model = build()
    model.roi_heads.fg_bg_sampler = OwnSampler()
    assert not fixed_training(model)
    expected, _ = losses_and_gradients(model, fixed=False)
    found, _ = losses_and_gradients(model, fixed=True)
    assert found == expected


def test_a_batch_norm_does_not_count_places_that_are_empty():
    model = build(sampler="ohem")
    assert fixed_training(model)
    model.roi_heads.box_head = nn.Sequential(nn.BatchNorm2d(model.backbone.out_channels), model.roi_heads.box_head)
    assert not fixed_training(model)
    model.roi_heads.fg_bg_sampler = build().roi_heads.fg_bg_sampler
    assert fixed_training(model)


def test_suppression_that_needs_more_rounds_gets_them(monkeypatch):
    # The number of rounds before the host asks is an expectation; nothing that is found may depend on it.
    model = build()
    expected, _ = losses_and_gradients(model, fixed=True)
    monkeypatch.setattr(overlaps, "_ROUNDS", 1)
    found, _ = losses_and_gradients(model, fixed=True)
    assert found == pytest.approx(expected, rel=1e-6)
