"""Non-maximum suppression within each class: torchvision's."""

from torch import Tensor
from torchvision.ops import batched_nms

from finemask.model.suppression.boxes_only import BoxesOnly


class NMS(BoxesOnly):
    """Of two boxes of a class that overlap too much, the one with the lower score goes.

    Args:
        iou_thresh: IoU of boxes above which two overlap too much.
    """

    def __init__(self, iou_thresh: float = 0.5) -> None:
        self.iou_thresh = iou_thresh

    def by_box(self, boxes: Tensor, scores: Tensor, labels: Tensor, limit: int) -> tuple[Tensor, Tensor]:
        """See ``finemask.types.Suppression``."""
        kept = batched_nms(boxes, scores, labels, self.iou_thresh)[:limit]
        return kept, scores[kept]
