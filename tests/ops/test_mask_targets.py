"""Mask targets from label maps against torchvision's from dense masks."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mask_scenes import random_masks, scenes
from torchvision.models.detection.roi_heads import project_masks_on_boxes

from finemask.ops.layers import masks_to_layers
from finemask.ops.mask_targets import _crop_by_gather, _crop_by_slices, mask_targets


@given(
    masks=scenes.filter(lambda m: len(m) > 0),
    seed=st.integers(0, 10_000),
    side=st.sampled_from([7, 14, 28]),
    spread=st.sampled_from([0.0, 1.0, 10.0]),
)
@settings(max_examples=100, deadline=None)
def test_mask_targets_equal_torchvisions_on_dense_masks(masks, seed, side, spread):
    generator = torch.Generator().manual_seed(seed)
    height, width = masks.shape[-2:]
    rois = 12
    matched = torch.randint(len(masks), (rois,), generator=generator)
    corners = torch.rand(rois, 2, 2, generator=generator) * torch.tensor([width, height])
    boxes = torch.cat([corners.amin(1), corners.amax(1)], dim=1)
    boxes = boxes + spread * torch.randn(rois, 4, generator=generator)  # beyond the image and upside down too
    layers, slots = masks_to_layers(masks)
    expected = project_masks_on_boxes(masks, boxes, matched, side)
    assert torch.allclose(mask_targets([layers], [slots], [matched], [boxes], side), expected, atol=1e-5)


def test_mask_targets_of_large_boxes_are_projected_in_chunks(monkeypatch):
    monkeypatch.setattr("finemask.ops.mask_targets._CHUNK_PIXELS", 500)
    masks = random_masks(3, 60, 80, 5, 60)
    boxes = torch.tensor([[0.0, 0, 80, 60], [3.3, 4.4, 20.1, 50.7], [70, 50, 79, 59], [10, 10, 10.2, 10.2]])
    matched = torch.tensor([0, 1, 2, 3])
    layers, slots = masks_to_layers(masks)
    expected = project_masks_on_boxes(masks, boxes, matched, 28)
    assert torch.allclose(mask_targets([layers], [slots], [matched], [boxes], 28), expected, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_mixed_precision_leaves_targets_as_they_are(dtype):
    layers, slots = masks_to_layers(random_masks(3, 60, 80, 5, 60))
    arguments = [layers], [slots], [torch.tensor([0, 1])], [torch.tensor([[0.0, 0, 80, 60], [3.3, 4.4, 20.1, 50.7]])]
    expected = mask_targets(*arguments, 28)
    with torch.autocast("cpu", dtype=dtype):
        assert torch.equal(mask_targets(*arguments, 28), expected)


def test_no_boxes_have_no_targets():
    layers, slots = masks_to_layers(random_masks(0, 8, 8, 2, 8))
    none = torch.zeros(0, dtype=torch.int64)
    assert mask_targets([layers], [slots], [none], [torch.zeros(0, 4)], 28).shape == (0, 28, 28)


def test_images_of_different_sizes_have_the_targets_that_each_has_alone(monkeypatch):
    generator = torch.Generator().manual_seed(0)
    batch = []
    for seed, (height, width, count, rois) in enumerate([(60, 80, 5, 7), (90, 30, 0, 0), (20, 25, 1, 3)]):
        layers, slots = masks_to_layers(random_masks(seed, height, width, count, height))
        corners = torch.rand(rois, 2, 2, generator=generator) * torch.tensor([width, height])
        boxes = torch.cat([corners.amin(1) - 2, corners.amax(1) + 2], dim=1)  # some reach beyond the image
        matched = torch.randint(max(1, count), (rois,), generator=generator)
        batch.append((layers, slots, matched, boxes))
    alone = torch.cat([mask_targets(*([part] for part in image), 14) for image in batch])
    together = [list(part) for part in zip(*batch, strict=True)]
    assert torch.equal(mask_targets(*together, 14), alone)
    monkeypatch.setattr("finemask.ops.mask_targets._crop_by_slices", _crop_by_gather)
    assert torch.allclose(mask_targets(*together, 14), alone, atol=1e-6)


def test_both_ways_of_cropping_agree_inside_the_images():
    layers = [torch.randint(0, 255, (3, 20, 30), dtype=torch.uint8), torch.randint(0, 255, (2, 9, 8)).byte()]
    image = torch.tensor([0, 1, 0, 0])
    layer, top, left = torch.tensor([0, 1, 2, 1]), torch.tensor([0, 5, 5, 16]), torch.tensor([0, 4, 20, 26])
    gathered = _crop_by_gather(layers, image, layer, top, left, 4, 4)
    assert torch.equal(gathered, _crop_by_slices(layers, image, layer, top, left, 4, 4))
