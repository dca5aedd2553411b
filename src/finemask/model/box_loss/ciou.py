"""Complete IoU of the decoded boxes."""

from collections.abc import Callable

import torch
from torch import Tensor
from torchvision.ops import complete_box_iou_loss


class CIoUBoxLoss:
    """Zheng et al. 2020, "Distance-IoU Loss" (arXiv 1911.08287).

    Distance IoU, plus a term for the difference of the aspect ratios.

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
        found, wanted = _with_area(decode(deltas, proposals)), decode(target_deltas, proposals)
        loss: Tensor = complete_box_iou_loss(found, wanted, reduction="sum")
        return self.weight * loss


def _with_area(boxes: Tensor) -> Tensor:
    """Boxes of at least a hundredth of a pixel: without a height there is no aspect ratio."""
    corner, far = boxes[:, :2], boxes[:, 2:]
    return torch.cat([corner, torch.maximum(far, corner + 0.01)], dim=1)
