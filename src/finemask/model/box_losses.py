"""Box regression losses: smooth L1, L1, and the IoU losses on decoded boxes."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

_EPS = 1e-7  # as in torchvision: added to what is divided by


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
        shared, union = _shared_and_union(found, wanted)
        width, height = _enclosing(found, wanted)
        enclosing = width * height
        return (1 - (shared / (union + _EPS) - (enclosing - union) / (enclosing + _EPS))).sum()


class DIoUBoxLoss(DecodedIoULoss):
    """Distance IoU (Zheng et al. 2020, "Distance-IoU Loss", arXiv 1911.08287).

    1 - IoU, plus the squared distance of the centres over the squared diagonal of the smallest enclosing box.
    """

    def of_boxes(self, found: Tensor, wanted: Tensor) -> Tensor:
        """See ``DecodedIoULoss``."""
        return _distance_iou_losses(found, wanted)[0].sum()


class CIoUBoxLoss(DecodedIoULoss):
    """Complete IoU (Zheng et al. 2020, "Distance-IoU Loss", arXiv 1911.08287).

    Distance IoU, plus a term for the difference of the aspect ratios.
    """

    def of_boxes(self, found: Tensor, wanted: Tensor) -> Tensor:
        """See ``DecodedIoULoss``."""
        corner, far = found[:, :2], found[:, 2:]
        with_area = torch.cat([corner, torch.maximum(far, corner + 0.01)], dim=1)  # no height, no aspect ratio
        losses, iou = _distance_iou_losses(with_area, wanted)
        angles = [torch.atan(width / height) for width, height in (_sides(with_area), _sides(wanted))]
        difference = 4 / math.pi**2 * (angles[1] - angles[0]).square()
        with torch.no_grad():
            weight = difference / (1 - iou + difference + _EPS)
        return (losses + weight * difference).sum()


def _sides(boxes: Tensor) -> tuple[Tensor, Tensor]:
    """Width and height [P] of boxes [P, 4]."""
    x1, y1, x2, y2 = boxes.unbind(dim=1)
    return x2 - x1, y2 - y1


def _shared_and_union(found: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor]:
    """Intersection and union [P] of boxes [P, 4], pair by pair.

    torchvision's losses choose the pairs that meet by a mask, and a GPU has to wait for how many these are.
    """
    corners = torch.cat([torch.maximum(found[:, :2], wanted[:, :2]), torch.minimum(found[:, 2:], wanted[:, 2:])], dim=1)
    width, height = _sides(corners)
    shared = width.clamp(min=0) * height.clamp(min=0)
    (width, height), (width_2, height_2) = _sides(found), _sides(wanted)
    return shared, width * height + width_2 * height_2 - shared


def _enclosing(found: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor]:
    """Width and height [P] of the smallest boxes about each pair."""
    corners = torch.cat([torch.minimum(found[:, :2], wanted[:, :2]), torch.maximum(found[:, 2:], wanted[:, 2:])], dim=1)
    return _sides(corners)


def _distance_iou_losses(found: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor]:
    """Distance IoU loss and IoU [P]."""
    shared, union = _shared_and_union(found, wanted)
    iou = shared / (union + _EPS)
    width, height = _enclosing(found, wanted)
    diagonal = width.square() + height.square() + _EPS
    x, y = ((found[:, :2] + found[:, 2:]) / 2 - (wanted[:, :2] + wanted[:, 2:]) / 2).unbind(dim=1)
    return 1 - iou + (x.square() + y.square()) / diagonal, iou
