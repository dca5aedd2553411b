"""What the losses on the overlap of decoded boxes have in common."""

from abc import ABC, abstractmethod
from collections.abc import Callable

from torch import Tensor


class DecodedIoULoss(ABC):
    """A loss on boxes instead of deltas.

    Args:
        weight: factor of the loss; 10 brings it near smooth L1's size, since deltas are scaled by about 10 and IoU
            is not. MMDetection's Faster R-CNN takes 10 for GIoU as well, and 12 for CIoU.
    """

    def __init__(self, weight: float = 10.0) -> None:
        self.weight = weight

    @abstractmethod
    def of_boxes(self, found: Tensor, wanted: Tensor) -> Tensor:
        """The sum over boxes [P, 4] and [P, 4], xyxy px."""

    def __call__(
        self, deltas: Tensor, target_deltas: Tensor, proposals: Tensor, decode: Callable[[Tensor, Tensor], Tensor]
    ) -> Tensor:
        """See ``finemask.types.BoxLoss``."""
        return self.weight * self.of_boxes(decode(deltas, proposals), decode(target_deltas, proposals))
