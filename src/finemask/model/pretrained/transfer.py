"""Which parameters a fine-tuning trains, and which it leaves as they were loaded."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from finemask.errors import ConfigError
from finemask.model.backbones.pyramid import OwnBackbone, PyramidBackbone


@dataclass(frozen=True)
class Transfer:
    """A transfer policy, as the group ``transfer`` describes it.

    Args:
        trainable_stages: of the backbone's five parts (stem and four strides) how many are trained, counted from the
            last one; 0 freezes the body, 5 trains all of it. Pyramid, RPN and heads are always trained.
        freeze: regular expressions; parameters whose name one of them matches from the start are frozen too.
        unfreeze: when each trainable part begins to be trained, the last part first: whole numbers are epochs that
            pass before, fractions below 1 a share of all epochs. Empty: all from the beginning.
        backbone_lr_scale: factor of the learning rate for the backbone's body.
        layer_decay: factor of the learning rate from each part to the one before it: once for the last part, five
            times for the stem (Clark et al. 2020, ELECTRA, arXiv 2003.10555, by parts instead of layers).
    """

    trainable_stages: int = 5
    freeze: Sequence[str] = ()
    unfreeze: Sequence[float] = ()
    backbone_lr_scale: float = 1.0
    layer_decay: float = 1.0


STAGE_NAMES = ("stem", "stride 4", "stride 8", "stride 16", "stride 32")


def apply_transfer(model: nn.Module, transfer: Transfer) -> None:
    """Sets ``requires_grad`` of every parameter, as it is when all parts of the schedule have begun.

    Raises:
        ConfigError: a number of stages that does not exist, a pattern that matches nothing, or nothing left to train.
    """
    backbone = _backbone_of(model)
    _check(transfer, len(backbone.stages))
    model.requires_grad_(True)
    for stage in backbone.stages[: len(backbone.stages) - transfer.trainable_stages]:
        for child in stage:
            backbone.body.get_submodule(child).requires_grad_(False)
    for pattern in transfer.freeze:
        matched = [parameter for name, parameter in model.named_parameters() if re.match(pattern, name)]
        if not matched:
            raise ConfigError(f"{pattern!r} matches no parameter", where="transfer.freeze")
        for parameter in matched:
            parameter.requires_grad_(False)
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise ConfigError("everything is frozen: there is nothing to train", where="transfer")


def set_train_mode(model: nn.Module) -> None:
    """Training mode, but batch norm layers whose parameters are frozen keep their statistics too."""
    model.train()
    for module in model.modules():
        if isinstance(module, _BatchNorm) and not any(p.requires_grad for p in module.parameters()):
            module.eval()


def stage_modules(model: nn.Module) -> list[list[nn.Module]]:
    """The modules of each of the backbone's parts, stem first."""
    backbone = _backbone_of(model)
    return [[backbone.body.get_submodule(child) for child in stage] for stage in backbone.stages]


def stage_of(model: nn.Module, name: str) -> int | None:
    """The backbone's part, 0 for the stem, that a parameter belongs to; ``None`` outside the body.

    Args:
        model: as ``build_model`` gives it.
        name: of the parameter in the model.
    """
    if not name.startswith("backbone.body."):
        return None
    stages = _backbone_of(model).stages
    inside = name.removeprefix("backbone.body.")
    own = (number for number, stage in enumerate(stages) for child in stage if inside.startswith(f"{child}."))
    return next(own, len(stages) - 1)  # what stands beside the parts belongs to the last: it comes after them


def first_epochs(transfer: Transfer, max_epochs: int | None) -> list[int]:
    """The epoch, counted from 0, in which each trainable part is trained for the first time, the last part first.

    Shares are rounded to whole epochs; each part is trained for one epoch at least.

    Args:
        transfer: the policy.
        max_epochs: of the training; ``None`` where it is not limited by epochs.

    Raises:
        ConfigError: shares of a training without a number of epochs, or an epoch beyond its end.
    """
    begun = []
    for moment in transfer.unfreeze[: transfer.trainable_stages]:
        is_share = 0 < moment < 1
        if is_share and max_epochs is None:
            raise ConfigError(
                "shares need a number of epochs", where="transfer.unfreeze", remedy="Give epochs: [1, 2, 3, 4, 5]."
            )
        if is_share and max_epochs is not None:
            begun.append(min(math.floor(moment * max_epochs + 0.5), max_epochs - 1))
        elif max_epochs is not None and moment >= max_epochs:
            raise ConfigError(
                f"{moment:g} epochs pass before a part is trained, and there are {max_epochs}",
                where="transfer.unfreeze",
            )
        else:
            begun.append(int(moment))
    return begun


def _check(transfer: Transfer, stages: int) -> None:
    if not 0 <= transfer.trainable_stages <= stages:
        raise ConfigError(
            f"{transfer.trainable_stages} is not between 0 and {stages}",
            where="transfer.trainable_stages",
        )
    if not isinstance(transfer.layer_decay, int | float) or not 0 < transfer.layer_decay <= 1:
        raise ConfigError(f"{transfer.layer_decay} is not above 0 and at most 1", where="transfer.layer_decay")
    if not isinstance(transfer.unfreeze, Sequence) or not all(isinstance(m, int | float) for m in transfer.unfreeze):
        raise ConfigError(f"{transfer.unfreeze!r} is no list of numbers", where="transfer.unfreeze")
    moments = list(transfer.unfreeze)
    if moments and len(moments) < transfer.trainable_stages:
        raise ConfigError(
            f"{len(moments)} moments for {transfer.trainable_stages} parts",
            where="transfer.unfreeze",
            remedy="Give one for each of transfer.trainable_stages, the last part first, or [].",
        )
    wrong = [moment for moment in moments if moment < 0 or (moment >= 1 and moment != int(moment))]
    if wrong or moments != sorted(moments):
        raise ConfigError(
            f"{moments} are not rising shares below 1 or whole numbers of epochs", where="transfer.unfreeze"
        )


def _backbone_of(model: nn.Module) -> PyramidBackbone | OwnBackbone:
    backbone = model.get_submodule("backbone")
    assert isinstance(backbone, PyramidBackbone | OwnBackbone)
    return backbone
