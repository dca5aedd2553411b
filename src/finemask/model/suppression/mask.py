"""Non-maximum suppression by the overlap of masks."""

import math

import torch
from torch import Tensor
from torchvision.ops import batched_nms, nms

from finemask.ops.mask_iou import mask_iou, suppress
from finemask.ops.paste import masks_to_rles


class MaskNMS:
    """Of two detections whose masks overlap too much, the one with the lower score goes.

    Thin or bent objects side by side keep both their masks, though their boxes overlap much; and one object is not
    reported twice because its two boxes differ. Boxes are suppressed before, at a high IoU, so that masks are
    predicted for few candidates only. Masks are compared as run-length encodings, at the size that the model sees.

    Args:
        iou_thresh: IoU of masks above which two overlap too much.
        box_iou_thresh: IoU of boxes above which a candidate goes before it gets a mask.
        candidates: so many times the cap on detections get a mask, at most.
        class_agnostic: compare masks of different classes too: two objects hardly ever share half of their pixels. AP
            falls, because it gives credit for second guesses of a class; precision at a threshold rises.
    """

    def __init__(
        self,
        iou_thresh: float = 0.5,
        box_iou_thresh: float = 0.8,
        candidates: float = 2.0,
        class_agnostic: bool = False,
    ) -> None:
        self.iou_thresh = iou_thresh
        self.box_iou_thresh = box_iou_thresh
        self.candidates = candidates
        self.class_agnostic = class_agnostic

    def by_box(self, boxes: Tensor, scores: Tensor, labels: Tensor, limit: int) -> tuple[Tensor, Tensor]:
        """See ``finemask.types.Suppression``."""
        if self.class_agnostic:
            kept = nms(boxes, scores, self.box_iou_thresh)
        else:
            kept = batched_nms(boxes, scores, labels, self.box_iou_thresh)
        kept = kept[: math.ceil(limit * self.candidates)]
        return kept, scores[kept]

    def by_mask(
        self,
        boxes: Tensor,
        scores: Tensor,
        labels: Tensor,
        mask_probs: Tensor,
        image_size_hw: tuple[int, int],
        limit: int,
    ) -> Tensor:
        """See ``finemask.types.Suppression``."""
        rles = masks_to_rles(mask_probs, boxes, image_size_hw)
        iou = mask_iou(rles, rles)
        if not self.class_agnostic:
            of = labels.cpu().numpy()
            iou[of[:, None] != of] = 0.0
        kept = suppress(iou, scores.detach().float().cpu().numpy(), self.iou_thresh)[:limit]
        return torch.from_numpy(kept).to(boxes.device)
