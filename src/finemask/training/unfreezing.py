"""The backbone's parts, trained one after another."""

import logging
from collections.abc import Sequence

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from finemask.model.transfer import STAGE_NAMES, stage_modules

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
