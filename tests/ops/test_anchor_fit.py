"""Best anchors, against torchvision's own anchors laid out in full."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.models.detection.image_list import ImageList
from torchvision.ops import box_iou

from finemask.model.rpn import fpn_anchors
from finemask.ops.anchor_fit import best_anchor_iou, coverage, fit_anchors, resized_boxes

SIZES, RATIOS = (32.0, 64.0, 128.0, 256.0, 512.0), (0.5, 1.0, 2.0)


def all_anchors(height, width, sizes, ratios):
    """As the RPN gets them from feature maps of strides 4 to 32 and a pooled one."""
    height, width = (-(-side // 32) * 32 for side in (height, width))
    grids = [(height // stride, width // stride) for stride in (4, 8, 16, 32)]
    grids.append((-(-grids[-1][0] // 2), -(-grids[-1][1] // 2)))
    maps = [torch.zeros(1, 1, *grid) for grid in grids]
    (anchors,) = fpn_anchors(sizes, ratios)(ImageList(torch.zeros(1, 3, height, width), [(height, width)]), maps)
    return anchors


@pytest.mark.parametrize(("height", "width"), [(200, 333), (160, 160), (96, 512)])
@pytest.mark.parametrize("ratios", [RATIOS, (0.25, 1.0, 3.0)])
def test_it_is_the_best_of_all_anchors_that_torchvision_lays_out(height, width, ratios):
    rng = np.random.default_rng(height)
    low = rng.uniform(0, (width - 4, height - 4), (80, 2))
    high = np.minimum(low + rng.uniform(3, 200, (80, 2)), (width, height))
    boxes = np.concatenate([low, high], axis=1)
    ours = best_anchor_iou(boxes, np.tile([[height, width]], (80, 1)), SIZES, ratios)
    anchors = all_anchors(height, width, SIZES, ratios).double()
    theirs = box_iou(torch.from_numpy(boxes), anchors).max(dim=1).values.numpy()
    assert ours == pytest.approx(theirs, abs=1e-9)


def test_a_box_that_is_an_anchor():
    assert best_anchor_iou(np.array([[-32, -32, 32, 32]]), np.array([[256, 256]]), SIZES, RATIOS) == pytest.approx(1)


def test_no_boxes():
    none = np.zeros((0, 4))
    assert best_anchor_iou(none, np.zeros((0, 2), np.int64), SIZES, RATIOS).shape == (0,)
    assert fit_anchors(none, np.zeros((0, 2), np.int64), SIZES, RATIOS) == (list(SIZES), list(RATIOS))


def squares(side, number, elongation=1.0):
    rng = np.random.default_rng(0)
    low = rng.uniform(0, 700, (number, 2))
    extent = np.array([side * elongation**0.5, side / elongation**0.5])
    return np.concatenate([low, low + extent], axis=1), np.full((number, 2), 800)


def test_small_objects_get_smaller_anchors():
    boxes, size_hw = squares(14, 500)
    sizes, ratios = fit_anchors(boxes, size_hw, SIZES, RATIOS)
    assert sizes[0] < 20
    assert ratios == list(RATIOS)
    before, after = (coverage(best_anchor_iou(boxes, size_hw, s, RATIOS)) for s in (SIZES, sizes))
    assert before < 0.1
    assert after > 0.9


def test_anchors_that_fit_stay():
    assert fit_anchors(*squares(100, 500), SIZES, RATIOS) == (list(SIZES), list(RATIOS))


def test_long_objects_get_longer_anchors():
    boxes, size_hw = squares(100, 500, elongation=6)
    boxes[::2] = boxes[::2][:, [1, 0, 3, 2]]  # half of them upright
    _, ratios = fit_anchors(boxes, size_hw, SIZES, RATIOS)
    assert min(ratios) < 0.3
    assert max(ratios) > 3
    assert len(ratios) == 3


def test_a_handful_of_objects_changes_nothing():
    boxes, size_hw = squares(100, 20)
    boxes[:3, 2:] = boxes[:3, :2] + 12
    assert fit_anchors(boxes, size_hw, SIZES, RATIOS) == (list(SIZES), list(RATIOS))


@settings(max_examples=15, deadline=None)
@given(
    side=st.floats(6, 400),
    spread=st.floats(0, 0.8),
    elongation=st.floats(0.2, 5),
    ratios=st.sampled_from([(1.0,), (0.5, 1.0, 2.0), (0.5, 0.8, 1.25, 2.0)]),
    levels=st.integers(1, 5),
    seed=st.integers(0, 99),
)
def test_fitting_keeps_the_counts_and_never_covers_less(side, spread, elongation, ratios, levels, seed):
    rng = np.random.default_rng(seed)
    sides = side * np.exp(rng.normal(0, spread, (200, 1)))
    extent = sides * np.array([[elongation**-0.5, elongation**0.5]])
    low = rng.uniform(0, 400, (200, 2))
    boxes, size_hw = np.concatenate([low, low + extent], axis=1), np.full((200, 2), 800)
    sizes, fitted = fit_anchors(boxes, size_hw, SIZES[:levels], ratios)
    assert (len(sizes), len(fitted)) == (levels, len(ratios))
    assert sorted(set(sizes)) == sizes
    assert min(fitted) > 0
    before, after = (
        coverage(best_anchor_iou(boxes, size_hw, *anchors)) for anchors in ((SIZES[:levels], ratios), (sizes, fitted))
    )
    assert after >= before
    if (list(sizes), list(fitted)) != (list(SIZES[:levels]), list(ratios)):
        assert after >= before + 0.03
    elif spread < 0.1 and side < 300 and 0.6 < elongation < 1.6 and levels == 5:
        assert after > 0.7, "one size of nearly square boxes can always be covered"


def test_boxes_are_resized_as_torchvision_resizes_them():
    image_hw = np.array([[480, 640], [600, 2000]])
    boxes = np.array([[10, 20, 110, 220], [0, 0, 2000, 600]])
    resized, size_hw = resized_boxes(boxes, image_hw, 800, 1333)
    assert size_hw.tolist() == [[800, 1066], [399, 1333]]
    assert resized[0] == pytest.approx([10 / 0.6, 20 / 0.6, 110 / 0.6, 220 / 0.6])
    assert resized[1] == pytest.approx([0, 0, 1333, 399.9])
