"""Distance IoU of the decoded boxes."""

from torch import Tensor
from torchvision.ops import distance_box_iou_loss

from finemask.model.box_loss.decoded_iou import DecodedIoULoss


class DIoUBoxLoss(DecodedIoULoss):
    """Zheng et al. 2020, "Distance-IoU Loss" (arXiv 1911.08287).

    1 - IoU, plus the squared distance of the centres over the squared diagonal of the smallest enclosing box.

    Args:
        weight: factor of the loss; 10 brings it near smooth L1's size, since deltas are scaled by about 10 and IoU
            is not.
    """

    def of_boxes(self, found: Tensor, wanted: Tensor) -> Tensor:
        """See ``DecodedIoULoss``."""
        loss: Tensor = distance_box_iou_loss(found, wanted, reduction="sum")
        return loss
