"""L1 over the deltas of the true class."""

from collections.abc import Callable

from torch import Tensor
from torch.nn import functional


class L1BoxLoss:
    """The absolute error, Fast R-CNN's smooth L1 without its quadratic part (Girshick 2015, arXiv 1504.08083).

    Args:
        weight: factor of the loss.
    """

    def __init__(self, weight: float = 1.0) -> None:
        self.weight = weight

    def __call__(
        self, deltas: Tensor, target_deltas: Tensor, proposals: Tensor, decode: Callable[[Tensor, Tensor], Tensor]
    ) -> Tensor:
        """See ``finemask.types.BoxLoss``."""
        return self.weight * functional.l1_loss(deltas, target_deltas, reduction="sum")
