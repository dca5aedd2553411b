"""Which convolutions of a model are replaced, and that nothing else changes."""

import pytest
import torch
from torch import nn

from finemask.config import compose, plain
from finemask.model.build import build_model
from finemask.model.cpu.winograd import WinogradConv2d, use_winograd
from finemask.model.resolve import resolve_model


def small_net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 128, 3, padding=1),
        nn.Sequential(nn.Conv2d(128, 128, 3, padding=1, bias=False), nn.ReLU(inplace=True)),
        nn.Conv2d(128, 128, 3, padding=1, stride=2),
        nn.Conv2d(128, 128, 3, padding=2, dilation=2),
        nn.Conv2d(128, 128, 3, padding=1, groups=2),
        nn.Conv2d(128, 128, 3),
        nn.Conv2d(128, 8, 1),
    )


def test_only_convolutions_of_its_kind_are_replaced():
    net, plain_net = small_net(), small_net()
    parameters = dict(net.named_parameters())
    use_winograd(net)
    replaced = [name for name, module in net.named_modules() if isinstance(module, WinogradConv2d)]
    assert replaced == ["0", "1.0"]
    assert all(parameter is parameters[name] for name, parameter in net.named_parameters())
    assert net.state_dict().keys() == plain_net.state_dict().keys()


def test_the_same_features_and_gradients():
    nets = [small_net(), small_net()]
    use_winograd(nets[1])
    x = torch.randn(2, 3, 45, 50)
    answers = [net(x) for net in nets]
    assert torch.allclose(*answers, atol=1e-5)
    for answer in answers:
        answer.square().sum().backward()
    for one, other in zip(*(net.parameters() for net in nets), strict=True):
        assert (one.grad - other.grad).norm() < 1e-4 * one.grad.norm()


def test_double_precision_is_left_alone():
    nets = [small_net().double(), small_net().double()]
    use_winograd(nets[1])
    x = torch.randn(1, 3, 45, 50, dtype=torch.float64)
    assert torch.equal(nets[0](x), nets[1](x))


def test_replacing_draws_no_random_numbers():
    net = small_net()
    before = torch.random.get_rng_state()
    use_winograd(net)
    assert torch.equal(before, torch.random.get_rng_state())


@pytest.mark.parametrize("name", ["resnet50_fpn", "resnet50_fpn_v2", "light"])
def test_a_model_convolves_this_way_in_pyramid_and_heads(name):
    config = plain(compose("train", [f"model={name}", "model.weights=none", "data.root=unused"]).model)
    model = build_model(resolve_model(config, 1), 3)
    replaced = {key for key, module in model.named_modules() if isinstance(module, WinogradConv2d)}
    assert {"rpn.head.conv.0.0", "roi_heads.mask_head.0.0", "backbone.fpn.layer_blocks.0.0"} <= replaced
