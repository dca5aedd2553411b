"""Generalised IoU of the decoded boxes."""

from torch import Tensor
from torchvision.ops import generalized_box_iou_loss

from finemask.model.box_loss.decoded_iou import DecodedIoULoss


class GIoUBoxLoss(DecodedIoULoss):
    """Rezatofighi et al. 2019, "Generalized Intersection over Union" (arXiv 1902.09630).

    1 - IoU, plus what the smallest enclosing box has beyond the union, as a share of it. G-Mask (Lin et al. 2020, doi
    10.1155/2020/9242917) is Mask R-CNN on a ResNet-101 with this loss: ``model=resnet101_fpn model/box_loss=giou``.

    Args:
        weight: factor of the loss; 10 brings it near smooth L1's size, since deltas are scaled by about 10 and IoU
            is not.
    """

    def of_boxes(self, found: Tensor, wanted: Tensor) -> Tensor:
        """See ``DecodedIoULoss``."""
        loss: Tensor = generalized_box_iou_loss(found, wanted, reduction="sum")
        return loss
