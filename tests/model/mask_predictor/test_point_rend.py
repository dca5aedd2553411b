"""PointRend's points and subdivision against masks whose every point is known."""

import pytest
import torch
from mask_part_cases import CHANNELS, NUM_CLASSES, STRIDE, mask_rois
from torch.nn.functional import interpolate

from finemask.model.mask_losses import BCEMaskLoss
from finemask.model.mask_predictor.mask_branch import MaskRois
from finemask.model.mask_predictor.point_rend import (
    PointHead,
    PointRendMaskPredictor,
    sample_uncertain_points,
    subdivide,
)
from finemask.ops.mask_ops import cells_at


def flower(points):
    """Logits of a shape with seven petals at points (x, y) in 0..1: positive inside."""
    x, y = (points - 0.5).unbind(-1)
    return 60 * (0.32 + 0.1 * torch.cos(7 * torch.atan2(y, x)) - (x**2 + y**2).sqrt())


def grid(side):
    middles = (torch.arange(side) + 0.5) / side
    return torch.stack(torch.meshgrid(middles, middles, indexing="xy"), dim=2)


def test_subdivision_draws_a_smooth_shape_better_than_28_cells_do():
    coarse, truth = flower(grid(28))[None], flower(grid(224)) > 0
    enlarged = interpolate(coarse[None], size=(224, 224), mode="bilinear", align_corners=False)[0, 0] > 0
    fine = subdivide(coarse, flower, steps=3, count=784)
    assert fine.shape == (1, 224, 224)
    wrong, wrong_before = ((mask != truth).float().mean().item() for mask in (fine[0] > 0, enlarged))
    assert wrong < wrong_before / 20
    assert wrong < 5e-4


def test_subdivision_asks_for_few_points_near_the_outline_only():
    asked = []

    def predict(points):
        asked.append(points)
        return flower(points)

    subdivide(flower(grid(28))[None], predict, steps=2, count=100)
    assert [points.shape for points in asked] == [(1, 100, 2), (1, 100, 2)]
    assert flower(asked[1]).abs().max() < flower(grid(112)).abs().quantile(0.1)
    assert torch.allclose((asked[0] * 56 - 0.5).round() / 56 + 0.5 / 56, asked[0]), "points are the middles of cells"


def test_a_step_with_fewer_cells_than_points_predicts_them_all():
    fine = subdivide(torch.zeros(2, 3, 3), lambda points: points[..., 0] + 10 * points[..., 1], steps=1, count=784)
    middles = (torch.arange(6) + 0.5) / 6
    assert torch.allclose(fine, (middles[None] + 10 * middles[:, None]).expand(2, 6, 6))


def test_no_subdivision_and_no_masks():
    assert subdivide(torch.ones(2, 28, 28), flower, steps=0, count=784).shape == (2, 28, 28)
    assert subdivide(torch.ones(0, 28, 28), flower, steps=3, count=784).shape == (0, 224, 224)


def test_training_points_crowd_where_the_mask_is_unsure():
    torch.manual_seed(0)
    masks = flower(grid(28)).expand(8, 28, 28)
    biased = sample_uncertain_points(masks, 196, oversample=3.0, importance=0.75)
    uniform = sample_uncertain_points(masks, 196, oversample=3.0, importance=0.0)
    assert biased.shape == uniform.shape == (8, 196, 2)
    assert biased.min() >= 0
    assert biased.max() <= 1
    share = (cells_at(masks[:1], grid(300).reshape(1, -1, 2)).abs() < 3).float().mean().item()  # of all places
    near = [(cells_at(masks, points).abs() < 3).float().mean().item() for points in (biased, uniform)]
    assert near[1] == pytest.approx(share, abs=0.04)
    assert 3 * share < 0.75, "so that every point drawn there is chosen"
    assert near[0] == pytest.approx((3 + 0.25) * share, abs=0.06)
    rest = biased[:, int(0.75 * 196) :]
    assert (rest.mean((0, 1)) - 0.5).abs().max() < 0.05, "the remainder is uniform"


def test_an_untrained_point_head_repeats_the_coarse_logit():
    head = PointHead(CHANNELS, NUM_CLASSES, 16, 3)
    coarse = 3 * torch.randn(4, 50)
    found = head(torch.randn(4, 50, CHANNELS), coarse, torch.tensor([1, 2, 3, 1]))
    assert torch.allclose(found, coarse, atol=0.2)
    assert (found != coarse).any()


def test_fine_features_are_read_under_the_point():
    predictor = PointRendMaskPredictor(CHANNELS, NUM_CLASSES, pyramid_channels=2)
    rois, _ = mask_rois((1, 2))
    across = torch.arange(16.0) * STRIDE
    position = torch.stack(torch.meshgrid(across, across, indexing="xy"))  # each pixel of the map says where it is
    pyramid = {"0": torch.stack([position, position + 1000]), "1": torch.zeros(2, 2, 8, 8)}
    seen = []
    predictor.point_head.forward = lambda features, coarse, labels: seen.append((features, labels)) or coarse
    points = torch.tensor([[[0.0, 0.0], [1.0, 1.0], [0.25, 0.5]]])
    moved = MaskRois(**{**rois._asdict(), "pyramid": pyramid})
    for number, (boxes, labels) in enumerate(zip(rois.boxes, rois.labels.split([1, 2]), strict=True)):
        predictor._logits_at(moved, number, torch.zeros(len(boxes), 28, 28), points.expand(len(boxes), -1, -1))
        size = boxes[:, 2:] - boxes[:, :2]
        wanted = torch.stack([boxes[:, :2], boxes[:, 2:], boxes[:, :2] + size * torch.tensor([0.25, 0.5])], dim=1)
        assert torch.allclose(seen[-1][0], wanted + 1000 * number, atol=1e-3)
        assert torch.equal(seen[-1][1], labels)


def test_points_are_learned_from_fine_features():
    """Features that hold the true mask at stride 4, and a coarse mask that knows nothing."""
    torch.manual_seed(0)
    predictor = PointRendMaskPredictor(CHANNELS, NUM_CLASSES, pyramid_channels=1, point_channels=16, point_depth=2)
    rois, truth = mask_rois((6, 6))
    everything = torch.stack([(layers > 0).any(0) for layers in truth.layers]).float()[:, None, ::STRIDE, ::STRIDE]
    pyramid = {"0": torch.nn.functional.pad(everything, (0, 0, 0, 4))}
    rois = MaskRois(**{**rois._asdict(), "pyramid": pyramid})
    optimizer = torch.optim.Adam(predictor.point_head.parameters(), lr=0.02)
    before = None
    for _ in range(30):
        loss = predictor.losses(rois, truth, BCEMaskLoss())["loss_mask_point"]
        before = before or loss.item()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.6 * before


def test_the_sides_of_masks_follow_the_number_of_doublings():
    rois, _ = mask_rois((1, 0))
    for subdivisions in (0, 2):
        predictor = PointRendMaskPredictor(
            CHANNELS, NUM_CLASSES, CHANNELS, point_channels=8, subdivisions=subdivisions
        ).eval()
        with torch.inference_mode():
            probs, scores = predictor.detect(rois, torch.tensor([0.5]))
        assert probs.shape == (1, 28 * 2**subdivisions, 28 * 2**subdivisions)
        assert scores.tolist() == [0.5]


@pytest.mark.parametrize("wrong", [{"importance": 1.5}, {"oversample": 0.5}, {"train_points": 0}, {"importance": -1}])
def test_settings_that_make_no_sense_are_refused(wrong):
    with pytest.raises(ValueError, match="mask_predictor"):
        PointRendMaskPredictor(4, 2, 4, **wrong)
