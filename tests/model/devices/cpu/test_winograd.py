"""Which convolutions of a model are replaced; Winograd's against torch's plain ones in float64."""

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from finemask.config import compose, plain
from finemask.model.build import build_model
from finemask.model.devices.cpu import keep_for_prediction, use_cpu_kernels, winograd
from finemask.model.devices.cpu.winograd import WinogradConv2d, winograd_conv2d, winograd_pays
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
    use_cpu_kernels(net)
    replaced = [name for name, module in net.named_modules() if isinstance(module, WinogradConv2d)]
    assert replaced == ["0", "1.0"]
    assert all(parameter is parameters[name] for name, parameter in net.named_parameters())
    assert net.state_dict().keys() == plain_net.state_dict().keys()


def test_the_same_features_and_gradients():
    nets = [small_net(), small_net()]
    use_cpu_kernels(nets[1])
    x = torch.randn(2, 3, 45, 50)
    answers = [net(x) for net in nets]
    assert torch.allclose(*answers, atol=1e-5)
    for answer in answers:
        answer.square().sum().backward()
    for one, other in zip(*(net.parameters() for net in nets), strict=True):
        assert (one.grad - other.grad).norm() < 1e-4 * one.grad.norm()


def test_kept_weights_give_the_same_bits_and_are_made_anew_when_they_change(monkeypatch):
    nets, x = [small_net(), small_net()], torch.randn(1, 3, 45, 50)
    for net in nets:
        use_cpu_kernels(net)
    keep_for_prediction(nets[1])
    made, make = [], winograd._mixing
    monkeypatch.setattr(winograd, "_mixing", lambda weight: made.append(weight) or make(weight))
    with torch.no_grad():
        for factor in (1.0, 2.0):
            for net in nets:
                net[1][0].weight.mul_(factor)
            expected = nets[0](x)
            made.clear()
            for mode in (torch.no_grad, torch.inference_mode):
                with mode():
                    assert torch.equal(nets[1](x), expected)
            assert len(made) == 1  # of the one that is wide enough, once
    made.clear()
    nets[1](x).sum().backward()
    assert len(made) > 0
    assert nets[1][1][0].weight.grad is not None
    with torch.no_grad():
        nets[1].load_state_dict(small_net().state_dict())
        assert torch.equal(nets[1](x), small_net_with_kernels()(x))


def small_net_with_kernels() -> nn.Sequential:
    net = small_net()
    use_cpu_kernels(net)
    return net


def test_double_precision_is_left_alone():
    nets = [small_net().double(), small_net().double()]
    use_cpu_kernels(nets[1])
    x = torch.randn(1, 3, 45, 50, dtype=torch.float64)
    assert torch.equal(nets[0](x), nets[1](x))


def test_replacing_draws_no_random_numbers():
    net = small_net()
    before = torch.random.get_rng_state()
    use_cpu_kernels(net)
    assert torch.equal(before, torch.random.get_rng_state())


@pytest.mark.parametrize("name", ["resnet50_fpn", "resnet50_fpn_v2", "light"])
def test_a_model_convolves_this_way_in_pyramid_and_heads(name):
    config = plain(compose("train", [f"model={name}", "model.weights=none", "data.root=unused"]).model)
    model = build_model(resolve_model(config, 1), 3)
    replaced = {key for key, module in model.named_modules() if isinstance(module, WinogradConv2d)}
    assert {"rpn.head.conv.0.0", "roi_heads.mask_head.0.0", "backbone.fpn.layer_blocks.0.0"} <= replaced


def relative(found, exact):
    """The error beside the values, or a tenth where sums of some normal numbers happen to be nearly zero."""
    return ((found - exact).norm() / exact.norm().clamp(min=0.1 * exact.numel() ** 0.5)).item()


