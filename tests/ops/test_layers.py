"""Label maps against dense masks and torchvision."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.models.detection.roi_heads import project_masks_on_boxes
from torchvision.ops import masks_to_boxes

from finemask.ops.layers import (
    LayerPainter,
    _crop_by_gather,
    _crop_by_slices,
    boxes_and_areas_from_layers,
    layers_to_masks,
    mask_targets,
    masks_to_layers,
)


def random_masks(seed: int, height: int, width: int, count: int, largest: int) -> torch.Tensor:
    """Overlapping, touching, holed and one-pixel instances."""
    rng = np.random.default_rng(seed)
    masks = np.zeros((count, height, width), dtype=bool)
    for mask in masks:
        h, w = rng.integers(1, min(largest, height) + 1), rng.integers(1, min(largest, width) + 1)
        y, x = rng.integers(0, height - h + 1), rng.integers(0, width - w + 1)
        mask[y : y + h, x : x + w] = rng.random((h, w)) < rng.choice([0.3, 0.7, 1.0])
    return torch.from_numpy(masks)


scenes = st.builds(
    random_masks,
    seed=st.integers(0, 2**32 - 1),
    height=st.integers(1, 40),
    width=st.integers(1, 40),
    count=st.integers(0, 30),
    largest=st.integers(1, 40),
)


@given(scenes)
@settings(max_examples=150, deadline=None)
def test_masks_survive_the_way_through_layers(masks):
    layers, slots = masks_to_layers(masks)
    assert layers.dtype == torch.uint8
    assert slots.shape == (len(masks), 2)
    assert torch.equal(layers_to_masks(layers, slots), masks)


@pytest.mark.parametrize("count", [0, 1, 255, 256, 600])
def test_hundreds_of_instances_survive(count):
    masks = random_masks(count, 64, 64, count, 9)
    layers, slots = masks_to_layers(masks)
    assert torch.equal(layers_to_masks(layers, slots), masks)


def test_instances_that_do_not_collide_share_a_layer_until_it_is_full():
    masks = torch.eye(300, dtype=torch.bool).reshape(300, 15, 20)
    layers, slots = masks_to_layers(masks)
    assert len(layers) == 2
    assert slots[254].tolist() == [0, 255]
    assert slots[255].tolist() == [1, 1]


def test_an_instance_inside_the_hole_of_another_shares_its_layer():
    ring, inside = torch.ones(2, 5, 5, dtype=torch.bool)
    ring[2, 2] = False
    inside[:] = False
    inside[2, 2] = True
    layers, _ = masks_to_layers(torch.stack([ring, inside]))
    assert len(layers) == 1


def test_painting_a_crop_is_painting_the_whole_mask():
    painter = LayerPainter(6, 8)
    crop = np.array([[True, False], [True, True]])
    assert painter.add(crop, x0=5, y0=3) == (0, 1)
    expected = np.zeros((6, 8), dtype=np.uint8)
    expected[3, 5] = expected[4, 5] = expected[4, 6] = 1
    assert np.array_equal(painter.layers[0], expected)


@given(scenes)
@settings(max_examples=100, deadline=None)
def test_boxes_and_areas_equal_those_of_dense_masks(masks):
    layers, slots = masks_to_layers(masks)
    boxes, areas = boxes_and_areas_from_layers(layers.numpy(), slots.numpy())
    assert np.array_equal(areas, masks.flatten(1).sum(1).numpy())
    for mask, box in zip(masks, boxes, strict=True):
        if mask.any():
            inclusive = masks_to_boxes(mask[None])[0]  # torchvision's x2 and y2 are the last pixel itself
            assert box.tolist() == [inclusive[0], inclusive[1], inclusive[2] + 1, inclusive[3] + 1]
        else:
            assert box.tolist() == [0, 0, 0, 0]


def test_boxes_of_runs_that_touch_the_edges_of_rows():
    layer = np.zeros((3, 5), dtype=np.uint8)
    layer[0, 4] = layer[1, 0] = 7  # neighbours in memory, not in the image
    layer[2] = 255
    layer[1, 2:4] = 1
    boxes, areas = boxes_and_areas_from_layers(layer[None], np.array([[0, 255], [0, 7], [0, 9], [0, 1]]))
    assert boxes.tolist() == [[0, 2, 5, 3], [0, 0, 5, 2], [0, 0, 0, 0], [2, 1, 4, 2]]
    assert areas.tolist() == [5, 2, 0, 2]


@pytest.mark.parametrize("order", ["C", "F"])
def test_painting_leaves_neighbours_alone_whatever_the_memory_order(order):
    painter = LayerPainter(4, 6)
    checks = np.asarray(np.indices((4, 6)).sum(axis=0) % 2 == 0, order=order)
    assert painter.add(checks, 0, 0) == (0, 1)
    assert painter.add(~checks, 0, 0) == (0, 2)
    assert painter.add(checks[1:3, 1:4], 1, 1) == (1, 1)
    assert np.array_equal(painter.layers[0], np.where(checks, 1, 2))


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
    monkeypatch.setattr("finemask.ops.layers._CHUNK_PIXELS", 500)
    masks = random_masks(3, 60, 80, 5, 60)
    boxes = torch.tensor([[0.0, 0, 80, 60], [3.3, 4.4, 20.1, 50.7], [70, 50, 79, 59], [10, 10, 10.2, 10.2]])
    matched = torch.tensor([0, 1, 2, 3])
    layers, slots = masks_to_layers(masks)
    expected = project_masks_on_boxes(masks, boxes, matched, 28)
    assert torch.allclose(mask_targets([layers], [slots], [matched], [boxes], 28), expected, atol=1e-5)


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
    monkeypatch.setattr("finemask.ops.layers._crop_by_slices", _crop_by_gather)
    assert torch.allclose(mask_targets(*together, 14), alone, atol=1e-6)


def test_both_ways_of_cropping_agree_inside_the_images():
    layers = [torch.randint(0, 255, (3, 20, 30), dtype=torch.uint8), torch.randint(0, 255, (2, 9, 8)).byte()]
    image = torch.tensor([0, 1, 0, 0])
    layer, top, left = torch.tensor([0, 1, 2, 1]), torch.tensor([0, 5, 5, 16]), torch.tensor([0, 4, 20, 26])
    gathered = _crop_by_gather(layers, image, layer, top, left, 4, 4)
    assert torch.equal(gathered, _crop_by_slices(layers, image, layer, top, left, 4, 4))
