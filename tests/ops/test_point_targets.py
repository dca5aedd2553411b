"""Label maps and features at single points against torchvision's RoIAlign on dense maps, one sample a box."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mask_scenes import random_masks, scenes
from torchvision.ops import roi_align

from finemask.ops.layers import masks_to_layers
from finemask.ops.mask_targets import mask_targets
from finemask.ops.point_targets import cells_at, features_at, point_targets, points_in_boxes


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
