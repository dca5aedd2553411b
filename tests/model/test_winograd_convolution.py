"""Convolutions Winograd's way, against torch's plain ones in float64."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from finemask.model.cpu import winograd
from finemask.model.cpu.winograd import winograd_conv2d, winograd_pays


def relative(found, exact):
    return ((found - exact).norm() / exact.norm().clamp(min=1e-12)).item()


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
