"""Kinds of normalisation: what they are made of, what training does to them, the frozen one against torchvision's."""

import copy
import pickle
from contextlib import nullcontext

import pytest
import torch
from model_cases import model_config, random_scene
from torch import nn
from torch.nn import functional
from torchvision.ops.misc import FrozenBatchNorm2d

from finemask.errors import ConfigError
from finemask.model.backbones.norms import (
    FrozenNorm,
    freeze_batch_norm,
    group_count,
    has_sync_norm,
    norm_layer,
    norm_notes,
    pyramid_norm,
    replace_batch_norm,
)
from finemask.model.build import build_model
from finemask.model.pretrained.transfer import Transfer, apply_transfer, set_train_mode

KINDS = {"frozen_bn": FrozenBatchNorm2d, "bn": nn.BatchNorm2d, "sync_bn": nn.SyncBatchNorm, "gn": nn.GroupNorm}


@pytest.mark.parametrize(
    ("channels", "groups"), [(256, 32), (64, 32), (32, 16), (24, 8), (40, 8), (16, 8), (112, 16), (3, 1), (1, 1)]
)
def test_group_counts(channels, groups):
    assert group_count(channels) == groups


@pytest.mark.parametrize("norm", KINDS)
def test_every_kind_builds_and_trains_a_step(norm):
    torch.manual_seed(0)
    fpn_norm = "none" if norm == "frozen_bn" else norm
    config = model_config("tiny", f"model.backbone.norm={norm}", f"model.backbone.fpn_norm={fpn_norm}")
    model = build_model(config, num_classes=4)
    body = [
        m for m in model.backbone.body.modules() if isinstance(m, (*KINDS.values(), nn.modules.batchnorm._BatchNorm))
    ]
    assert len(body) == 13  # the stem, and three in each of four stages
    assert {isinstance(m, KINDS[norm]) for m in body} == {True}
    assert has_sync_norm(model) == (norm == "sync_bn")
    set_train_mode(model)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=1e-3)
    image, target, _ = random_scene(70, 90, 4)
    total = torch.stack(list(model([image, image], [target, target]).values())).sum()
    total.backward()
    optimizer.step()
    moved = {name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])}
    statistics = {name for name in before if name.endswith(("running_mean", "running_var"))}
    assert torch.isfinite(total)
    assert "backbone.body.stem.0.weight" in moved
    assert ("backbone.body.stem.1.weight" in moved) == (norm != "frozen_bn")
    assert (statistics <= moved) == (norm != "frozen_bn")  # group norm has none
    assert bool(statistics) == (norm != "gn")


@pytest.mark.parametrize("norm", ["bn", "sync_bn"])
def test_layers_of_frozen_parts_keep_their_statistics(norm):
    model = build_model(
        model_config("tiny", f"model.backbone.norm={norm}", "model.backbone.fpn_norm=none"), num_classes=2
    )
    apply_transfer(model, Transfer(trainable_stages=2))
    set_train_mode(model)
    modes = {name: m.training for name, m in model.named_modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)}
    assert {name.split(".")[2] for name, training in modes.items() if training} == {"stage2", "stage3"}
    (note,) = norm_notes(model)
    assert note.endswith("13 layers learn scales and gather statistics; the 7 in frozen parts keep theirs")


def test_group_norm_in_the_place_of_batch_norm_takes_its_scales():
    network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8))
    nn.init.uniform_(network[1].weight)
    nn.init.uniform_(network[1].bias)
    x = torch.randn(2, 3, 9, 9)
    expected = functional.group_norm(network[0](x), 4, network[1].weight, network[1].bias)
    names = [name for name, _ in network.named_parameters()]
    replaced = replace_batch_norm(network, "gn", 1e-5)
    assert torch.allclose(replaced(x), expected, atol=1e-6)
    assert [name for name, _ in replaced.named_parameters()] == names


def test_sync_norm_in_a_single_process_is_batch_norm():
    plain, synced = (nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8)) for _ in range(2))
    synced.load_state_dict(plain.state_dict())
    replace_batch_norm(synced, "sync_bn", 1e-5)
    x = torch.randn(2, 3, 9, 9)
    assert torch.allclose(plain(x), synced(x), atol=1e-6)
    assert plain.state_dict().keys() == synced.state_dict().keys()


