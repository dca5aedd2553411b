"""Mask targets out of cuts against those out of the pixels under each RoI."""

import numpy as np
import pytest
import torch
from model_cases import random_scene

from finemask.model.devices.gpu.mask_crops import CropTruth, ReadTruths
from finemask.model.devices.gpu.truths import truths_of
from finemask.model.mask_predictor.mask_branch import MaskTruth
from finemask.model.mask_rcnn import _resize_target


@pytest.fixture(params=["as they are", "larger", "smaller"])
def both(request):
    """The two truths of the same RoIs: near instances, and far larger and smaller than they are."""
    targets = [random_scene(90, 70, 6, 0)[1], random_scene(64, 64, 0, 1)[1], random_scene(50, 80, 3, 2)[1]]
    factor = {"as they are": 1.0, "larger": 1.7, "smaller": 0.6}[request.param]
    sizes = [tuple(int(side * factor) for side in target["layers"].shape[-2:]) for target in targets]
    resized = [_resize_target(target, size) for target, size in zip(targets, sizes, strict=True)]
    generator = torch.Generator().manual_seed(3)
    boxes, matched = [], []
    for target, (height, width) in zip(resized, sizes, strict=True):
        gt = target["boxes"].repeat(5, 1)
        of_image = gt + torch.randn(gt.shape, generator=generator) * torch.tensor([12.0]) * factor
        of_image = torch.cat([of_image, gt[:6]])
        corners = torch.stack([torch.minimum(of_image[:, :2], of_image[:, 2:]), of_image[:, 2:]], dim=1)
        limit = torch.tensor([width, height])
        boxes.append(corners.clamp(min=0).minimum(limit.float()).flatten(1))
        matched.append(torch.arange(len(of_image)) % max(1, len(target["boxes"])))
    ragged = MaskTruth(
        layers=[target["layers"] for target in resized],
        slots=[target["slots"] for target in resized],
        gt_boxes=[target["boxes"] for target in resized],
        matched_idxs=matched,
        boxes=boxes,
    )
    truths = truths_of(targets, sizes)
    known = ReadTruths(truths.boxes.numpy(), truths.slots.numpy(), [len(target["boxes"]) for target in targets])
    return ragged, CropTruth(truths, known, [idxs.numpy() for idxs in matched], boxes)


@pytest.mark.parametrize("side", [28, 7])
def test_grids_are_the_same(both, side):
    ragged, cut = both
    expected = ragged.grid(side)
    assert 0.2 < expected.mean() < 0.8
    assert torch.allclose(cut.grid(side), expected, atol=1e-4)


def test_points_are_the_same(both):
    ragged, cut = both
    points = torch.rand(sum(map(len, ragged.boxes)), 30, 2, generator=torch.Generator().manual_seed(1))
    assert torch.allclose(cut.at(points), ragged.at(points), atol=1e-4)


def test_pixels_outside_are_the_same(both):
    ragged, cut = both
    expected = ragged.pixels_outside()
    assert expected.max() > 20
    assert torch.allclose(cut.pixels_outside(), expected, atol=0.05)


def test_no_roi_has_no_target():
    target = random_scene(64, 64, 0)[1]
    truths = truths_of([target], [(64, 64)])
    nothing = np.zeros(0, dtype=np.int64)
    known = ReadTruths(truths.boxes.numpy(), truths.slots.numpy(), [0])
    cut = CropTruth(truths, known, [nothing], [torch.zeros(0, 4)])
    assert cut.grid(28).shape == (0, 28, 28)
    assert cut.pixels_outside().shape == (0,)
