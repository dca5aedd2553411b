"""Box experts: who gets which RoI, and what the network that decides it learns."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from part_cases import box_context, build_parts, parts_config, second_stage_input, second_stage_losses, spread_scores

from finemask.errors import ConfigError
from finemask.model.box_predictor.multi_expert import SQUARE, TALL, WIDE, assignment_loss, expert_by_aspect, roi_costs
from finemask.model.build import build_model
from finemask.model.samplers import label_boxes


def with_different_experts(**parts):
    model = build_parts(**parts)
    spread_scores(model)
    generator = torch.Generator().manual_seed(1)
    for parameter in model.roi_heads.box_predictor.heads.parameters():
        parameter.data += torch.randn(parameter.shape, generator=generator) * parameter.data.std()
    return model


@pytest.fixture(scope="module")
def batch():
    return second_stage_input()


@pytest.fixture(scope="module")
def learned():
    return with_different_experts(box_predictor="multi_expert assign=learned predictor=own warmup_steps=0")


def test_shapes_and_their_experts():
    #      10×10   15×10   14×10   10×15   10×14    line    line      point
    boxes = torch.tensor(
        [[0, 0, 10, 10], [5, 5, 20, 15], [0, 0, 14, 10], [3, 0, 13, 15], [0, 0, 10, 14],
         [0, 5, 9, 5], [4, 0, 4, 9], [1, 1, 1, 1]], dtype=torch.float32)  # fmt: skip
    expected = [SQUARE, WIDE, SQUARE, TALL, SQUARE, WIDE, TALL, SQUARE]
    assert expert_by_aspect(boxes, math.sqrt(2)).tolist() == expected
    assert expert_by_aspect(boxes[:5], 1.5).tolist() == [SQUARE] * 5  # 15 : 10 is not more than 1.5
    assert expert_by_aspect(boxes[:0], 1.5).tolist() == []


@settings(max_examples=15, deadline=None)
@given(assignment=st.lists(st.integers(0, 2), max_size=12))
def test_every_roi_goes_once_through_the_expert_it_is_assigned_to(learned, batch, assignment):
    pooled = torch.randn(len(assignment), 32, 7, 7, generator=torch.Generator().manual_seed(2))
    context, predictor = box_context(learned, batch), learned.roi_heads.box_predictor
    with torch.no_grad():
        logits, deltas = predictor.routed(context, pooled, torch.tensor(assignment, dtype=torch.int64))
        assert (len(logits), len(deltas)) == (len(assignment), len(assignment))
        for row, number in enumerate(assignment):
            alone, moved = predictor.expert(context, number, pooled[row : row + 1])
            assert torch.allclose(logits[row], alone[0], atol=1e-4)
            assert torch.allclose(deltas[row], moved[0], atol=1e-4)


def test_an_expert_that_gets_no_roi_has_a_gradient_of_zeros():
    model = build_parts(box_predictor="multi_expert predictor=own aspect_thresh=1e9", sampler="random")
    torch.stack(list(second_stage_losses(model, second_stage_input()).values())).sum().backward()
    predictor = model.roi_heads.box_predictor
    assert all(not p.grad.any() for part in (predictor.heads, predictor.predictors) for p in part.parameters())
    assert all(p.grad.any() for p in predictor.cls_score.parameters())


def test_the_cheapest_expert_is_that_of_a_slow_count(learned, batch):
    """The plain box loss of a batch of one RoI is that RoI's cost."""
    context, predictor = box_context(learned, batch), learned.roi_heads.box_predictor
    samples = [label_boxes(boxes, target, 0.5, 0.5) for boxes, target in zip(batch[1], batch[3], strict=True)]
    with torch.no_grad():
        logits, deltas = predictor._all(context, context.pool(batch[1]))
        costs = roi_costs(context, logits, deltas, samples)
    rows = [sample.at(torch.tensor([row])) for sample in samples for row in range(12)]
    slow = torch.zeros(len(rows), 3)
    for row, alone in enumerate(rows):
        wanted = context.box_coder.encode_single(alone.gt_boxes, alone.boxes)
        for number in range(3):
            of_expert = logits[number, row][None], deltas[number, row][None]
            slow[row, number] = sum(context.box_loss(*of_expert, alone.labels, wanted, alone.boxes).values())
    assert torch.allclose(costs, slow, rtol=1e-5, atol=1e-5)
    assert torch.equal(costs.argmin(dim=1), slow.argmin(dim=1))
    assert len(set(slow.argmin(dim=1).tolist())) == 3, "every expert is best at something here"
    assert (torch.cat([sample.labels for sample in samples]) > 0).any()