@pytest.mark.parametrize("call", [lambda: norm_layer("ln", 0.0), lambda: pyramid_norm("frozen_bn")])
def test_unknown_kinds_are_refused(call):
    with pytest.raises(ConfigError, match="is not one of"):
        call()


@pytest.mark.parametrize("norm", ["gn", "sync_bn", "frozen_bn"])
def test_timms_norms_keep_their_activation(norm):
    timm_norm = pytest.importorskip("timm.layers", reason="needs the extra timm").BatchNormAct2d
    network = nn.Sequential(timm_norm(8)).eval()
    x = torch.randn(2, 8, 5, 5)
    found = replace_batch_norm(network, norm, 1e-5).eval()(x)
    assert found.min() == 0
    assert (found > 0).float().mean() == pytest.approx(0.5, abs=0.15)


def random_state(channels):
    generator = torch.Generator().manual_seed(0)
    names = ("weight", "bias", "running_mean", "running_var")
    return {name: torch.rand(channels, generator=generator) + 0.5 for name in names}


def test_values_and_gradients_equal_torchvisions():
    ours, theirs = FrozenNorm(6, eps=1e-3), FrozenBatchNorm2d(6, eps=1e-3)
    for norm in (ours, theirs):
        norm.load_state_dict(random_state(6))
    x = torch.randn(2, 6, 5, 7, requires_grad=True)
    weight = torch.randn(2, 6, 5, 7)
    assert torch.allclose(ours(x), theirs(x), atol=1e-5)
    gradients = [torch.autograd.grad(norm(x), x, weight)[0] for norm in (ours, theirs)]
    assert torch.allclose(*gradients, atol=1e-5)
    assert ours.state_dict().keys() == theirs.state_dict().keys()


def other_statistics(channels):
    return {"weight": torch.rand(channels), "bias": torch.rand(channels), "running_mean": torch.rand(channels)} | {
        "running_var": torch.rand(channels) + 0.5
    }


@pytest.mark.parametrize(
    "change",
    [
        lambda norm: norm.load_state_dict(other_statistics(4)) and norm,
        lambda norm: norm.running_mean.add_(1.0) is not None and norm,
        lambda norm: setattr(norm, "bias", norm.bias + 1.0) or norm,
        lambda norm: norm.double(),
        lambda norm: copy.deepcopy(norm),
        lambda norm: pickle.loads(pickle.dumps(norm)),
    ],
    ids=["loaded", "in place", "another", "double", "copied", "pickled"],
)
def test_what_a_frozen_norm_keeps_follows_what_it_is_made_of(change):
    norm, x = FrozenNorm(4), torch.randn(2, 4, 3, 3)
    norm.load_state_dict(other_statistics(4))
    for context in (torch.inference_mode(), nullcontext()):
        with context:
            norm(x)
    norm = change(norm)
    norm(x.to(norm.weight.dtype))
    norm.running_var.mul_(2.0)
    theirs = FrozenBatchNorm2d(4).to(norm.weight.dtype)
    theirs.load_state_dict(norm.state_dict())
    x = x.to(norm.weight.dtype).requires_grad_()
    assert torch.allclose(norm(x), theirs(x), atol=1e-6)
    gradients = [torch.autograd.grad(module(x).square().sum(), x)[0] for module in (norm, theirs)]
    assert torch.allclose(*gradients, atol=1e-5)
    assert norm(x.half()).dtype == torch.float16


def test_a_network_whose_norms_are_frozen_answers_as_in_evaluation():
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Sequential(nn.ReLU(), nn.BatchNorm2d(4)))
    for _ in range(3):
        network(torch.randn(8, 3, 9, 9) * 2 + 1)  # gives the norms statistics of their own
    x = torch.randn(2, 3, 9, 9)
    expected = network.eval()(x)
    frozen = freeze_batch_norm(network, eps=1e-5).train()
    assert torch.allclose(frozen(x), expected, atol=1e-5)
    assert not [m for m in frozen.modules() if isinstance(m, nn.BatchNorm2d)]
