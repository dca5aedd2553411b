"""RoIAlign on one sheet against torchvision's, level by level."""

import pytest
import torch
from torchvision.ops import MultiScaleRoIAlign
from torchvision.ops.poolers import _setup_scales

from finemask.model.devices.gpu.sheet import PyramidMaps, smallest_sides


@pytest.mark.parametrize("strides", [(4,), (4, 8), (4, 8, 16, 32)])
@pytest.mark.parametrize("sampling_ratio", [2, 0])
def test_values_and_gradients_equal_torchvisions(strides, sampling_ratio):
    generator = torch.Generator().manual_seed(0)
    names = [str(number) for number in range(len(strides))]
    features = {
        name: torch.randn(3, 5, 64 // stride, 96 // stride, generator=generator).requires_grad_()
        for name, stride in zip(names, strides, strict=True)
    }
    limit = torch.tensor([96.0, 64.0])
    boxes = []
    for count in (20, 0, 9):
        corners = torch.rand(count, 2, 2, generator=generator) * limit
        boxes.append(torch.cat([corners.amin(1), corners.amax(1)], dim=1))
    boxes[0][:2] = torch.tensor([[0, 0, 96, 64], [90, 60, 96, 64.0]])  # to the very edge
    boxes[0][2:4] = torch.tensor([[0, 0, 56, 56], [8, 8, 64, 64.0]])  # where one level ends
    shapes = [(64, 96)] * 3
    theirs = MultiScaleRoIAlign(names, 7, sampling_ratio)(features, boxes, shapes)
    scales, mapper = _setup_scales(list(features.values()), shapes, 224, 4)
    maps = PyramidMaps(features)
    ours = maps.sheet(names).pool(boxes, scales, smallest_sides(mapper), 7, sampling_ratio)
    assert maps.sheet(names) is maps.sheet(names)
    assert torch.allclose(ours, theirs, atol=1e-4)
    weight = torch.randn(ours.shape, generator=generator)
    for mine, reference in zip(
        torch.autograd.grad(ours, list(features.values()), weight),
        torch.autograd.grad(theirs, list(features.values()), weight),
        strict=True,
    ):
        assert torch.allclose(mine, reference, atol=1e-3)
