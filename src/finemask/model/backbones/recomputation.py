"""Gradient checkpointing of the backbone: its activations are computed again when the gradient needs them."""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

from finemask.model.pretrained.transfer import stage_modules


def recompute_backbone(model: nn.Module) -> None:
    """Lets every block of the backbone forget what it computed, and compute it again in the backward pass.

    Chen et al. 2016, "Training Deep Nets with Sublinear Memory Cost" (arXiv 1604.06174). Of a block only the input is
    kept. Losses, gradients and statistics of batch norms are the same; names of parameters stay.

    Args:
        model: as ``build_model`` gives it; blocks are the members of a stage that is a plain ``nn.Sequential``, and
            other stages as a whole.
    """
    for stage in stage_modules(model):
        for module in stage:
            for block in list(module) if type(module) is nn.Sequential else [module]:
                _recompute(block)


def _recompute(block: nn.Module) -> None:
    forward = block.forward
    norms = [module for module in block.modules() if isinstance(module, _BatchNorm)]

    def contexts() -> tuple[AbstractContextManager[Any], AbstractContextManager[Any]]:
        return nullcontext(), _without_counting(norms)

    def recomputed(*inputs: Tensor) -> Any:
        if not torch.is_grad_enabled():
            return forward(*inputs)
        return checkpoint(forward, *inputs, use_reentrant=False, context_fn=contexts)

    block.forward = recomputed


@contextmanager
def _without_counting(norms: Sequence[_BatchNorm]) -> Iterator[None]:
    """The second time through is no second batch for running statistics."""
    gathering = [norm for norm in norms if norm.training and norm.track_running_stats]
    before = [norm.momentum for norm in gathering]
    for norm in gathering:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, momentum in zip(gathering, before, strict=True):
            norm.momentum = momentum
            if norm.num_batches_tracked is not None:
                norm.num_batches_tracked.sub_(1)
