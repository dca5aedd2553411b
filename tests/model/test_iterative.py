"""Applying the plain head to its own boxes."""

import pytest
import torch
from part_cases import box_context, build_parts, parts_config, second_stage_input, spread_scores

from finemask.errors import ConfigError
from finemask.model.build import build_model


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
