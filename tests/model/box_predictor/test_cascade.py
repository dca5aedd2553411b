"""The cascade's stages by hand, what each is given and what is averaged; the plain head applied to its own boxes."""

from dataclasses import dataclass, field

import pytest
import torch
from model_cases import random_scene
from part_cases import SIDE_PX, box_context, build_parts, parts_config, second_stage_input, spread_scores

from finemask.errors import ConfigError
from finemask.model.build import build_model
from finemask.model.samplers import label_boxes

SHIFT = 0.1  # of a box's width, to the right, by the first stage
GT = [10.0, 10.0, 30.0, 30.0]


@dataclass
class RecordingLoss:
    """A box loss that keeps what it was asked, whatever coder it is given."""

    calls: list = field(default_factory=list)
    box_coder: object = None

    def __call__(self, class_logits, box_regression, labels, regression_targets, proposals):
        self.calls.append((labels, regression_targets, proposals))
        zero = class_logits.sum() * 0 + box_regression.sum() * 0
        return {"loss_classifier": zero, "loss_box_reg": zero}


@pytest.fixture
def cascade():
    """Stages that do not look at the image: the first moves every box to the right, the others leave it."""
    model = build_parts(box_predictor="cascade", sampler="random")
    predictor = model.roi_heads.box_predictor
    for stage in (predictor, *predictor.later):
        for linear in (stage.cls_score, stage.bbox_pred):
            linear.weight.data.zero_()
            linear.bias.data.zero_()
    predictor.bbox_pred.bias.data[0] = SHIFT * 10.0
    return model


def one_object(boxes):
    features, _, shapes, _ = second_stage_input((1,), 0)
    target = random_scene(SIDE_PX, SIDE_PX, 1)[1] | {"boxes": torch.tensor([GT]), "labels": torch.tensor([2])}
    return features, [torch.tensor(boxes)], shapes, [target]


def test_each_stage_is_given_the_boxes_of_the_one_before_labelled_at_its_own_iou(cascade):
    boxes = [
        GT,  # moves 2 px: IoU 18 · 20 / 440 = 0.82, positive of all stages
        [16.0, 10.0, 36.0, 30.0],  # IoU 0.54; moves on to 18: 12 · 20 / 560 = 0.43, background from the second stage on
        [2.0, 10.0, 22.0, 30.0],  # IoU 0.43, background; moves to 4: 14 · 20 / 520 = 0.54, still background
        [3.2, 10.0, 23.2, 30.0],  # IoU 0.49, background; moves to 5.2: 15.2 / 24.8 = 0.61, a positive of the second
        [50.0, 50.0, 64.0, 64.0],  # moves to 51.4 and is cut at the image's edge
    ]
    batch, loss = one_object(boxes), RecordingLoss()
    cascade.roi_heads.box_loss = loss
    context = box_context(cascade, batch)
    samples = [label_boxes(batch[1][0], batch[3][0], 0.5, 0.5)]
    losses = cascade.roi_heads.box_predictor.losses(context, samples)
    assert list(losses) == [
        "loss_classifier", "loss_box_reg", "loss_classifier_stage2", "loss_box_reg_stage2",
        "loss_classifier_stage3", "loss_box_reg_stage3"]  # fmt: skip
    (labels1, targets1, boxes1), (labels2, targets2, boxes2), (labels3, targets3, boxes3) = loss.calls
    assert torch.equal(boxes1, batch[1][0])
    moved = boxes1 + torch.tensor([2.0, 0, 2.0, 0])
    moved[4] = torch.tensor([51.4, 50.0, 64.0, 64.0])
    assert torch.allclose(boxes2, moved, atol=1e-4)
    assert torch.allclose(boxes3, moved, atol=1e-4)
    assert labels1.tolist() == [2, 2, 0, 0, 0]
    assert labels2.tolist() == [2, 0, 0, 2, 0]
    assert labels3.tolist() == [2, 0, 0, 0, 0]
    assert not boxes2.requires_grad  # boxes are given, not learned through
    # 2 px to the left, of a width of 20, in units of each stage
    assert torch.allclose(targets1[0], torch.zeros(4), atol=1e-5)
    assert torch.allclose(targets2[0], torch.tensor([-0.1 * 20, 0, 0, 0]), atol=1e-4)
    assert torch.allclose(targets3[0], torch.tensor([-0.1 * 30, 0, 0, 0]), atol=1e-4)


def test_boxes_that_lose_their_area_are_not_trained_on(cascade):
    batch = one_object([GT, [60.0, 10.0, 64.0, 30.0]])
    predictor = cascade.roi_heads.box_predictor
    predictor.bbox_pred.bias.data[0] = 1.5 * 10  # by 6 px, out of the image
    loss = RecordingLoss()
    cascade.roi_heads.box_loss = loss
    predictor.losses(box_context(cascade, batch), [label_boxes(batch[1][0], batch[3][0], 0.5, 0.5)])
    assert [len(labels) for labels, _, _ in loss.calls] == [2, 1, 1]
    assert all(targets[labels > 0].isfinite().all() for labels, targets, _ in loss.calls)


