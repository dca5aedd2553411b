"""Parameter groups, learning-rate schedules, and unfreezing the backbone by epochs."""

import logging
import math
from bisect import bisect_right
from collections.abc import Callable, Sequence
from typing import Any

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from finemask.errors import ConfigError
from finemask.model.pretrained.transfer import STAGE_NAMES, stage_modules, stage_of

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


log = logging.getLogger(__name__)


class Unfreezing:
    """Freezes and frees parts of the backbone by the epoch alone: a resumed run does what an undisturbed one does.

    The optimiser holds all parameters from the start; it passes over those without a gradient.

    Args:
        model: after ``apply_transfer``: what is frozen there stays so.
        begins: the epoch in which each part is trained for the first time, the last part first, as ``first_epochs``
            gives them; parts beyond them are left alone.
    """

    def __init__(self, model: nn.Module, begins: Sequence[int]) -> None:
        parts = list(zip(STAGE_NAMES, stage_modules(model), strict=True))[::-1]
        self._parts = [
            (name, begin, modules, [p for module in modules for p in module.parameters() if p.requires_grad])
            for (name, modules), begin in zip(parts, begins, strict=False)
        ]
        self._epoch: int | None = None

    def frozen(self, epoch: int) -> list[str]:
        """Names of the parts that are not trained in an epoch, counted from 0."""
        return [name for name, begin, _, _ in self._parts if epoch < begin]

    def start_epoch(self, epoch: int, *, alone: bool) -> None:
        """Sets ``requires_grad``; call before batch norm layers are put into their modes.

        Args:
            epoch: counted from 0.
            alone: a single process trains. Several have agreed at the start on which gradients they exchange: there
                ``requires_grad`` stays, and ``drop_gradients`` does the freezing.
        """
        for name, begin, _, parameters in self._parts:
            if alone:
                for parameter in parameters:
                    parameter.requires_grad_(epoch >= begin)
            if epoch == begin > 0 and self._epoch != epoch:
                log.info("epoch %d: the backbone's part %s is trained from now on", epoch + 1, name)
        self._epoch = epoch

    def keep_statistics(self) -> None:
        """Batch norm layers of frozen parts keep their statistics."""
        for module in self._frozen_modules():
            if isinstance(module, _BatchNorm):
                module.eval()

    def drop_gradients(self) -> None:
        """Takes the gradients of frozen parts away: the optimiser then neither moves nor decays them."""
        for module in self._frozen_modules():
            for parameter in module.parameters(recurse=False):
                parameter.grad = None

    def _frozen_modules(self) -> list[nn.Module]:
        epoch = self._epoch or 0
        return [
            inner
            for _, begin, modules, _ in self._parts
            if epoch < begin
            for module in modules
            for inner in module.modules()
        ]
