"""Complete IoU of the decoded boxes."""

import torch
from torch import Tensor
from torchvision.ops import complete_box_iou_loss

from finemask.model.box_loss.decoded_iou import DecodedIoULoss


class CIoUBoxLoss(DecodedIoULoss):
    """Zheng et al. 2020, "Distance-IoU Loss" (arXiv 1911.08287).

    Distance IoU, plus a term for the difference of the aspect ratios.

    Args:
        weight: factor of the loss; 10 brings it near smooth L1's size, since deltas are scaled by about 10 and IoU
            is not.
    """

    def of_boxes(self, found: Tensor, wanted: Tensor) -> Tensor:
        """See ``DecodedIoULoss``."""
        loss: Tensor = complete_box_iou_loss(_with_area(found), wanted, reduction="sum")
        return loss


def _with_area(boxes: Tensor) -> Tensor:
    """Boxes of at least a hundredth of a pixel: without a height there is no aspect ratio."""
    corner, far = boxes[:, :2], boxes[:, 2:]
    return torch.cat([corner, torch.maximum(far, corner + 0.01)], dim=1)
