"""Schedules and rates of a transfer, by hand."""

import pytest
import torch
from model_cases import model_config, random_scene
from torch import nn

from finemask.errors import ConfigError
from finemask.model.build import build_model
from finemask.model.pretrained.transfer import Transfer, apply_transfer, first_epochs, set_train_mode
from finemask.training.optim import Unfreezing, parameter_groups


@pytest.fixture
def tiny():
    torch.manual_seed(0)
    return build_model(model_config("tiny"), num_classes=3)


PARTS = ("stem", "stage0", "stage1", "stage2", "stage3")


def part_of(name):
    words = name.split(".")
    return words[2] if name.startswith("backbone.body.") else "rest"


def test_rates_fall_by_a_factor_from_part_to_part(tiny):
    groups = parameter_groups(tiny, lr=0.1, weight_decay=0.01, backbone_lr_scale=0.5, layer_decay=0.8)
    rate = {id(p): group["lr"] for group in groups for p in group["params"]}
    by_hand = {
        "rest": 0.1,
        "stage3": 0.1 * 0.5 * 0.8,
        "stage2": 0.1 * 0.5 * 0.64,
        "stage1": 0.1 * 0.5 * 0.512,
        "stage0": 0.1 * 0.5 * 0.4096,
        "stem": 0.1 * 0.5 * 0.32768,
    }
    for name, parameter in tiny.named_parameters():
        assert rate[id(parameter)] == pytest.approx(by_hand[part_of(name)]), name


@pytest.mark.parametrize(
    ("unfreeze", "epochs", "begun"),
    [
        ([0.1, 0.2, 0.35, 0.5, 0.7], 10, [1, 2, 4, 5, 7]),
        ([0.1, 0.2, 0.35, 0.5, 0.7], 2, [0, 0, 1, 1, 1]),
        ([0.0, 0.99], 3, [0, 2]),
        ([0, 1, 2, 3, 4], 5, [0, 1, 2, 3, 4]),
        ([1, 2, 3], None, [1, 2, 3]),
        ([0, 0.5, 3], 4, [0, 2, 3]),
        ([], 10, []),
    ],
)
def test_moments_become_epochs(unfreeze, epochs, begun):
    assert first_epochs(Transfer(unfreeze=unfreeze), epochs) == begun


@pytest.mark.parametrize(
    ("transfer", "reason"),
    [
        (Transfer(unfreeze=[1, 2]), "2 moments for 5 parts"),
        (Transfer(unfreeze=[3, 2, 1, 0, 0]), "are not rising"),
        (Transfer(unfreeze=[0, 1.5, 2, 3, 4]), "are not rising"),
        (Transfer(unfreeze=["soon"] * 5), "no list of numbers"),
        (Transfer(unfreeze=0.5), "no list of numbers"),
        (Transfer(layer_decay=0.0), "not above 0"),
        (Transfer(layer_decay=1.2), "at most 1"),
    ],
)
def test_policies_that_cannot_be_followed(tiny, transfer, reason):
    with pytest.raises(ConfigError, match=reason):
        apply_transfer(tiny, transfer)


def test_an_epoch_beyond_the_end_and_shares_of_no_end_are_refused():
    with pytest.raises(ConfigError, match="5 epochs pass before a part is trained, and there are 5"):
        first_epochs(Transfer(unfreeze=[0, 1, 2, 3, 5]), 5)
    with pytest.raises(ConfigError, match="shares need a number of epochs"):
        first_epochs(Transfer(unfreeze=[0.1, 0.2, 0.3, 0.4, 0.5]), None)


def test_each_part_is_trained_from_its_epoch_on_and_what_is_frozen_by_name_never(tiny):
    apply_transfer(tiny, Transfer(trainable_stages=4, freeze=[r"backbone\.body\.stage2\.0\."], unfreeze=[0, 1, 1, 3]))
    everything = {name for name, p in tiny.named_parameters() if p.requires_grad}
    schedule = Unfreezing(tiny, [0, 1, 1, 3])
    wanted = {0: {"stage3"}, 1: {"stage3", "stage2", "stage1"}, 2: {"stage3", "stage2", "stage1"}, 3: set(PARTS[1:])}
    for epoch in (2, 0, 3, 1):  # by the epoch alone, not by what was before
        schedule.start_epoch(epoch, alone=True)
        set_train_mode(tiny)
        schedule.keep_statistics()
        trained = {name for name, p in tiny.named_parameters() if p.requires_grad}
        assert {part_of(name) for name in trained} == wanted[epoch] | {"rest"}
        assert "backbone.body.stage2.0.weight" not in trained
        assert trained <= everything
        norms = {part_of(name): m.training for name, m in tiny.named_modules() if isinstance(m, nn.BatchNorm2d)}
        assert {part for part, training in norms.items() if training} == wanted[epoch] | {"rest"}
    assert schedule.frozen(1) == ["stride 4"]


def test_several_processes_freeze_by_dropping_gradients_and_end_at_the_same_weights(tiny):
    """Momentum and weight decay included: neither may move what is frozen."""
    start = {name: tensor.clone() for name, tensor in tiny.state_dict().items()}
    image, target, _ = random_scene(64, 80, 3, num_categories=2)
    ends = []
    for alone in (True, False):
        model = build_model(model_config("tiny"), num_classes=3)
        model.load_state_dict(start)
        schedule = Unfreezing(model, [0, 1, 1, 2, 2])
        groups = parameter_groups(model, lr=0.01, weight_decay=0.1)
        optimizer = torch.optim.SGD(groups, lr=0.01, momentum=0.9)
        for epoch in range(2):
            torch.manual_seed(epoch)
            schedule.start_epoch(epoch, alone=alone)
            set_train_mode(model)
            schedule.keep_statistics()
            optimizer.zero_grad()
            torch.stack(list(model([image], [target]).values())).sum().backward()
            schedule.drop_gradients()
            optimizer.step()
        ends.append(model.state_dict())
    moved = {part_of(name) for name, tensor in ends[0].items() if not torch.equal(tensor, start[name])}
    assert moved == {"rest", "stage3", "stage2", "stage1"}
    for name, tensor in ends[0].items():
        assert torch.allclose(tensor, ends[1][name], atol=1e-6), name
