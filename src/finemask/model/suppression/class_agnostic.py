"""Non-maximum suppression over all classes together."""

from torch import Tensor
from torchvision.ops import nms

from finemask.model.suppression.boxes_only import BoxesOnly


class ClassAgnosticNMS(BoxesOnly):
    """Of two boxes that overlap too much, the one with the lower score goes, whatever their classes.

    For data in which no two objects share a place: an object is then never reported as two classes at once.

    Args:
        iou_thresh: IoU of boxes above which two overlap too much.
    """

    def __init__(self, iou_thresh: float = 0.5) -> None:
        self.iou_thresh = iou_thresh

    def by_box(self, boxes: Tensor, scores: Tensor, labels: Tensor, limit: int) -> tuple[Tensor, Tensor]:
        """See ``finemask.types.Suppression``."""
        kept = nms(boxes, scores, self.iou_thresh)[:limit]
        return kept, scores[kept]
