"""Parameter groups and schedules."""

import itertools
import math
from functools import partial
from types import SimpleNamespace

import pytest
import torch
from model_cases import model_config

from finemask.model.build import build_model
from finemask.model.pretrained.transfer import Transfer, apply_transfer
from finemask.training.module import MaskRCNNModule
from finemask.training.optim import cosine, multistep, parameter_groups


def rates(schedule, total, lr=1.0):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=lr)
    scheduler = schedule(optimizer)
    seen = []
    for _ in range(total):
        seen.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return seen


def test_cosine_warms_up_peaks_and_ends_at_its_fraction():
    seen = rates(lambda o: cosine(o, total_steps=100, warmup=0.1, final=0.05), 101)
    assert seen[0] == pytest.approx(0.01)
    assert seen[5] == pytest.approx(0.01 + 0.99 * 0.5)
    assert seen[10] == pytest.approx(1.0)
    assert seen[55] == pytest.approx(0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * 0.5)))
    assert seen[100] == pytest.approx(0.05)
    assert all(a >= b for a, b in itertools.pairwise(seen[10:]))


def test_warm_up_has_an_upper_bound_and_may_be_absent():
    assert rates(lambda o: cosine(o, total_steps=100_000, warmup=0.5, max_warmup_steps=4), 6)[4] == pytest.approx(1.0)
    assert rates(lambda o: cosine(o, total_steps=10, warmup=0.0), 1) == [1.0]


def test_multistep_drops_at_its_milestones():
    seen = rates(lambda o: multistep(o, total_steps=20, warmup=0.0, milestones=[0.9, 0.5], gamma=0.1), 20, lr=2.0)
    assert seen == pytest.approx([2.0] * 10 + [0.2] * 8 + [0.02] * 2)


def test_every_trainable_parameter_is_in_exactly_one_group_with_its_rate_and_decay():
    model = build_model(model_config("tiny"), num_classes=3)
    apply_transfer(model, Transfer(trainable_stages=2))
    groups = parameter_groups(model, lr=0.1, weight_decay=0.01, backbone_lr_scale=0.5)
    found = {id(p): group for group in groups for p in group["params"]}
    assert sum(len(group["params"]) for group in groups) == len(found)
    assert sorted(group["name"] for group in groups) == [
        "backbone",
        "backbone_norms_biases",
        "heads",
        "heads_norms_biases",
    ]
    trainable = {name: p for name, p in model.named_parameters() if p.requires_grad}
    assert found.keys() == {id(p) for p in trainable.values()}
    for name, parameter in trainable.items():
        in_body = name.startswith("backbone.body.")
        assert found[id(parameter)]["lr"] == (0.05 if in_body else 0.1), name
        assert found[id(parameter)]["weight_decay"] == (0.01 if parameter.ndim > 1 else 0.0), name


def test_parts_of_the_backbone_with_rates_of_their_own_have_names_of_their_own():
    model = build_model(model_config("tiny"), num_classes=3)
    apply_transfer(model, Transfer())
    groups = parameter_groups(model, lr=1.0, weight_decay=0.01, layer_decay=0.5)
    rates = {group["name"]: group["lr"] for group in groups}
    assert len(rates) == len(groups)
    assert rates["heads"] == 1.0
    assert rates["backbone_stride32"] == 0.5
    assert rates["backbone_stem"] == 0.5**5


@pytest.mark.parametrize("schedule", [cosine, multistep])
def test_a_training_that_only_time_bounds_keeps_its_rate_after_the_warm_up(schedule):
    module = MaskRCNNModule(
        torch.nn.Linear(2, 2), optimizer=torch.optim.SGD, scheduler=partial(schedule, max_warmup_steps=5), lr=0.5
    )
    module.trainer = SimpleNamespace(estimated_stepping_batches=math.inf, callbacks=[])
    optimizer = module.configure_optimizers()["optimizer"]
    scheduler = module.configure_optimizers()["lr_scheduler"]["scheduler"]
    for _ in range(50):
        scheduler.optimizer.step()
        scheduler.step()
    assert [group["lr"] for group in scheduler.optimizer.param_groups] == pytest.approx([0.5, 0.5])
    assert optimizer.param_groups[0]["lr"] < 0.01  # it begins with the warm-up
