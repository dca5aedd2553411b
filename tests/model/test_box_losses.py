"""Regression losses against hand-computed values, a reference in plain Python, and torchvision's box losses."""

import math
from dataclasses import replace

import pytest
import torch
from torchvision.models.detection._utils import BoxCoder
from torchvision.models.detection.roi_heads import fastrcnn_loss
from torchvision.ops import complete_box_iou_loss, distance_box_iou_loss, generalized_box_iou_loss

from finemask.model.box_losses import CIoUBoxLoss, DIoUBoxLoss, GIoUBoxLoss, L1BoxLoss, SmoothL1BoxLoss
from finemask.model.box_predictor.box_branch import BoxCriterion
from finemask.model.class_losses import CrossEntropyLoss

CODER = BoxCoder((10.0, 10.0, 5.0, 5.0))


def loss_of(loss, found, wanted, coder=CODER):
    """The loss of boxes, through deltas relative to some other boxes."""
    found, wanted = torch.tensor(found).double(), torch.tensor(wanted).double()
    proposals = wanted + torch.tensor([-1.0, -2.0, 3.0, 1.0])
    deltas, targets = (coder.encode_single(boxes, proposals) for boxes in (found, wanted))
    return loss(deltas, targets, proposals, coder.decode_single).item()


OVERLAPPING = [[0.0, 0, 2, 2]], [[1.0, 1, 3, 3]]  # IoU 1/7, enclosing square of 9, centres √2 apart
CROSSING = [[0.0, 0, 4, 2]], [[0.0, 0, 2, 4]]  # IoU 1/3, enclosing square of 16, centres √2 apart, aspects 2 and 1/2
APART = [[0.0, 0, 1, 1]], [[3.0, 0, 4, 1]]  # enclosing 4 × 1


def test_giou_by_hand():
    assert loss_of(GIoUBoxLoss(1.0), *OVERLAPPING) == pytest.approx(1 - 1 / 7 + 2 / 9)
    assert loss_of(GIoUBoxLoss(1.0), *APART) == pytest.approx(1 + 2 / 4)
    assert loss_of(GIoUBoxLoss(3.0), *APART) == pytest.approx(4.5)


def test_diou_by_hand():
    assert loss_of(DIoUBoxLoss(1.0), *OVERLAPPING) == pytest.approx(1 - 1 / 7 + 2 / 18)
    assert loss_of(DIoUBoxLoss(1.0), *APART) == pytest.approx(1 + 9 / 17)


def test_ciou_by_hand():
    assert loss_of(CIoUBoxLoss(1.0), *OVERLAPPING) == pytest.approx(1 - 1 / 7 + 2 / 18)  # same aspect
    v = 4 / math.pi**2 * (math.atan(0.5) - math.atan(2)) ** 2
    assert loss_of(CIoUBoxLoss(1.0), *CROSSING) == pytest.approx(1 - 1 / 3 + 2 / 32 + v * v / (1 - 1 / 3 + v))


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (GIoUBoxLoss(1.0), generalized_box_iou_loss),
        (DIoUBoxLoss(1.0), distance_box_iou_loss),
        (CIoUBoxLoss(1.0), complete_box_iou_loss),
    ],
)
def test_loss_and_gradient_are_torchvisions_to_the_bit(ours, theirs):
    generator = torch.Generator().manual_seed(0)
    corner = torch.rand(2, 300, 2, generator=generator) * 9
    boxes = torch.cat([corner, corner + 0.5 + 5 * torch.rand(2, 300, 2, generator=generator)], dim=2)
    found, wanted = boxes[0].requires_grad_(), boxes[1]
    losses = ours.of_boxes(found, wanted), theirs(found, wanted, reduction="sum")
    assert losses[0].item() == losses[1].item()
    gradients = [torch.autograd.grad(loss, found)[0] for loss in losses]
    assert torch.allclose(*gradients, rtol=1e-6, atol=1e-7)


