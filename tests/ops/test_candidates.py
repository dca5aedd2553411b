"""From scored boxes to detections, by hand."""

import pytest
import torch

from finemask.model.suppression import NMS, settle_boxes
from finemask.ops.boxes import ScoredBoxes, candidates_of, vote_boxes


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
