"""Batch normalisation whose statistics and parameters stay as they were loaded."""

import torch
from torch import Tensor, nn
from torchvision.ops.misc import FrozenBatchNorm2d


class FrozenNorm(FrozenBatchNorm2d):
    """torchvision's ``FrozenBatchNorm2d`` in one pass over the features instead of two.

    On a CPU a narrow network spends as long reading and writing features as computing them.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Features [B, C, H, W], scaled and shifted per channel."""
        scale = self.weight * (self.running_var + self.eps).rsqrt()
        shift = self.bias - self.running_mean * scale
        return torch.addcmul(shift[:, None, None].to(x.dtype), x, scale[:, None, None].to(x.dtype))


def freeze_batch_norm(module: nn.Module, eps: float) -> nn.Module:
    """Replaces each BatchNorm2d by a frozen one with the same values and whatever activation it carries."""
    for name, child in module.named_children():
        if isinstance(child, nn.BatchNorm2d):
            frozen: nn.Module = FrozenNorm(child.num_features, eps=eps)
            state = {key: value for key, value in child.state_dict().items() if key in frozen.state_dict()}
            frozen.load_state_dict(state)
            activation = getattr(child, "act", None)  # timm's BatchNormAct2d has its activation inside
            if activation is not None and not isinstance(activation, nn.Identity):
                frozen = _NormThenActivation(frozen, activation)
            setattr(module, name, frozen)
        else:
            freeze_batch_norm(child, eps)
    return module


def is_frozen_norm(module: nn.Module) -> bool:
    """Whether a module is a frozen batch norm with an activation behind it."""
    return isinstance(module, _NormThenActivation)


class _NormThenActivation(nn.Module):
    """Keeps the parameter names of the norm it wraps, so that timm's weights still load."""

    def __init__(self, norm: nn.Module, activation: nn.Module) -> None:
        super().__init__()
        for name, buffer in norm.named_buffers():
            self.register_buffer(name, buffer)
        self.eps = float(norm.eps)  # type: ignore[arg-type]
        self.act = activation

    def forward(self, x: Tensor) -> Tensor:
        scale = self.weight * (self.running_var + self.eps).rsqrt()
        shift = self.bias - self.running_mean * scale
        activated: Tensor = self.act(x * scale[:, None, None] + shift[:, None, None])
        return activated

    weight: Tensor
    bias: Tensor
    running_mean: Tensor
    running_var: Tensor