def slow_losses(a, b):
    """GIoU, DIoU and CIoU losses of one pair of boxes."""
    shared = max(0, min(a[2], b[2]) - max(a[0], b[0])) * max(0, min(a[3], b[3]) - max(a[1], b[1]))
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (a, b)]
    union = sum(areas) - shared
    width, height = max(a[2], b[2]) - min(a[0], b[0]), max(a[3], b[3]) - min(a[1], b[1])
    distance = ((a[0] + a[2] - b[0] - b[2]) / 2) ** 2 + ((a[1] + a[3] - b[1] - b[3]) / 2) ** 2
    aspects = [math.atan((box[2] - box[0]) / (box[3] - box[1])) for box in (a, b)]
    v = 4 / math.pi**2 * (aspects[0] - aspects[1]) ** 2
    iou = shared / union
    diou = 1 - iou + distance / (width**2 + height**2)
    return 1 - iou + (width * height - union) / (width * height), diou, diou + v * v / (1 - iou + v)


def test_sums_over_random_boxes_equal_a_slow_reference():
    generator = torch.Generator().manual_seed(0)
    corners = 50 * torch.rand(40, 2, 2, generator=generator, dtype=torch.float64)
    boxes = torch.cat([corners, corners + 1 + 40 * torch.rand(40, 2, 2, generator=generator)], dim=2)
    expected = [sum(of_kind) for of_kind in zip(*(slow_losses(*pair) for pair in boxes.tolist()), strict=True)]
    for loss, value in zip((GIoUBoxLoss, DIoUBoxLoss, CIoUBoxLoss), expected, strict=True):
        assert loss_of(loss(1.0), boxes[:, 0].tolist(), boxes[:, 1].tolist()) == pytest.approx(value, rel=1e-5)


def test_losses_of_decoded_boxes_do_not_depend_on_the_scale_of_the_deltas():
    other = BoxCoder((30.0, 30.0, 15.0, 15.0))
    for loss in (GIoUBoxLoss(), DIoUBoxLoss(), CIoUBoxLoss()):
        assert loss_of(loss, *CROSSING, other) == pytest.approx(loss_of(loss, *CROSSING), rel=1e-6)
    assert loss_of(L1BoxLoss(), *CROSSING, other) == pytest.approx(3 * loss_of(L1BoxLoss(), *CROSSING), rel=1e-6)


def test_l1_and_smooth_l1_by_hand():
    deltas, targets = torch.tensor([[0.5, 0.0, -2.0, 0.1]]), torch.zeros(1, 4)
    arguments = deltas, targets, torch.zeros(1, 4), CODER.decode_single
    assert L1BoxLoss(2.0)(*arguments).item() == pytest.approx(5.2)
    # quadratic below 1: 0.125 + 0.005, linear above: 2 - 0.5
    assert SmoothL1BoxLoss(beta=1.0)(*arguments).item() == pytest.approx(1.63)


def test_the_shipped_pair_equals_torchvisions_loss():
    generator = torch.Generator().manual_seed(1)
    logits, regression = (torch.randn(12, width, generator=generator) for width in (4, 16))
    labels = torch.randint(4, (12,), generator=generator)
    targets = torch.randn(12, 4, generator=generator)
    expected = fastrcnn_loss(logits, regression, [labels], [targets])
    found = BoxCriterion(CrossEntropyLoss(), SmoothL1BoxLoss(), CODER)(logits, regression, labels, targets, targets)
    assert (found["loss_classifier"], found["loss_box_reg"]) == expected


def test_the_criterion_may_be_given_deltas_of_another_scale():
    proposals = torch.tensor([[0.0, 0, 10, 10]])
    other = BoxCoder((20.0, 20.0, 10.0, 10.0))
    criterion = BoxCriterion(CrossEntropyLoss(), GIoUBoxLoss(1.0), CODER)
    wanted = other.encode_single(torch.tensor([[0.0, 0, 10, 20]]), proposals)
    found = replace(criterion, box_coder=other)(
        torch.zeros(1, 2), torch.zeros(1, 8), torch.tensor([1]), wanted, proposals
    )
    assert found["loss_box_reg"].item() == pytest.approx(0.5)  # half of the box, nothing beyond it