def test_the_loss_of_the_network_by_hand():
    choice = torch.tensor([[2.0, 0.0], [0.0, 1.0], [3.0, 0.0]])
    costs = torch.tensor([[0.5, 0.7], [0.4, 0.2], [0.3, 0.3]])  # the third RoI teaches nothing
    first = math.log(1 + math.exp(-2))  # cross entropy with expert 0
    second = math.log(1 + math.exp(-1))  # with expert 1
    p = [1 / (1 + math.exp(-2)), 1 / (1 + math.e), 1 / (1 + math.exp(-3))]  # of expert 0, which two of three choose
    mean = sum(p) / 3
    balance = 2 * (2 / 3 * mean + 1 / 3 * (1 - mean))
    expected = (first + second) / 2 + 0.1 * balance
    assert assignment_loss(choice, costs, 0.1).item() == pytest.approx(expected, abs=1e-6)
    assert assignment_loss(choice, torch.ones(3, 2), 0.0).item() == 0.0
    empty = torch.zeros(0, 2, requires_grad=True)
    assert assignment_loss(empty, torch.zeros(0, 2), 0.1).item() == 0.0


def test_balance_is_least_when_experts_are_chosen_equally_often():
    even = torch.eye(3).repeat(4, 1) * 5
    one = torch.tensor([[5.0, 0, 0]]).repeat(12, 1)
    costs = torch.ones(12, 3)
    assert assignment_loss(even, costs, 1.0).item() == pytest.approx(1.0, abs=1e-6)
    assert assignment_loss(one, costs, 1.0).item() > 2.5


def test_all_experts_learn_alike_in_the_warm_up_and_only_the_chosen_one_after_it(batch):
    model = build_parts(box_predictor="multi_expert assign=learned warmup_steps=1")
    predictor = model.roi_heads.box_predictor
    predictor.assigner[3].bias.data = torch.tensor([0.0, 50.0, 0.0])
    gradients = []
    for step in range(2):
        model.zero_grad()
        losses = second_stage_losses(model, batch)
        assert int(predictor.num_batches_tracked) == step + 1
        (losses["loss_classifier"] + losses["loss_box_reg"]).backward()
        heads = [model.roi_heads.box_head, *predictor.heads]
        gradients.append([head.fc6.weight.grad.clone() for head in heads])
    first, second, third = gradients[0]
    assert first.any()
    assert torch.allclose(first, second, rtol=1e-4, atol=1e-8)
    assert torch.allclose(first, third, rtol=1e-4, atol=1e-8)
    assert [bool(gradient.any()) for gradient in gradients[1]] == [False, True, False]


def test_soft_mixing_weighs_experts_by_probability(batch):
    model = with_different_experts(box_predictor="multi_expert assign=learned mixing=soft")
    context, predictor = box_context(model, batch), model.roi_heads.box_predictor
    predictor.assigner[3].weight.data.zero_()
    predictor.assigner[3].bias.data = torch.log(torch.tensor([0.5, 0.3, 0.2]))
    with torch.no_grad():
        mixed, _ = predictor.predict(context, batch[1])
        pooled = context.pool(batch[1])
        each = [predictor.expert(context, number, pooled)[0] for number in range(3)]
    assert torch.allclose(mixed, 0.5 * each[0] + 0.3 * each[1] + 0.2 * each[2], atol=1e-5)


@pytest.mark.parametrize(
    ("option", "reason"),
    [
        ("assign=colour", "aspect or learned"),
        ("num_experts=5", "assign=aspect has 3"),
        ("predictor=none", "shared or own"),
        ("aspect_thresh=0.5", "at least 1"),
        ("assign=learned num_experts=0", "at least 1"),
        ("assign=learned mixing=loud", "hard or soft"),
    ],
)
def test_settings_that_cannot_be_meant(option, reason):
    with pytest.raises(ConfigError, match=reason):
        build_model(parts_config(box_predictor=f"multi_expert {option}"), 2)
