"""Frozen batch norm against torchvision's, and freezing of what was trained."""

import torch
from torch import nn
from torchvision.ops.misc import FrozenBatchNorm2d

from finemask.model.backbones.norms import FrozenNorm, freeze_batch_norm


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


def test_a_network_whose_norms_are_frozen_answers_as_in_evaluation():
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Sequential(nn.ReLU(), nn.BatchNorm2d(4)))
    for _ in range(3):
        network(torch.randn(8, 3, 9, 9) * 2 + 1)  # gives the norms statistics of their own
    x = torch.randn(2, 3, 9, 9)
    expected = network.eval()(x)
    frozen = freeze_batch_norm(network, eps=1e-5).train()
    assert torch.allclose(frozen(x), expected, atol=1e-5)
    assert not [m for m in frozen.modules() if isinstance(m, nn.BatchNorm2d)]
