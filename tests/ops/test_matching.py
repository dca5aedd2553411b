"""Matching and sampling against torchvision's own classes."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.models.detection._utils import BalancedPositiveNegativeSampler, Matcher
from torchvision.ops import box_iou

from finemask.ops.matching import match_boxes, sample_balanced


def random_boxes(count: int, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand(count, 2, generator=generator) * 40
    return torch.cat([corner, corner + 4 + torch.rand(count, 2, generator=generator) * 30], dim=1).round()


@given(
    count=st.integers(1, 60),
    gt_count=st.integers(1, 8),
    seed=st.integers(0, 10_000),
    thresholds=st.sampled_from([(0.7, 0.3), (0.5, 0.5), (0.95, 0.1)]),
    keep_best=st.booleans(),
)
@settings(max_examples=150, deadline=None)
def test_matches_are_torchvisions(count, gt_count, seed, thresholds, keep_best):
    high, low = thresholds
    boxes, gt_boxes = random_boxes(count, seed), random_boxes(gt_count, seed + 1)
    expected = Matcher(high, low, allow_low_quality_matches=keep_best)(box_iou(gt_boxes, boxes))
    matched_idxs, kinds = match_boxes(boxes, gt_boxes, high, low, keep_best=keep_best)
    assert torch.equal(kinds, torch.where(expected >= 0, 1, torch.where(expected == -1, 0, -1)))
    assert torch.equal(matched_idxs[kinds == 1], expected[expected >= 0])


def test_by_hand():
    gt_boxes = torch.tensor([[0.0, 0, 10, 10], [20, 0, 30, 10]])
    boxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 5], [20, 0, 30, 4], [50, 50, 60, 60]])  # IoU 1, 0.5, 0.4, 0
    matched_idxs, kinds = match_boxes(boxes, gt_boxes, 0.7, 0.45)
    assert kinds.tolist() == [1, -1, 0, 0]
    assert matched_idxs[:3].tolist() == [0, 0, 1]
    assert match_boxes(boxes, gt_boxes, 0.7, 0.45, keep_best=True)[1].tolist() == [1, -1, 1, 0]


def test_without_ground_truth_everything_is_background():
    matched_idxs, kinds = match_boxes(random_boxes(5, 0), torch.zeros(0, 4), 0.7, 0.3, keep_best=True)
    assert matched_idxs.tolist() == kinds.tolist() == [0] * 5


@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
@given(labels=st.lists(st.integers(-1, 3), max_size=80), batch_size=st.integers(1, 40), seed=st.integers(0, 1000))
@settings(max_examples=60, deadline=None)
def test_draws_are_torchvisions(share, labels, batch_size, seed):
    labels = torch.tensor(labels, dtype=torch.int64)
    torch.manual_seed(seed)
    positives, background = sample_balanced(labels, batch_size, share)
    torch.manual_seed(seed)
    (expected_positive,), (expected_background,) = BalancedPositiveNegativeSampler(batch_size, share)([labels])
    assert positives.sort().values.tolist() == torch.where(expected_positive)[0].tolist()
    assert background.sort().values.tolist() == torch.where(expected_background)[0].tolist()