def both(batch: int, channels: int, out_channels: int, height: int, width: int, seed: int = 0):
    """Result and gradients of x, weight and bias, ours and the exact ones."""
    generator = torch.Generator().manual_seed(seed)
    shapes = ((batch, channels, height, width), (out_channels, channels, 3, 3), (out_channels,))
    inputs = [torch.randn(shape, generator=generator) for shape in shapes]
    wanted = torch.randn(batch, out_channels, height, width, generator=generator)
    mine = [tensor.clone().requires_grad_() for tensor in inputs]
    exact = [tensor.double().requires_grad_() for tensor in inputs]
    results = winograd_conv2d(*mine), functional.conv2d(*exact, padding=1)
    return tuple(
        [result, *torch.autograd.grad(result, leaves, wanted.to(result.dtype))]
        for result, leaves in zip(results, (mine, exact), strict=True)
    )


@settings(max_examples=60, deadline=None)
@given(
    batch=st.integers(1, 5),
    channels=st.integers(1, 9),
    out_channels=st.integers(1, 9),
    height=st.integers(1, 40),
    width=st.integers(1, 40),
    tiles=st.sampled_from([1, 3, 20, 256]),
    seed=st.integers(0, 1000),
)
@example(batch=1, channels=8, out_channels=1, height=2, width=25, tiles=1, seed=176)  # the bias' gradient is -0.001
def test_values_and_gradients_are_those_of_a_plain_convolution(
    batch, channels, out_channels, height, width, tiles, seed
):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(winograd, "_MOST_TILES", tiles)  # whole images together, one by one, and bands of them
        mine, exact = both(batch, channels, out_channels, height, width, seed)
    for found, reference in zip(mine, exact, strict=True):
        assert found.shape == reference.shape
        assert relative(found, reference) < 2e-5


def test_the_size_of_a_pyramid():
    mine, exact = both(2, 128, 160, 61, 85)
    assert [relative(found, reference) < 5e-6 for found, reference in zip(mine, exact, strict=True)] == [True] * 4


def test_a_kernel_of_one_moves_the_picture():
    x = torch.arange(30.0).reshape(1, 1, 5, 6)
    weight = torch.zeros(1, 1, 3, 3)
    weight[0, 0, 0, 1] = 1.0  # each result is the pixel above
    moved = winograd_conv2d(x, weight, torch.tensor([100.0]))
    assert torch.allclose(moved[0, 0, 1:], x[0, 0, :-1] + 100, atol=1e-3)
    assert torch.allclose(moved[0, 0, 0], torch.tensor(100.0), atol=1e-3)


def test_what_is_frozen_gets_no_gradient():
    x, weight, bias = torch.randn(1, 4, 9, 9), torch.randn(5, 4, 3, 3, requires_grad=True), torch.randn(5)
    winograd_conv2d(x, weight, bias).sum().backward()
    exact = weight.detach().double().requires_grad_()
    functional.conv2d(x.double(), exact, bias.double(), padding=1).sum().backward()
    assert relative(weight.grad, exact.grad) < 1e-5
    assert x.grad is None
    assert bias.grad is None


def test_the_result_may_be_changed_in_place():
    x = torch.randn(1, 4, 9, 9, requires_grad=True)
    winograd_conv2d(x, torch.randn(5, 4, 3, 3)).relu_().sum().backward()
    assert x.grad is not None


def test_the_order_in_memory_does_not_matter():
    x, weight = torch.randn(2, 6, 13, 17), torch.randn(3, 6, 3, 3)
    plain = winograd_conv2d(x, weight)
    channels_last = torch.channels_last
    again = winograd_conv2d(x.contiguous(memory_format=channels_last), weight.contiguous(memory_format=channels_last))
    assert torch.equal(plain, again)
    assert plain.is_contiguous(memory_format=channels_last)


def test_it_is_used_where_it_is_quicker_only():
    maps, weight = torch.zeros(2, 128, 32, 44), torch.zeros(128, 128, 3, 3)
    pays = torch.backends.mkl.is_available()
    assert winograd_pays(maps, weight) == pays
    assert winograd_pays(torch.zeros(144, 128, 14, 14), weight) == pays
    assert not winograd_pays(torch.zeros(2, 128, 8, 11), weight)  # few tiles
    assert not winograd_pays(maps[:, :64], weight[:, :64])  # few channels
    assert not winograd_pays(maps.double(), weight.double())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert not winograd_pays(maps, weight)
