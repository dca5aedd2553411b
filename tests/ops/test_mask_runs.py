"""Masks as runs, against pycocotools' own decoder and masks painted one by one."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pycocotools import mask as coco_mask

from finemask.ops.layers import LayerPainter
from finemask.ops.mask_runs import boxes_and_areas_from_runs, decode_runs, interleaved, layers_from_runs

SIZES = st.tuples(st.integers(1, 12), st.integers(1, 12))


def encode(mask):
    return coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))["counts"]


def whole_images(masks, size_hw):
    windows = np.tile([0, 0, size_hw[1], size_hw[0]], (len(masks), 1))
    return decode_runs([encode(mask) for mask in masks], windows, size_hw)


def painted_one_by_one(masks, size_hw):
    painter = LayerPainter(*size_hw)
    slots = [painter.add(mask, 0, 0) for mask in masks]
    return painter.layers, np.array(slots, dtype=np.int64).reshape(-1, 2)


def assert_equals_dense(runs, masks):
    layers, slots = layers_from_runs(runs)
    expected_layers, expected_slots = painted_one_by_one(masks, runs.size_hw)
    assert layers.dtype == np.uint8
    np.testing.assert_array_equal(layers, expected_layers)
    np.testing.assert_array_equal(slots, expected_slots)
    boxes, areas = boxes_and_areas_from_runs(runs)
    np.testing.assert_array_equal(areas, [mask.sum() for mask in masks])
    for box, mask in zip(boxes, masks, strict=True):
        rows, columns = np.nonzero(mask)
        tight = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1] if rows.size else [0, 0, 0, 0]
        assert box.tolist() == tight


@given(SIZES.flatmap(lambda hw: arrays(np.bool_, st.tuples(st.integers(0, 6), st.just(hw[0]), st.just(hw[1])))))
@settings(max_examples=150, deadline=None)
def test_any_masks(masks):
    assert_equals_dense(whole_images(masks, masks.shape[1:]), masks)


@given(
    SIZES.flatmap(lambda hw: arrays(np.bool_, st.tuples(st.integers(0, 6), st.just(hw[0]), st.just(hw[1])))), st.data()
)
@settings(max_examples=100, deadline=None)
def test_two_groups_as_one(masks, data):
    of_some = np.array(data.draw(st.lists(st.booleans(), min_size=len(masks), max_size=len(masks))), dtype=np.bool_)
    some, others = (whole_images(masks[chosen], masks.shape[1:]) for chosen in (of_some, ~of_some))
    found, whole = interleaved(some, others, of_some), whole_images(masks, masks.shape[1:])
    for mine, theirs in zip(found, whole, strict=True):
        np.testing.assert_array_equal(mine, theirs)


@given(st.data())
@settings(max_examples=100, deadline=None)
def test_masks_known_in_windows(data):
    height, width = data.draw(SIZES)
    masks, counts, windows = [], [], []
    for _ in range(data.draw(st.integers(0, 5))):
        x0, x1 = sorted(data.draw(st.lists(st.integers(0, width), min_size=2, max_size=2)))
        y0, y1 = sorted(data.draw(st.lists(st.integers(0, height), min_size=2, max_size=2)))
        crop = data.draw(arrays(np.bool_, (y1 - y0, x1 - x0)))
        if y0 > 0 or y1 < height:
            crop[-1:] = False  # as the index cuts windows: a run changes columns only where they are whole
        mask = np.zeros((height, width), bool)
        mask[y0:y1, x0:x1] = crop
        masks.append(mask)
        windows.append((x0, y0, x1, y1) if crop.size else (0, 0, 0, 0))
        counts.append(encode(crop) if crop.size else b"")
    runs = decode_runs(counts, np.array(windows, dtype=np.int32).reshape(-1, 4), (height, width))
    assert_equals_dense(runs, masks)


def test_large_random_shapes_with_long_numbers():
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:700, :900]
    centres = rng.uniform(0, (700, 900), (40, 2))
    radii = rng.uniform(5, 150, 40)
    masks = np.stack([np.hypot(y - cy, x - cx) < r for (cy, cx), r in zip(centres, radii, strict=True)])
    masks &= rng.random(masks.shape) < 0.97
    assert_equals_dense(whole_images(masks, (700, 900)), masks)


@pytest.mark.parametrize("side", [1, 2])
def test_more_masks_than_a_layer_has_values(side):
    masks = np.zeros((600, 30, 30), bool)
    for k in range(600):  # side 1: all apart; side 2: each touches its neighbours
        masks[k, k // 30 : k // 30 + side, k % 30 : k % 30 + side] = True
    runs = whole_images(masks, (30, 30))
    assert_equals_dense(runs, masks)
    assert len(layers_from_runs(runs)[0]) >= 3


def test_many_masks_on_the_same_pixels(monkeypatch):
    monkeypatch.setattr("finemask.ops.mask_runs._PAIRS_AT_ONCE", 50)
    masks = np.random.default_rng(1).random((20, 15, 15)) < 0.5
    assert_equals_dense(whole_images(masks, (15, 15)), masks)


def test_masks_without_pixels_are_left_out():
    masks = np.zeros((4, 5, 6), bool)
    masks[1, 2, 3], masks[3, 2, 3:] = True, True
    left = whole_images(masks, (5, 6)).of(np.array([1, 3]))
    assert_equals_dense(left, masks[[1, 3]])
