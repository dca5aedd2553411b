"""Label maps against dense masks and torchvision."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from mask_scenes import random_masks, scenes
from torchvision.ops import masks_to_boxes

from finemask.ops.layers import (
    LayerPainter,
    boxes_and_areas_from_layers,
    layers_to_masks,
    masks_to_layers,
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
