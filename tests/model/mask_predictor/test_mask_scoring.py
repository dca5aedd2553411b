"""Mask scoring: the IoU that the head should predict, by hand, and what becomes of the scores."""

import pytest
import torch
from mask_part_cases import CHANNELS, NUM_CLASSES, SIZE, mask_rois
from model_cases import model_config, random_scene
from torch import nn

from finemask.model.build import build_model
from finemask.model.mask_losses import BCEMaskLoss
from finemask.model.mask_predictor.mask_branch import MaskTruth
from finemask.model.mask_predictor.mask_scoring import MaskIoUMaskPredictor, mask_ious
from finemask.ops.layers import masks_to_layers


def truth_of(box, *rectangles, matched=0):
    """The truth about one RoI among rectangles (x1, y1, x2, y2) of one image."""
    masks = torch.zeros(len(rectangles), *SIZE, dtype=torch.bool)
    for mask, (x1, y1, x2, y2) in zip(masks, rectangles, strict=True):
        mask[y1:y2, x1:x2] = True
    layers, slots = masks_to_layers(masks)
    gt_boxes = torch.tensor(rectangles).float()
    return MaskTruth([layers], [slots], [gt_boxes], [torch.tensor([matched])], [torch.tensor([box])])


def test_ious_by_hand():
    probs = torch.zeros(1, 4, 4)
    probs[0, :, :2] = 0.9  # the left half is found
    targets = torch.zeros(1, 4, 4)
    targets[0, :2] = 0.6  # the upper half is true
    boxes = torch.tensor([[10.0, 10, 18, 18]])  # a cell is 2 × 2 px
    inside = mask_ious(probs, targets, torch.tensor([0.0]), boxes)
    assert inside.item() == pytest.approx(4 / 12)
    # as many pixels again of the object lie outside: 32 px are 8 cells
    assert mask_ious(probs, targets, torch.tensor([32.0]), boxes).item() == pytest.approx(4 / 20)
    assert mask_ious(targets, targets, torch.tensor([0.0]), boxes).item() == 1.0
    assert mask_ious(torch.zeros(1, 4, 4), torch.zeros(1, 4, 4), torch.tensor([0.0]), boxes).item() == 0.0


@pytest.mark.parametrize(
    ("box", "outside"),
    [
        ([10.0, 10.0, 30.0, 20.0], 0),  # the object itself
        ([5.0, 5.0, 40.0, 30.0], 0),
        ([20.0, 10.0, 30.0, 20.0], 100),  # its right half
        ([12.0, 12.0, 22.0, 18.0], 140),
        ([12.4, 11.6, 21.6, 18.3], 140),  # pixels whose centre lies inside
        ([40.0, 30.0, 50.0, 40.0], 200),
    ],
)
def test_pixels_outside_are_counted(box, outside):
    truth = truth_of(box, (0, 0, 9, 9), (10, 10, 30, 20), matched=1)
    assert truth.pixels_outside().tolist() == pytest.approx([outside], abs=1e-3)


def test_pixels_outside_are_the_matched_instances_own_in_each_image():
    one, two = truth_of([0.0, 0, 10, 10], (0, 0, 20, 10)), truth_of([0.0, 0, 10, 10], (0, 0, 5, 5), (0, 0, 10, 40))
    both = MaskTruth(*(list(a) + list(b) for a, b in zip(one, two, strict=True)))
    both = both._replace(matched_idxs=[torch.tensor([0]), torch.tensor([1])])
    assert both.pixels_outside().tolist() == pytest.approx([100, 300], abs=1e-3)


def test_the_head_learns_the_ious_of_the_masks():
    torch.manual_seed(0)
    predictor = MaskIoUMaskPredictor(CHANNELS, NUM_CLASSES, CHANNELS, channels=(8, 8), representation_size=32)
    rois, truth = mask_rois((4, 4))
    optimizer = torch.optim.Adam(predictor.mask_iou.parameters(), lr=0.01)
    losses = []
    for _ in range(40):
        loss = predictor.losses(rois, truth, BCEMaskLoss())["loss_mask_iou"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.05 * losses[0]


def test_the_iou_loss_by_hand_and_without_a_gradient_into_the_mask():
    predictor = MaskIoUMaskPredictor(CHANNELS, NUM_CLASSES, CHANNELS, channels=(8,), representation_size=8)
    predictor.forward = lambda features, labels: torch.full((len(labels), 28, 28), 5.0)  # the whole box is found
    predictor.mask_iou.forward = lambda pooled, probs, labels: torch.full((len(labels),), 0.1)
    rois, _ = mask_rois((1, 0))
    box = [20.0, 10.0, 30.0, 20.0]
    rois = rois._replace(boxes=[torch.tensor([box])])
    losses = predictor.losses(rois, truth_of(box, (0, 5, 40, 25)), BCEMaskLoss())
    assert losses["loss_mask_iou"].item() == pytest.approx(0.5 * (0.125 - 0.1) ** 2, rel=1e-4)  # 100 of 800 pixels

    predictor = MaskIoUMaskPredictor(CHANNELS, NUM_CLASSES, CHANNELS, channels=(8,), representation_size=8)
    rois, truth = mask_rois()
    predictor.losses(rois, truth, BCEMaskLoss())["loss_mask_iou"].backward()
    assert predictor.conv5_mask.weight.grad is None
    assert rois.pooled.grad.abs().sum() > 0


def test_scores_are_multiplied_by_clamped_ious():
    predictor = MaskIoUMaskPredictor(CHANNELS, NUM_CLASSES, CHANNELS, channels=(8,), representation_size=8).eval()
    predictor.mask_iou.forward = lambda pooled, probs, labels: torch.tensor([0.5, -0.2, 1.3, 0.75, 0.0])
    rois, _ = mask_rois()
    _, scores = predictor.detect(rois, torch.tensor([0.9, 0.8, 0.7, 0.4, 0.3]))
    assert scores.tolist() == pytest.approx([0.45, 0.0, 0.7, 0.3, 0.0])


class Reversing(nn.Module):
    """Rescores detections, and writes the new score into their masks."""

    def losses(self, rois, truth, mask_loss):
        return {}

    def detect(self, rois, scores):
        changed = 1 - scores
        return changed[:, None, None].expand(-1, 28, 28), changed


def test_detections_come_best_first_after_rescoring_with_all_that_is_theirs():
    torch.manual_seed(0)
    model = build_model(model_config("tiny", "model.roi_heads.detections_per_img=20"), 4).eval()
    model.roi_heads.score_thresh = 0.0
    images = [random_scene(60, 80, 3, seed)[0] for seed in (0, 1)]
    with torch.inference_mode():
        plain = model(images)
        model.roi_heads.mask_predictor = Reversing()
        rescored = model(images)
    for before, after in zip(plain, rescored, strict=True):
        assert (after["scores"].diff() >= 0).sum() == (after["scores"].diff() == 0).sum()
        assert torch.equal(after["mask_probs"][:, 0, 0], after["scores"])
        for key in ("boxes", "labels"):
            order = (1 - before["scores"]).argsort(descending=True, stable=True)
            assert torch.equal(after[key], before[key][order])
