"""Box arithmetic against torchvision's."""

import pytest
import torch
from torchvision.ops import box_iou

from finemask.ops.boxes import pairwise_iou


def boxes(count, seed, size=50.0):
    generator = torch.Generator().manual_seed(seed)
    corners = torch.rand(count, 2, 2, generator=generator) * size
    return torch.cat([corners.amin(1), corners.amax(1)], dim=1)


@pytest.mark.parametrize(("n", "m"), [(0, 5), (5, 0), (1, 1), (30, 700), (300, 3000)])
def test_equal_to_torchvision(n, m):
    a, b = boxes(n, 1), boxes(m, 2)
    assert torch.equal(pairwise_iou(a, b), box_iou(a, b))


def test_by_hand():
    a = torch.tensor([[0.0, 0, 10, 10], [20, 20, 30, 30]])
    b = torch.tensor([[5.0, 0, 15, 10]])
    assert pairwise_iou(a, b).tolist() == [[pytest.approx(50 / 150)], [0.0]]
