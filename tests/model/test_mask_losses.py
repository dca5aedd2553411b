"""Mask losses against hand-computed values and slow references."""

import numpy as np
import pytest
import torch
from scipy.signal import correlate2d

from finemask.model.mask_losses import (
    BCEMaskLoss,
    BoundaryMaskLoss,
    DiceBCEMaskLoss,
    EdgeMaskLoss,
    boundary_band,
    sobel,
)

ONE = torch.ones(1, dtype=torch.int64)
SURE = 40.0  # a logit whose probability is 1 to the last bit


def left_half(side=16):
    targets = torch.zeros(1, side, side)
    targets[:, :, : side // 2] = 1.0
    return targets


def random_case(seed=0):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(3, 9, 9, generator=generator, dtype=torch.float64)
    return logits, torch.rand(3, 9, 9, generator=generator, dtype=torch.float64), torch.ones(3, dtype=torch.int64)


def test_sobel_equals_a_convolution_with_its_two_kernels():
    maps, _, _ = random_case()
    kernel = np.array([[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]])
    for found, wanted in zip(sobel(maps), (kernel, kernel.T), strict=True):
        expected = np.stack([correlate2d(one, wanted, mode="valid") for one in maps.numpy()])
        assert np.allclose(found.numpy(), expected)


@pytest.mark.parametrize(("exponent", "emphasis"), [(2.0, 0.0), (1.0, 0.0), (2.0, 3.0)])
def test_edge_agreement_equals_a_slow_reference(exponent, emphasis):
    logits, targets, labels = random_case()
    kernel = np.array([[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]])
    total = 0.0
    for logit, target in zip(logits.numpy(), targets.numpy(), strict=True):
        prob = 1 / (1 + np.exp(-logit))
        wanted = [correlate2d(target, k, mode="valid") for k in (kernel, kernel.T)]
        strength = np.minimum(1.0, np.abs(wanted[0]) + np.abs(wanted[1]))
        for k, edges in zip((kernel, kernel.T), wanted, strict=True):
            total += ((1 + emphasis * strength) * np.abs(correlate2d(prob, k, mode="valid") - edges) ** exponent).sum()
    loss = EdgeMaskLoss(bce_weight=0.0, edge_weight=2.0, exponent=exponent, emphasis=emphasis)
    assert loss(logits, targets, labels).item() == pytest.approx(2 * total / (3 * 2 * 7 * 7))


def test_edges_that_agree_cost_nothing_wherever_the_mask_lies():
    targets = left_half()
    logits = SURE * (2 * targets - 1)
    assert EdgeMaskLoss(bce_weight=0.0)(logits, targets, ONE).item() == 0.0
    # a mask shifted by three columns: two edges of four columns of the filter, each answering 4 in two columns
    shifted = torch.zeros_like(targets)
    shifted[:, :, :11] = 1.0
    expected = (4 * 14 * 4.0**2) / (2 * 14 * 14)
    assert EdgeMaskLoss(bce_weight=0.0)(SURE * (2 * shifted - 1), targets, ONE).item() == pytest.approx(expected)


def test_the_edge_term_has_a_gradient_near_edges_only():
    targets = left_half()
    logits = (0.3 * (2 * targets - 1)).requires_grad_()  # unsure everywhere, and wrong nowhere but at the edge's height
    EdgeMaskLoss(bce_weight=0.0)(logits, targets, ONE).backward()
    touched = (logits.grad[0] != 0).any(0)
    assert touched[6:10].all()
    assert not touched[:6].any()
    assert not touched[10:].any()


def test_the_edge_term_is_added_to_cross_entropy():
    logits, targets, labels = random_case()
    bce, edge, both = (EdgeMaskLoss(*weights)(logits, targets, labels) for weights in ((1, 0), (0, 1), (2, 3)))
    assert bce.item() == pytest.approx(BCEMaskLoss()(logits, targets, labels).item())
    assert both.item() == pytest.approx((2 * bce + 3 * edge).item())


def test_dice_by_hand():
    logits, targets = torch.zeros(1, 2, 2), torch.tensor([[[1.0, 1.0], [0.0, 0.0]]])
    # probabilities of 1/2: they share 1 with the target; squares sum to 1 and 2
    assert DiceBCEMaskLoss(0.0, 1.0, smooth=0.0)(logits, targets, ONE).item() == pytest.approx(1 - 2 / 3)
    assert DiceBCEMaskLoss(0.0, 2.0, smooth=1.0)(logits, targets, ONE).item() == pytest.approx(2 * (1 - 3 / 4))
    assert DiceBCEMaskLoss(1.0, 0.0)(logits, targets, ONE).item() == pytest.approx(np.log(2))


def test_dice_weighs_a_small_object_as_much_as_a_large_one():
    targets = torch.zeros(2, 28, 28)
    targets[0, :2, :2], targets[1, :20, :20] = 1.0, 1.0
    missed = torch.full((2, 28, 28), -SURE)
    each = [DiceBCEMaskLoss(0.0, 1.0, smooth=0.0)(missed[i : i + 1], targets[i : i + 1], ONE).item() for i in (0, 1)]
    assert each == [1.0, 1.0]


def test_the_band_is_what_lies_within_reach_of_the_outline():
    band = boundary_band(left_half(), 2)[0]
    assert band[:, 6:10].all()
    assert band.sum() == 16 * 4
    assert boundary_band(torch.ones(1, 8, 8), 2).sum() == 0, "the crop's rim is no outline"


def test_boundary_loss_by_hand():
    targets = left_half()
    logits = torch.zeros_like(targets)
    logits[:, :, :6], logits[:, :, 10:] = SURE, -SURE  # right away from the outline, undecided in the band
    # 64 cells of the band at ln 2 and weight 5, 192 others at 0 and weight 1
    expected = 64 * 5 * np.log(2) / (64 * 5 + 192)
    assert BoundaryMaskLoss(1.0, 5.0, 2)(logits, targets, ONE).item() == pytest.approx(expected)
    logits, targets, labels = random_case()
    assert BoundaryMaskLoss(2.0, 1.0, 2)(logits, targets, labels).item() == pytest.approx(
        2 * BCEMaskLoss()(logits, targets, labels).item()
    )


@pytest.mark.parametrize("wrong", [lambda: EdgeMaskLoss(exponent=0.5), lambda: BoundaryMaskLoss(width=0)])
def test_settings_that_make_no_sense_are_refused(wrong):
    with pytest.raises(ValueError, match=r"mask_loss\."):
        wrong()
