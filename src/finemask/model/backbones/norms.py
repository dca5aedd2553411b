"""Norms of a backbone: frozen, live, synchronised, grouped."""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torchvision.ops.misc import FrozenBatchNorm2d

from finemask.errors import ConfigError


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


_MOST_GROUPS = 32  # Wu & He 2018, "Group Normalization", arXiv 1803.08494
_LEAST_CHANNELS = 2  # in a group: with one it would be instance norm


def norm_layer(norm: str, eps: float) -> Callable[[int], nn.Module]:
    """The constructor of a normalisation layer, called with the number of channels.

    Args:
        norm: ``frozen_bn``, ``bn``, ``sync_bn`` (statistics over all processes of a training, plain batch norm in a
            single one) or ``gn`` (group norm, ``group_count`` groups).
        eps: added to the variance by the frozen kind.

    Raises:
        ConfigError: another name.
    """
    if norm == "frozen_bn":
        return lambda channels: FrozenNorm(channels, eps=eps)
    if norm == "bn":
        return nn.BatchNorm2d
    if norm == "sync_bn":
        return nn.SyncBatchNorm
    if norm == "gn":
        return lambda channels: nn.GroupNorm(group_count(channels), channels)
    raise ConfigError(f"{norm!r} is not one of auto, frozen_bn, bn, sync_bn, gn", where="model.backbone.norm")


def pyramid_norm(norm: str) -> Callable[[int], nn.Module] | None:
    """The constructor of the feature pyramid's normalisation: ``none``, ``bn``, ``sync_bn`` or ``gn``."""
    if norm == "none":
        return None
    if norm not in ("bn", "sync_bn", "gn"):
        raise ConfigError(f"{norm!r} is not one of none, bn, sync_bn, gn", where="model.backbone.fpn_norm")
    return norm_layer(norm, 0.0)


def group_count(channels: int) -> int:
    """Groups of a group norm: 32, or as many as divide both 32 and the channels and hold two of them at least."""
    groups = math.gcd(_MOST_GROUPS, channels)
    while groups > 1 and channels // groups < _LEAST_CHANNELS:
        groups //= 2
    return groups


def replace_batch_norm(module: nn.Module, norm: str, eps: float) -> nn.Module:
    """Turns every batch norm of a finished network into another kind, with its values and the activation it carries.

    Args:
        module: changed in place. Layer norms, as of ConvNeXt and Swin, stay.
        norm: as for ``norm_layer``.
        eps: of the frozen kind.
    """
    norm_layer(norm, eps)  # refuses an unknown name also where there is no batch norm
    if norm == "frozen_bn":
        return freeze_batch_norm(module, eps)
    if norm == "bn":
        return module
    for name, child in module.named_children():
        if isinstance(child, nn.BatchNorm2d):
            activation = getattr(child, "act", None) or nn.Identity()  # timm's BatchNormAct2d has its activation inside
            setattr(module, name, _SyncNorm(child, activation) if norm == "sync_bn" else _GroupNorm(child, activation))
        else:
            replace_batch_norm(child, norm, eps)
    return module


class _SyncNorm(nn.SyncBatchNorm):
    def __init__(self, norm: nn.BatchNorm2d, activation: nn.Module) -> None:
        super().__init__(norm.num_features, norm.eps, norm.momentum)
        self.load_state_dict(norm.state_dict(), strict=False)
        self.act = activation

    def forward(self, x: Tensor) -> Tensor:
        activated: Tensor = self.act(super().forward(x))
        return activated


class _GroupNorm(nn.GroupNorm):
    def __init__(self, norm: nn.BatchNorm2d, activation: nn.Module) -> None:
        super().__init__(group_count(norm.num_features), norm.num_features, norm.eps)
        self.load_state_dict(norm.state_dict(), strict=False)
        self.act = activation

    def forward(self, x: Tensor) -> Tensor:
        activated: Tensor = self.act(super().forward(x))
        return activated


def norm_notes(model: nn.Module) -> list[str]:
    """What a training does to each kind of normalisation in a model, one line each."""
    kinds: dict[str, list[nn.Module]] = {}
    for module in model.modules():
        if (kind := _kind(module)) is not None:
            kinds.setdefault(kind, []).append(module)
    notes = []
    for kind, layers in kinds.items():
        fixed = sum(not any(p.requires_grad for p in layer.parameters()) for layer in layers)
        if kind == "frozen batch norm":
            notes.append(f"{kind}: {len(layers)} layers, statistics and scales stay as loaded")
        elif kind == "group norm":
            notes.append(f"{kind}: {len(layers)} layers, of each image alone, {fixed} of them frozen")
        else:
            still = f"; the {fixed} in frozen parts keep theirs" if fixed else ""
            notes.append(f"{kind}: {len(layers)} layers learn scales and gather statistics{still}")
    return notes


def _kind(module: nn.Module) -> str | None:
    if isinstance(module, FrozenBatchNorm2d) or is_frozen_norm(module):
        return "frozen batch norm"
    if isinstance(module, nn.SyncBatchNorm):
        return "batch norm over all processes"
    if isinstance(module, _BatchNorm):
        return "batch norm"
    return "group norm" if isinstance(module, nn.GroupNorm) else None


def has_sync_norm(model: nn.Module) -> bool:
    """Whether a model has batch norm over all processes, which works on GPUs only where there are several."""
    return any(isinstance(module, nn.SyncBatchNorm) for module in model.modules())
