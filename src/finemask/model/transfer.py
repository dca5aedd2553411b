"""Which parameters a fine-tuning trains, and which it leaves as they were loaded."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn

from finemask.errors import ConfigError
from finemask.model.backbone import PyramidBackbone


@dataclass(frozen=True)
class Transfer:
    """A transfer policy, as the group ``transfer`` describes it.

    Args:
        trainable_stages: of the backbone's five parts (stem and four strides) how many are trained, counted from the
            last one; 0 freezes the body, 5 trains all of it. Pyramid, RPN and heads are always trained.
        freeze: regular expressions; parameters whose name one of them matches from the start are frozen too.
        backbone_lr_scale: factor of the learning rate for the backbone's body.
    """

    trainable_stages: int = 5
    freeze: Sequence[str] = ()
    backbone_lr_scale: float = 1.0


def apply_transfer(model: nn.Module, transfer: Transfer) -> None:
    """Sets ``requires_grad`` of every parameter.

    Raises:
        ConfigError: a number of stages that does not exist, a pattern that matches nothing, or nothing left to train.
    """
    backbone = model.get_submodule("backbone")
    assert isinstance(backbone, PyramidBackbone)
    if not 0 <= transfer.trainable_stages <= len(backbone.stages):
        raise ConfigError(
            f"{transfer.trainable_stages} is not between 0 and {len(backbone.stages)}",
            where="transfer.trainable_stages",
        )
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
        if isinstance(module, nn.BatchNorm2d) and not any(p.requires_grad for p in module.parameters()):
            module.eval()
