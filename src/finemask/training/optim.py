"""Parameter groups and learning-rate schedules."""

import math
from bisect import bisect_right
from collections.abc import Callable, Sequence
from typing import Any

from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from finemask.errors import ConfigError
from finemask.model.transfer import STAGE_NAMES, stage_of

_WARMUP_START = 0.01  # of the learning rate, at the first step


def parameter_groups(
    model: nn.Module, lr: float, weight_decay: float, backbone_lr_scale: float = 1.0, layer_decay: float = 1.0
) -> list[dict[str, Any]]:
    """Trainable parameters, with their own rate for the backbone's body and no decay for norms and biases.

    Each group has a ``name``: ``heads`` (all but the body) or ``backbone``, or a part of it where each has a rate of
    its own, and ``_norms_biases`` behind it for what is not decayed.

    Decaying a bias or a norm's scale pulls towards zero what has no reason to be small (He et al. 2019, "Bag of
    Tricks", arXiv 1812.01187, section 3.1).

    Args:
        model: with ``backbone.body`` in its parameter names.
        lr: learning rate of everything but the body.
        weight_decay: of weights of two and more dimensions.
        backbone_lr_scale: factor of ``lr`` for the body.
        layer_decay: a further factor for each part of the body, once for the last, five times for the stem.
    """
    groups: dict[tuple[int, bool], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            key = (_depth(model, name, layer_decay), parameter.ndim > 1)
            groups.setdefault(key, []).append(parameter)
    return [
        {
            "name": _group_name(depth, layer_decay) + ("" if decays else "_norms_biases"),
            "params": parameters,
            "lr": lr * (backbone_lr_scale * layer_decay**depth if depth else 1.0),
            "weight_decay": weight_decay if decays else 0.0,
        }
        for (depth, decays), parameters in groups.items()
    ]


def _group_name(depth: int, layer_decay: float) -> str:
    if depth == 0:
        return "heads"
    return "backbone" if layer_decay == 1.0 else f"backbone_{STAGE_NAMES[-depth].replace(' ', '')}"


def _depth(model: nn.Module, name: str, layer_decay: float) -> int:
    """How many parts of the body lie between a parameter and the heads, itself included; without decay all are one."""
    stage = stage_of(model, name)
    if stage is None:
        return 0
    return len(STAGE_NAMES) - stage if layer_decay != 1.0 else 1


def cosine(
    optimizer: Optimizer,
    total_steps: int,
    warmup: float = 0.05,
    max_warmup_steps: int = 1000,
    final: float = 0.01,
) -> LambdaLR:
    """Linear warm-up, then half a cosine down to a fraction of the learning rate.

    Args:
        optimizer: whose rates are scaled.
        total_steps: optimiser steps of the whole training.
        warmup: share of all steps that warm up, 0..1.
        max_warmup_steps: upper bound of the warm-up.
        final: fraction of the learning rate at the end.
    """
    warmup_steps = _warmup_steps(total_steps, warmup, max_warmup_steps)

    def factor(step: int) -> float:
        if step < warmup_steps:
            return _warming_up(step, warmup_steps)
        progress = min(1.0, (step - warmup_steps) / max(1, total_steps - warmup_steps))
        return final + (1.0 - final) * 0.5 * (1.0 + math.cos(math.pi * progress))

    return LambdaLR(optimizer, factor)


def multistep(
    optimizer: Optimizer,
    total_steps: int,
    warmup: float = 0.05,
    max_warmup_steps: int = 1000,
    milestones: Sequence[float] = (0.67, 0.9),
    gamma: float = 0.1,
) -> LambdaLR:
    """Linear warm-up, then a drop at each milestone.

    Args:
        optimizer: whose rates are scaled.
        total_steps: optimiser steps of the whole training.
        warmup: share of all steps that warm up, 0..1.
        max_warmup_steps: upper bound of the warm-up.
        milestones: shares of all steps, 0..1, rising.
        gamma: factor of each drop.
    """
    warmup_steps = _warmup_steps(total_steps, warmup, max_warmup_steps)
    steps = sorted(round(milestone * total_steps) for milestone in milestones)

    def factor(step: int) -> float:
        if step < warmup_steps:
            return _warming_up(step, warmup_steps)
        return float(gamma ** bisect_right(steps, step))

    return LambdaLR(optimizer, factor)


SchedulerFactory = Callable[..., LambdaLR]


def _warmup_steps(total_steps: int, warmup: float, max_warmup_steps: int) -> int:
    if not 0 <= warmup <= 1:
        raise ConfigError(f"{warmup} is no share of the steps", where="scheduler.warmup", remedy="It is from 0 to 1.")
    return min(max_warmup_steps, round(warmup * total_steps))


def _warming_up(step: int, warmup_steps: int) -> float:
    return _WARMUP_START + (1.0 - _WARMUP_START) * step / warmup_steps
