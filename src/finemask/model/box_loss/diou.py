"""Distance IoU of the decoded boxes."""

from collections.abc import Callable

from torch import Tensor
from torchvision.ops import distance_box_iou_loss


class DIoUBoxLoss:
    """Zheng et al. 2020, "Distance-IoU Loss" (arXiv 1911.08287).

    1 - IoU, plus the squared distance of the centres over the squared diagonal of the smallest enclosing box.

    Args:
        weight: factor of the loss; 10 brings it near smooth L1's size, since deltas are scaled by about 10 and IoU
            is not.
    """

    def __init__(self, weight: float = 10.0) -> None:
        self.weight = weight

    def __call__(
        self, deltas: Tensor, target_deltas: Tensor, proposals: Tensor, decode: Callable[[Tensor, Tensor], Tensor]
    ) -> Tensor:
        """See ``finemask.types.BoxLoss``."""
        found, wanted = decode(deltas, proposals), decode(target_deltas, proposals)
        loss: Tensor = distance_box_iou_loss(found, wanted, reduction="sum")
        return self.weight * loss
