"""Smooth L1 over the deltas of the true class: torchvision's loss."""

from collections.abc import Callable

from torch import Tensor
from torch.nn import functional


class SmoothL1BoxLoss:
    """Girshick 2015, "Fast R-CNN" (arXiv 1504.08083), as torchvision's ``fastrcnn_loss`` computes it.

    Args:
        beta: where the quadratic part ends, in deltas; 1/9 as in torchvision.
        weight: factor of the loss.
    """

    def __init__(self, beta: float = 1 / 9, weight: float = 1.0) -> None:
        self.beta = beta
        self.weight = weight

    def __call__(
        self, deltas: Tensor, target_deltas: Tensor, proposals: Tensor, decode: Callable[[Tensor, Tensor], Tensor]
    ) -> Tensor:
        """See ``finemask.types.BoxLoss``."""
        return self.weight * functional.smooth_l1_loss(deltas, target_deltas, beta=self.beta, reduction="sum")
