"""Box regression losses: smooth L1, L1, and the IoU losses on decoded boxes."""

from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional
from torchvision.ops import complete_box_iou_loss, distance_box_iou_loss, generalized_box_iou_loss


class SmoothL1BoxLoss:
    """Smooth L1 on deltas, as torchvision's ``fastrcnn_loss`` (Girshick 2015, "Fast R-CNN", arXiv 1504.08083).

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


class L1BoxLoss:
    """L1 on deltas: smooth L1 without its quadratic part.

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


class DecodedIoULoss(ABC):
    """An IoU loss, on decoded boxes instead of deltas.

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


class GIoUBoxLoss(DecodedIoULoss):
    """Generalised IoU (Rezatofighi et al. 2019, "Generalized Intersection over Union", arXiv 1902.09630).

    1 - IoU, plus what the smallest enclosing box has beyond the union, as a share of it. G-Mask (Lin et al. 2020, doi
    10.1155/2020/9242917) is Mask R-CNN on a ResNet-101 with this loss: ``model=resnet101_fpn model/box_loss=giou``.
    """

    def of_boxes(self, found: Tensor, wanted: Tensor) -> Tensor:
        """See ``DecodedIoULoss``."""
        loss: Tensor = generalized_box_iou_loss(found, wanted, reduction="sum")
        return loss


class DIoUBoxLoss(DecodedIoULoss):
    """Distance IoU (Zheng et al. 2020, "Distance-IoU Loss", arXiv 1911.08287).

    1 - IoU, plus the squared distance of the centres over the squared diagonal of the smallest enclosing box.
    """

    def of_boxes(self, found: Tensor, wanted: Tensor) -> Tensor:
        """See ``DecodedIoULoss``."""
        loss: Tensor = distance_box_iou_loss(found, wanted, reduction="sum")
        return loss


class CIoUBoxLoss(DecodedIoULoss):
    """Complete IoU (Zheng et al. 2020, "Distance-IoU Loss", arXiv 1911.08287).

    Distance IoU, plus a term for the difference of the aspect ratios.
    """

    def of_boxes(self, found: Tensor, wanted: Tensor) -> Tensor:
        """See ``DecodedIoULoss``."""
        corner, far = found[:, :2], found[:, 2:]
        with_area = torch.cat([corner, torch.maximum(far, corner + 0.01)], dim=1)  # no height, no aspect ratio
        loss: Tensor = complete_box_iou_loss(with_area, wanted, reduction="sum")
        return loss
