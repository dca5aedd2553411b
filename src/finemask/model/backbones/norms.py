"""Normalisation layers of a backbone: batch norm frozen, live or synchronised, and group norm."""

import math
from collections.abc import Callable
from operator import is_
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torchvision.ops.misc import FrozenBatchNorm2d

from finemask.errors import ConfigError


class FrozenNorm(FrozenBatchNorm2d):
    """torchvision's ``FrozenBatchNorm2d`` in one pass over the features instead of two.

    On a CPU a narrow network spends as long reading and writing features as computing them. Scale and shift are kept as
    long as nothing writes to what they are made of: on a GPU, queueing their five operations takes as long as the pass.
    """

    _kept: tuple[tuple[Tensor, ...], tuple[object, ...], tuple[Tensor, Tensor]] | None = None

    def forward(self, x: Tensor) -> Tensor:
        """Features [B, C, H, W], scaled and shifted per channel."""
        kept = self._scale_and_shift(x.dtype)
        if kept is None:
            scale, shift = self._computed(x.dtype)
            return torch.addcmul(shift, x, scale)
        normed: Tensor = _Affine.apply(x, *kept)
        return normed

    def __getstate__(self) -> dict[str, object]:
        return {name: value for name, value in self.__dict__.items() if name != "_kept"}

    def _scale_and_shift(self, dtype: torch.dtype) -> tuple[Tensor, Tensor] | None:
        """Both [C, 1, 1], of that precision; None where they cannot be kept."""
        made_of = (self.weight, self.bias, self.running_mean, self.running_var)
        in_a_graph = torch.compiler.is_compiling() or torch.jit.is_tracing()  # type: ignore[attr-defined, no-untyped-call]
        if (
            in_a_graph
            or not isinstance(dtype, torch.dtype)
            or any(t.is_inference() or t.requires_grad for t in made_of)
        ):
            return None
        state = (dtype, *(tensor._version for tensor in made_of))
        if self._kept is not None:
            before, of_before, kept = self._kept
            if of_before == state and all(map(is_, before, made_of)):
                return kept
        with torch.inference_mode(False), torch.no_grad():  # what prediction keeps, training may use
            self._kept = (made_of, state, self._computed(dtype))
        return self._kept[2]

    def _computed(self, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        scale = self.weight * (self.running_var + self.eps).rsqrt()
        shift = self.bias - self.running_mean * scale
        return scale[:, None, None].to(dtype), shift[:, None, None].to(dtype)


class _Affine(torch.autograd.Function):
    """``shift + scale · x`` for constants; of ``addcmul``'s gradient, torch would multiply the scale by 1 first."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
        ctx.scale = scale
        return torch.addcmul(shift, x, scale)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        return gradients[0] * ctx.scale, None, None


class _FrozenNormAct(FrozenBatchNorm2d):
    """With the activation that the norm carried, under the norm's own parameter names, so that timm's weights load."""

    def __init__(self, channels: int, eps: float, act: nn.Module) -> None:
        super().__init__(channels, eps=eps)
        self.act = act

    def forward(self, x: Tensor) -> Tensor:
        activated: Tensor = self.act(super().forward(x))
        return activated


def freeze_batch_norm(module: nn.Module, eps: float) -> nn.Module:
    """Replaces each BatchNorm2d by a frozen one with the same values and whatever activation it carries."""
    for name, child in module.named_children():
        if isinstance(child, nn.BatchNorm2d):
            channels, act = child.num_features, _activation_of(child)
            frozen = FrozenNorm(channels, eps) if act is None else _FrozenNormAct(channels, eps, act)
            frozen.load_state_dict(
                {key: value for key, value in child.state_dict().items() if key in frozen.state_dict()}
            )
            setattr(module, name, frozen)
        else:
            freeze_batch_norm(child, eps)
    return module


def _activation_of(norm: nn.BatchNorm2d) -> nn.Module | None:
    """What timm's BatchNormAct2d has inside; ``None`` of a plain one."""
    act = getattr(norm, "act", None)
    return None if isinstance(act, nn.Identity) else act


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
            setattr(module, name, _SyncNormAct(child) if norm == "sync_bn" else _GroupNormAct(child))
        else:
            replace_batch_norm(child, norm, eps)
    return module


class _SyncNormAct(nn.SyncBatchNorm):
    def __init__(self, norm: nn.BatchNorm2d) -> None:
        super().__init__(norm.num_features, norm.eps, norm.momentum)
        self.load_state_dict(norm.state_dict(), strict=False)
        self.act = _activation_of(norm) or nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        activated: Tensor = self.act(super().forward(x))
        return activated


class _GroupNormAct(nn.GroupNorm):
    def __init__(self, norm: nn.BatchNorm2d) -> None:
        super().__init__(group_count(norm.num_features), norm.num_features, norm.eps)
        self.load_state_dict(norm.state_dict(), strict=False)
        self.act = _activation_of(norm) or nn.Identity()

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
    if isinstance(module, FrozenBatchNorm2d):
        return "frozen batch norm"
    if isinstance(module, nn.SyncBatchNorm):
        return "batch norm over all processes"
    if isinstance(module, _BatchNorm):
        return "batch norm"
    return "group norm" if isinstance(module, nn.GroupNorm) else None


def has_sync_norm(model: nn.Module) -> bool:
    """Whether a model has batch norm over all processes, which works on GPUs only where there are several."""
    return any(isinstance(module, nn.SyncBatchNorm) for module in model.modules())
