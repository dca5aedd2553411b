"""Box predictors and samplers that must be the plain model, to the last digits, when set so."""

import pytest
import torch
from part_cases import (
    SIDE_PX,
    box_context,
    build_parts,
    second_stage_detections,
    second_stage_input,
    second_stage_losses,
    spread_scores,
)

from finemask.model.box_predictor.box_branch import box_branch_of
from finemask.model.pretrained.weights import fit_state_dict

ROOM_FOR_ALL = "batch_size_per_image=1000 positive_fraction=1.0"
EQUAL_TO_PLAIN = {
    "experts by aspect": {"box_predictor": "multi_expert"},
    "experts with a predictor each": {"box_predictor": "multi_expert predictor=own"},
    "experts that are all trained": {"box_predictor": "multi_expert assign=learned"},
    "experts that are chosen": {"box_predictor": "multi_expert assign=learned warmup_steps=0"},
    "experts that are mixed": {"box_predictor": "multi_expert assign=learned mixing=soft"},
    "one expert": {"box_predictor": "multi_expert assign=learned num_experts=1 warmup_steps=0"},
    "one expert for all shapes": {"box_predictor": "multi_expert aspect_thresh=1e9"},
    "one stage": {"box_predictor": "cascade iou_thresholds=[] bbox_reg_weights=[]"},
    "one pass without voting": {"box_predictor": "iterative passes=1 vote_iou_thresh=1.0"},
    "hard examples, all of them": {"sampler": f"ohem {ROOM_FOR_ALL}"},
}


@pytest.fixture(scope="module")
def batch():
    return second_stage_input(proposals=20)


@pytest.fixture(scope="module")
def plain():
    """The plain model, with deltas that are the same for all classes, which a cascade can express too."""
    model = build_parts(1, sampler=f"random {ROOM_FOR_ALL}")
    spread_scores(model)
    bbox_pred = model.roi_heads.box_predictor.bbox_pred
    for parameter in bbox_pred.parameters():
        parameter.data = parameter.data[:4].repeat(len(parameter) // 4, *[1] * (parameter.dim() - 1))
    return model


@pytest.mark.parametrize("parts", EQUAL_TO_PLAIN.values(), ids=list(EQUAL_TO_PLAIN))
def test_losses_and_detections_are_the_plain_models(plain, batch, parts):
    torch.manual_seed(0)
    model = build_parts(2, **{"sampler": f"random {ROOM_FOR_ALL}", **parts})
    fit_state_dict(model, plain.state_dict(), "the plain model")
    if "cascade" in parts.get("box_predictor", ""):
        for mine, theirs in zip(
            model.roi_heads.box_predictor.bbox_pred.parameters(),
            plain.roi_heads.box_predictor.bbox_pred.parameters(),
            strict=True,
        ):
            mine.data = theirs.data[:4].clone()
    losses, reference = second_stage_losses(model, batch), second_stage_losses(plain, batch)
    for name in reference:
        assert losses[name].item() == pytest.approx(reference[name].item(), abs=1e-6), name
    detections, references = second_stage_detections(model, batch), second_stage_detections(plain, batch)
    assert sum(len(expected["labels"]) for expected in references) > 20
    for found, expected in zip(detections, references, strict=True):
        assert torch.equal(found["labels"], expected["labels"])
        assert (found["scores"] - expected["scores"]).abs().max() < 1e-6
        assert (found["boxes"] - expected["boxes"]).abs().max() / SIDE_PX < 1e-6


def test_what_must_differ_differs(plain, batch):
    """The equalities above are not for want of sensitivity."""
    reference = second_stage_detections(plain, batch)[0]
    for option in ("iterative", "multi_expert"):
        model = build_parts(2, box_predictor=option)
        fit_state_dict(model, plain.state_dict(), "the plain model")
        for head in getattr(model.roi_heads.box_predictor, "heads", []):
            head.fc6.weight.data *= 1.5
        found = second_stage_detections(model, batch)[0]
        same_number = len(found["boxes"]) == len(reference["boxes"])
        assert not same_number or (found["boxes"] - reference["boxes"]).abs().max() > 1e-2


def test_detections_of_the_plain_branch_are_torchvisions(plain, batch):
    """``RoIHeads.postprocess_detections`` is still there to compare with."""
    context, proposals = box_context(plain, batch), batch[1]
    branch = box_branch_of(plain.roi_heads.box_predictor)
    with torch.inference_mode():
        logits, deltas = branch.predict(context, proposals)
        expected = plain.roi_heads.postprocess_detections(logits, deltas, proposals, batch[2])
        found = branch.detect(context, proposals)
    for number, of_image in enumerate(found):
        assert len(of_image.labels) > 20
        for part, theirs in zip(of_image, (expected[0], expected[1], expected[2]), strict=True):
            assert torch.equal(part, theirs[number])
