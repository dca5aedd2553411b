"""Stages and experts begin as the plain head of a file, and the report says so."""

import pytest
import torch
from part_cases import (
    NUM_CLASSES,
    build_parts,
    parts_config,
    second_stage_input,
    second_stage_losses,
    without_gradient,
)
from rich.console import Console

from finemask.model.build import build_model
from finemask.model.pretrained.weights import fit_state_dict
from finemask.training.tables import weights_table


def randomised(model):
    return {name: torch.randn_like(t) if t.is_floating_point() else t for name, t in model.state_dict().items()}


def test_stages_of_a_cascade_begin_as_the_plain_head():
    state = randomised(build_parts())
    model = build_parts(box_predictor="cascade")
    report = fit_state_dict(model, state, "plain")
    for stage in model.roi_heads.box_predictor.later:
        for name, tensor in stage.box_head.state_dict().items():
            assert torch.equal(tensor, state[f"roi_heads.box_head.{name}"])
        assert torch.equal(stage.cls_score.weight, state["roi_heads.box_predictor.cls_score.weight"])
    prefix = "roi_heads.box_predictor.later.1."
    assert report.seeds[f"{prefix}box_head.fc7.bias"] == "roi_heads.box_head.fc7.bias"
    assert f"{prefix}cls_score.weight" in report.loaded
    reinitialised = {name: (shape, found) for name, shape, found in report.reinitialised}
    # deltas for all classes at once are another layer than those for each
    assert reinitialised.pop(f"{prefix}bbox_pred.weight") == ((4, 128), (16, 128))
    assert {name.split(".")[-2] for name in reinitialised} == {"bbox_pred"}


def test_experts_begin_as_the_plain_head_and_keep_what_is_their_own():
    state = randomised(build_parts())
    model = build_parts(box_predictor="multi_expert predictor=own")
    report = fit_state_dict(model, state, "plain")
    assert report.reinitialised == []
    predictor = model.roi_heads.box_predictor
    assert all(torch.equal(head.fc6.weight, state["roi_heads.box_head.fc6.weight"]) for head in predictor.heads)
    assert all(
        torch.equal(own.bbox_pred.weight, state["roi_heads.box_predictor.bbox_pred.weight"])
        for own in predictor.predictors
    )
    own = randomised(model)
    again = fit_state_dict(model, own, "experts")
    assert again.seeds == {}
    assert all(torch.equal(tensor, own[name]) for name, tensor in model.state_dict().items())


def test_experts_are_copies_of_the_model_s_head_before_anything_is_loaded():
    model = build_parts(box_predictor="multi_expert")
    expected = model.roi_heads.box_head.state_dict()
    for head in model.roi_heads.box_predictor.heads:
        assert all(torch.equal(tensor, expected[name]) for name, tensor in head.state_dict().items())
        assert head.fc6.weight.data_ptr() != model.roi_heads.box_head.fc6.weight.data_ptr()


@pytest.mark.parametrize("option", ["multi_expert", "cascade"])
def test_a_head_with_batch_norm_is_copied_as_well(option):
    config = parts_config(box_predictor=option)
    config["box_head"] = {
        "_target_": "finemask.model.box_predictor.box_branch.conv_fc",
        "channels": [8, 8],
        "representation_size": 16,
    }
    model = build_model(config, NUM_CLASSES)
    batch = second_stage_input((1, 0), 3)  # few enough that an expert may get no RoI
    torch.stack(list(second_stage_losses(model, batch).values())).sum().backward()
    assert without_gradient(model) == []
    assert all(tensor.isfinite().all() for tensor in model.state_dict().values())
    predictor = model.roi_heads.box_predictor
    seeds = set(predictor.seeds())
    plain = {name.removeprefix("box_head.") for name in predictor.seeds().values() if name.startswith("box_head.")}
    assert plain == set(model.roi_heads.box_head.state_dict())
    assert seeds <= set(model.roi_heads.state_dict())


def test_the_table_of_weights_says_what_was_copied():
    model = build_parts(box_predictor="multi_expert")
    table = weights_table(fit_state_dict(model, randomised(build_parts()), "plain"))
    console = Console(width=200)
    with console.capture() as shown:
        console.print(table)
    assert "roi_heads.box_predictor: 8 of the tensors loaded are copies of roi_heads.box_head's" in shown.get()


def test_a_plain_model_has_no_seeds():
    assert fit_state_dict(build_parts(), randomised(build_parts()), "plain").seeds == {}
