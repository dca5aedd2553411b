"""The sparse RoIAlign against torchvision's."""

import pytest
import torch
from torchvision.ops import MultiScaleRoIAlign

from finemask.model.devices.cpu.roi_align import PyramidRoIAlign


def pyramid(batch, size, channels, strides, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return {
        str(i): torch.randn(batch, channels, size // stride, size // stride, generator=generator).requires_grad_()
        for i, stride in enumerate(strides)
    }


def random_boxes(count, size, seed):
    generator = torch.Generator().manual_seed(seed)
    boxes = torch.rand(count, 4, generator=generator) * size
    boxes[:, 2:] = boxes[:, :2] + torch.rand(count, 2, generator=generator) ** 3 * size
    return boxes


@pytest.mark.parametrize("strides", [(4,), (4, 8), (4, 8, 16, 32)])
@pytest.mark.parametrize(("side", "sampling_ratio"), [(7, 2), (14, 2), (7, 1), (14, 3)])
def test_values_and_gradients_equal_torchvisions(strides, side, sampling_ratio):
    names = [str(i) for i in range(len(strides))]
    features = pyramid(3, 64, 5, strides)
    boxes = [random_boxes(20, 64, 1), torch.zeros(0, 4), random_boxes(7, 64, 2)]
    shapes = [(64, 64), (60, 50), (64, 40)]
    ours = PyramidRoIAlign(names, side, sampling_ratio)(features, boxes, shapes)
    theirs = MultiScaleRoIAlign(names, side, sampling_ratio)(features, boxes, shapes)
    assert ours.shape == theirs.shape == (27, 5, side, side)
    assert torch.allclose(ours, theirs, atol=1e-5)
    weight = torch.randn(ours.shape, generator=torch.Generator().manual_seed(9))
    for mine, reference in zip(
        torch.autograd.grad(ours, list(features.values()), weight),
        torch.autograd.grad(theirs, list(features.values()), weight),
        strict=True,
    ):
        assert torch.allclose(mine, reference, atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_mixed_precision_pools_in_float32_and_answers_in_the_features_precision(dtype):
    features = pyramid(1, 32, 4, (4, 8))
    pool, boxes, shapes = PyramidRoIAlign(["0", "1"], 7, 2), [random_boxes(6, 32, 1)], [(32, 32)]
    expected = pool(features, boxes, shapes)
    with torch.autocast("cpu", dtype=dtype):
        assert torch.equal(pool(features, boxes, shapes), expected)
        half = pool({name: level.to(dtype) for name, level in features.items()}, boxes, shapes)
    assert half.dtype == dtype
    assert torch.allclose(half.float(), expected, atol=0.05)
    half.float().sum().backward()
    assert all(level.grad.isfinite().all() for level in features.values())


def test_no_boxes_pool_to_nothing_and_still_carry_a_gradient():
    features = pyramid(1, 32, 4, (4, 8))
    pooled = PyramidRoIAlign(["0", "1"], 7, 2)(features, [torch.zeros(0, 4)], [(32, 32)])
    assert pooled.shape == (0, 4, 7, 7)
    gradients = torch.autograd.grad(pooled.sum(), list(features.values()))
    assert all(torch.count_nonzero(gradient) == 0 for gradient in gradients)


def test_an_adaptive_grid_is_left_to_torchvision():
    features = pyramid(1, 32, 4, (4, 8))
    boxes, shapes = [random_boxes(5, 32, 3)], [(32, 32)]
    ours = PyramidRoIAlign(["0", "1"], 7, -1)(features, boxes, shapes)
    assert torch.equal(ours, MultiScaleRoIAlign(["0", "1"], 7, -1)(features, boxes, shapes))
