"""Mask targets and pasted masks, against torchvision's."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mask_scenes import random_masks, scenes
from torchvision.models.detection.roi_heads import paste_masks_in_image, project_masks_on_boxes
from torchvision.ops import roi_align

from finemask.ops.layers import masks_to_layers
from finemask.ops.mask_ops import (
    _crop_by_gather,
    _crop_by_slices,
    cells_at,
    features_at,
    mask_targets,
    masks_to_rles,
    point_targets,
    points_in_boxes,
)
from finemask.ops.rle import mask_to_rle, rle_area, rle_to_crop


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
    monkeypatch.setattr("finemask.ops.mask_ops._CHUNK_PIXELS", 500)
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
    monkeypatch.setattr("finemask.ops.mask_ops._crop_by_slices", _crop_by_gather)
    assert torch.allclose(mask_targets(*together, 14), alone, atol=1e-6)


def test_both_ways_of_cropping_agree_inside_the_images():
    layers = [torch.randint(0, 255, (3, 20, 30), dtype=torch.uint8), torch.randint(0, 255, (2, 9, 8)).byte()]
    image = torch.tensor([0, 1, 0, 0])
    layer, top, left = torch.tensor([0, 1, 2, 1]), torch.tensor([0, 5, 5, 16]), torch.tensor([0, 4, 20, 26])
    gathered = _crop_by_gather(layers, image, layer, top, left, 4, 4)
    assert torch.equal(gathered, _crop_by_slices(layers, image, layer, top, left, 4, 4))


def sampled(maps, rows, points):
    """Values of dense maps [N, C, H, W] at points [R, P, 2]: RoIAlign of boxes of one pixel about them."""
    flat = points.reshape(-1, 2)
    index = rows[:, None].expand(points.shape[:2]).reshape(-1, 1).float()
    boxes = torch.cat([index, flat - 0.5, flat + 0.5], dim=1)
    return roi_align(maps, boxes, output_size=1, sampling_ratio=1, aligned=False)[:, :, 0, 0].reshape(
        *points.shape[:2], -1
    )


@given(masks=scenes.filter(lambda m: len(m) > 0), seed=st.integers(0, 10_000))
@settings(max_examples=30, deadline=None)
def test_targets_are_roi_aligns_of_the_dense_masks(masks, seed):
    generator = torch.Generator().manual_seed(seed)
    height, width = masks.shape[-2:]
    matched = torch.randint(len(masks), (6,), generator=generator)
    points = torch.rand(6, 9, 2, generator=generator) * (torch.tensor([width, height]) + 6) - 3  # beyond the image too
    layers, slots = masks_to_layers(masks)
    expected = sampled(masks[:, None].float(), matched, points)[..., 0]
    assert torch.allclose(point_targets([layers], [slots], [matched], [points]), expected, atol=1e-5)


def test_known_places_of_a_known_mask():
    masks = torch.zeros(2, 10, 12, dtype=torch.bool)
    masks[0, 2:6, 3:8] = True  # pixels 3..7 across, 2..5 down
    masks[1, 5:9, 6:10] = True
    layers, slots = masks_to_layers(masks)
    points = torch.tensor([[[3.0, 2.0], [7.0, 5.0], [7.5, 3.0], [8.0, 3.0], [2.75, 3.0], [7.5, 5.5]]])
    for instance, wanted in ((0, [1, 1, 0.5, 0, 0.75, 0.25]), (1, [0, 1, 0, 0, 0, 1.0])):
        found = point_targets([layers], [slots], [torch.tensor([instance])], [points])
        assert torch.allclose(found[0], torch.tensor(wanted).float())


def test_the_middle_of_a_cell_is_the_mask_target_of_that_cell():
    masks = random_masks(5, 40, 50, 3, 40)
    layers, slots = masks_to_layers(masks)
    boxes = torch.tensor([[3.0, 4.0, 17.0, 18.0], [10.5, 2.25, 24.5, 16.25]])  # one pixel a cell, hence one sample
    matched = torch.tensor([0, 2])
    middles = (torch.arange(14) + 0.5) / 14
    points = torch.stack(torch.meshgrid(middles, middles, indexing="xy"), dim=2).reshape(1, -1, 2).expand(2, -1, 2)
    found = point_targets([layers], [slots], [matched], [points_in_boxes(points, boxes)])
    assert torch.allclose(found.reshape(2, 14, 14), mask_targets([layers], [slots], [matched], [boxes], 14), atol=1e-5)


def test_images_and_nothing_at_all():
    layers, slots = masks_to_layers(random_masks(1, 20, 20, 3, 10))
    none = torch.zeros(0, dtype=torch.int64), torch.zeros(0, 4, 2)
    some = torch.tensor([1]), 20 * torch.rand(1, 4, 2)
    together = point_targets([layers] * 3, [slots] * 3, [none[0], some[0], none[0]], [none[1], some[1], none[1]])
    assert torch.equal(together, point_targets([layers], [slots], [some[0]], [some[1]]))
    assert point_targets([layers], [slots], [none[0]], [none[1]]).shape == (0, 4)


def test_features_are_roi_aligns_too():
    feature_map = torch.randn(5, 12, 17)
    points = torch.rand(3, 7, 2) * torch.tensor([16.0, 11.0])
    expected = sampled(feature_map[None], torch.zeros(3), points)
    assert torch.allclose(features_at(feature_map, points), expected, atol=1e-5)
    assert features_at(feature_map, points[:0]).shape == (0, 7, 5)


def test_cells_hold_their_value_at_their_middle_and_at_the_rim():
    masks = torch.randn(2, 4, 4)
    middles = (torch.arange(4) + 0.5) / 4
    points = torch.stack(torch.meshgrid(middles, middles, indexing="xy"), dim=2).reshape(1, -1, 2).expand(2, -1, 2)
    assert torch.allclose(cells_at(masks, points).reshape(2, 4, 4), masks, atol=1e-5)
    corners = torch.tensor([[[0.0, 0.0], [1.0, 0.0], [0.5, 0.125]]]).expand(2, -1, 2)
    expected = torch.stack([masks[:, 0, 0], masks[:, 0, 3], (masks[:, 0, 1] + masks[:, 0, 2]) / 2], dim=1)
    assert torch.allclose(cells_at(masks, corners), expected, atol=1e-5)


@given(
    seed=st.integers(0, 2**32 - 1),
    height=st.integers(2, 90),
    width=st.integers(2, 90),
    side=st.sampled_from([14, 28, 224]),
    beyond=st.sampled_from([0.0, 5.0, 40.0]),
)
@settings(max_examples=120, deadline=None)
def test_pixel_for_pixel_as_torchvision(seed, height, width, side, beyond):
    generator = torch.Generator().manual_seed(seed)
    corners = torch.rand(8, 2, 2, generator=generator) * torch.tensor([width, height])
    boxes = torch.cat([corners.amin(1) - beyond, corners.amax(1) + beyond], dim=1)
    probs = torch.rand(8, side, side, generator=generator)
    full = paste_masks_in_image(probs[:, None], boxes, (height, width))[:, 0] > 0.5
    expected = [mask_to_rle(mask.numpy()) for mask in full]
    assert masks_to_rles(probs, boxes, (height, width)) == expected


def test_a_box_outside_the_image_is_an_empty_mask():
    boxes = torch.tensor([[-50.0, -50.0, -20.0, -20.0], [200.0, 10.0, 250.0, 60.0]])
    assert [rle_area(rle) for rle in masks_to_rles(torch.ones(2, 28, 28), boxes, (100, 100))] == [0, 0]


def test_no_detections_are_no_masks():
    assert masks_to_rles(torch.zeros(0, 28, 28), torch.zeros(0, 4), (10, 10)) == []


def test_the_threshold_is_the_callers():
    boxes = torch.tensor([[2.0, 2.0, 8.0, 8.0]])
    areas = [
        rle_area(masks_to_rles(torch.full((1, 28, 28), 0.6), boxes, (10, 10), threshold)[0]) for threshold in (0.5, 0.7)
    ]
    assert areas[0] > 0
    assert areas[1] == 0
    assert np.isfinite(areas).all()


def test_boxes_without_width_or_height_as_torchvision():
    boxes = torch.tensor([[5.0, 5.0, 5.0, 9.0], [3.0, 4.0, 9.0, 4.0], [7.5, 7.5, 7.5, 7.5], [0.0, 0.0, 0.4, 0.4]])
    probs = torch.ones(4, 28, 28)
    full = paste_masks_in_image(probs[:, None], boxes, (12, 11))[:, 0] > 0.5
    assert masks_to_rles(probs, boxes, (12, 11)) == [mask_to_rle(mask.numpy()) for mask in full]


def test_low_precision_is_pasted_in_full_precision():
    generator = torch.Generator().manual_seed(0)
    boxes = torch.tensor([[3.3, 4.4, 60.1, 50.2]])
    probs = torch.rand(1, 28, 28, generator=generator).bfloat16()
    before = probs.clone()
    assert masks_to_rles(probs, boxes, (64, 64)) == masks_to_rles(probs.float(), boxes, (64, 64))
    assert torch.equal(probs, before)


def test_a_mask_in_the_far_corner_of_a_huge_picture():
    # 900 million pixels: torchvision would make 3.6 GB of floats of it
    side = 30_000
    near = torch.tensor([[4.0, 6.0, 40.0, 30.0]])
    far = near + (side - 64)
    probs = torch.rand(1, 28, 28, generator=torch.Generator().manual_seed(1))
    crop, x0, y0 = rle_to_crop(masks_to_rles(probs, near, (64, 64))[0])
    crop_far, x0_far, y0_far = rle_to_crop(masks_to_rles(probs, far, (side, side))[0])
    assert np.array_equal(crop, crop_far)
    assert (x0_far - x0, y0_far - y0) == (side - 64, side - 64)


def test_300_masks_of_a_12_megapixel_image_stay_under_200_mb():
    """In a process of its own: the peak of this one has been anywhere."""
    code = """
import resource, torch
from finemask.ops.mask_ops import masks_to_rles

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

probs, corners = torch.rand(300, 28, 28), torch.rand(300, 2) * torch.tensor([3000.0, 2200.0])
boxes = torch.cat([corners, corners + torch.rand(300, 2) * 800 + 8], dim=1)
masks_to_rles(probs[:2], boxes[:2], (3000, 4000))
before = peak()
print(len(masks_to_rles(probs, boxes, (3000, 4000))), peak() - before)
"""
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    number, grown = map(int, found.stdout.split())
    assert number == 300
    assert grown < 200 * 2**20 / (1 if sys.platform == "darwin" else 2**10)  # bytes on macOS, else KiB