def test_scores_are_averaged_over_stages_and_boxes_are_the_last_ones(cascade):
    predictor = cascade.roi_heads.box_predictor
    odds = [[1.0, 1.0, 2.0, 4.0], [4.0, 2.0, 1.0, 1.0], [1.0, 1.0, 1.0, 1.0]]
    for stage, of_stage in zip((predictor, *predictor.later), odds, strict=True):
        stage.cls_score.bias.data = torch.tensor(of_stage).log()
    predictor.later[0].bbox_pred.bias.data[1] = 0.05 * 20  # down, by a twentieth of the height
    predictor.later[1].bbox_pred.bias.data[1] = 0.05 * 30
    batch = one_object([GT])
    with torch.no_grad():
        scores, boxes = predictor.score(box_context(cascade, batch), batch[1])
    mean = (torch.tensor(odds) / torch.tensor(odds).sum(1, keepdim=True)).mean(0)
    assert torch.allclose(scores, mean[None], atol=1e-6)
    assert torch.allclose(boxes, torch.tensor([12.0, 12.0, 32.0, 32.0]).expand(1, 4, 4), atol=1e-4)


def test_the_gradient_into_shared_features_is_divided_by_the_number_of_stages():
    """The loss of the first stage alone, with and without stages after it."""
    gradients = []
    for option in ("cascade iou_thresholds=[] bbox_reg_weights=[]", "cascade"):
        model, batch = build_parts(seed=4, box_predictor=option), second_stage_input()
        samples = [label_boxes(boxes, target, 0.5, 0.5) for boxes, target in zip(batch[1], batch[3], strict=True)]
        model.roi_heads.box_predictor.losses(box_context(model, batch), samples)["loss_classifier"].backward()
        gradients.append((batch[0]["0"].grad, model.roi_heads.box_head.fc6.weight.grad))
    (feature, weight), (third, same) = gradients
    assert feature.any()
    assert torch.allclose(third, feature / 3, rtol=1e-4, atol=1e-9)
    assert torch.allclose(same, weight, rtol=1e-4, atol=1e-9)


def test_a_threshold_without_weights_is_refused():
    with pytest.raises(ConfigError, match="each of the 1 iou_thresholds needs four"):
        build_model(parts_config(box_predictor="cascade iou_thresholds=[0.6]"), 2)


def test_a_box_goes_on_as_the_box_of_its_best_foreground_class():
    model = build_parts(box_predictor="iterative passes=3")
    predictor = model.roi_heads.box_predictor
    for linear in (predictor.cls_score, predictor.bbox_pred):
        linear.weight.data.zero_()
        linear.bias.data.zero_()
    predictor.cls_score.bias.data = torch.tensor([9.0, 0.0, 1.0, 0.5])  # background is likelier than any class
    predictor.bbox_pred.bias.data = torch.tensor([[1.0, 0, 0, 0], [0, 3, 0, 0], [2, 0, 0, 0], [0, 5, 0, 0]]).flatten()
    batch = second_stage_input((0,), 0)
    proposals = [torch.tensor([[10.0, 10.0, 30.0, 30.0], [50.0, 0.0, 64.0, 20.0]])]
    with torch.no_grad():
        scores, boxes = predictor.score(box_context(model, batch), proposals)
    assert torch.allclose(scores, predictor.cls_score.bias.softmax(0).expand(2, 4))
    # Two passes by class 2, a fifth of the width to the right each; then each class's own step from there.
    moved = torch.tensor([18.0, 10.0, 38.0, 30.0])
    expected = [[2, 0, 2, 0], [0, 6, 0, 6], [4, 0, 4, 0], [0, 10, 0, 10]]
    assert torch.allclose(boxes[0], moved + torch.tensor(expected), atol=1e-4)
    # 2.8 px to the right and cut to a width of 11.2; then 2.24 px, and cut to 8.96
    assert torch.allclose(boxes[1, 1], torch.tensor([55.04, 6.0, 64.0, 26.0]), atol=1e-4)


def test_the_number_of_passes_changes_nothing_but_detections():
    once, thrice = (build_parts(3, box_predictor=f"iterative passes={passes}") for passes in (1, 3))
    batch = second_stage_input()
    assert once.state_dict().keys() == build_parts().state_dict().keys()
    for model in (once, thrice):
        spread_scores(model)
    losses = [
        {name: loss.item() for name, loss in model.train().roi_heads(*batch)[1].items()} for model in (once, thrice)
    ]
    assert losses[0] == losses[1]


@pytest.mark.parametrize("option", ["passes=0", "vote_iou_thresh=0.0", "vote_iou_thresh=1.5"])
def test_settings_that_cannot_be_meant(option):
    with pytest.raises(ConfigError, match="passes is at least 1"):
        build_model(parts_config(box_predictor=f"iterative {option}"), 2)
