"""Boxes of one image: against torchvision, and by hand."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.models.detection._utils import BalancedPositiveNegativeSampler, Matcher
from torchvision.ops import box_iou

from finemask.model.suppression import NMS
from finemask.ops.box_ops import ScoredBoxes, candidates_of, match_boxes, pairwise_iou, sample_balanced, vote_boxes


def boxes(count, seed, size=50.0):
    generator = torch.Generator().manual_seed(seed)
    corners = torch.rand(count, 2, 2, generator=generator) * size
    return torch.cat([corners.amin(1), corners.amax(1)], dim=1)


@pytest.mark.parametrize(("n", "m"), [(0, 5), (5, 0), (1, 1), (30, 700), (300, 3000)])
def test_equal_to_torchvision(n, m):
    a, b = boxes(n, 1), boxes(m, 2)
    assert torch.equal(pairwise_iou(a, b), box_iou(a, b))


def test_pairwise_iou_by_hand():
    a = torch.tensor([[0.0, 0, 10, 10], [20, 20, 30, 30]])
    b = torch.tensor([[5.0, 0, 15, 10]])
    assert pairwise_iou(a, b).tolist() == [[pytest.approx(50 / 150)], [0.0]]


def settle_boxes(candidates, suppression, limit):
    kept, scores = suppression.by_box(candidates.boxes, candidates.scores, candidates.labels, limit)
    return ScoredBoxes(candidates.boxes[kept], scores, candidates.labels[kept])


@pytest.fixture
def candidates():
    """Two boxes of class 1 over one another, one far away, and one of class 2 on the same place."""
    boxes = [[0.0, 0, 10, 10], [0, 0, 10, 12], [40, 40, 50, 50], [0, 0, 10, 10]]
    return ScoredBoxes(torch.tensor(boxes), torch.tensor([0.8, 0.4, 0.3, 0.6]), torch.tensor([1, 1, 1, 2]))


def test_candidates_are_foreground_above_the_threshold_inside_the_image_with_an_area():
    scores = torch.tensor([[0.9, 0.06, 0.04], [0.0, 0.5, 0.5]])
    boxes = torch.arange(24.0).reshape(2, 3, 4)  # x1 y1 x2 y2, rising by one
    boxes[1, 2] = torch.tensor([30.0, 5, 40, 9])  # outside of an image 20 px wide
    found = candidates_of(scores, boxes, (18, 20), 0.05)
    assert found.labels.tolist() == [1, 1]
    assert torch.equal(found.scores, torch.tensor([0.06, 0.5]))
    assert found.boxes.tolist() == [[4, 5, 6, 7], [16, 17, 18, 18]]


def test_the_weaker_of_two_boxes_of_a_class_goes_and_the_limit_keeps_the_best(candidates):
    assert settle_boxes(candidates, NMS(0.5), 10).scores.tolist() == pytest.approx([0.8, 0.6, 0.3])
    assert settle_boxes(candidates, NMS(0.9), 10).scores.tolist() == pytest.approx([0.8, 0.6, 0.4, 0.3])
    assert settle_boxes(candidates, NMS(0.5), 2).labels.tolist() == [1, 2]


def test_a_kept_box_is_the_mean_of_its_class_around_it_weighted_by_score(candidates):
    kept = settle_boxes(candidates, NMS(0.5), 10)
    voted = vote_boxes(kept, candidates, 0.5)
    # the IoU of the first two is 100 / 120; class 2 has no vote on class 1
    assert voted.boxes[0].tolist() == pytest.approx([0, 0, 10, (0.8 * 10 + 0.4 * 12) / 1.2], abs=1e-5)
    assert torch.allclose(voted.boxes[1:], kept.boxes[1:])
    assert torch.equal(voted.scores, kept.scores)
    assert torch.equal(voted.labels, kept.labels)
    assert torch.allclose(vote_boxes(kept, candidates, 0.9).boxes, kept.boxes)


def test_nothing_in_nothing_out():
    none = ScoredBoxes(torch.zeros(0, 4), torch.zeros(0), torch.zeros(0, dtype=torch.int64))
    assert len(vote_boxes(settle_boxes(none, NMS(0.5), 10), none, 0.5).boxes) == 0


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


def test_match_boxes_by_hand():
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
