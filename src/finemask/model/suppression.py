"""Suppression of overlapping detections: NMS within or across classes, Soft-NMS, mask NMS."""

import math
from typing import Literal

import torch
from torch import Tensor
from torchvision.ops import batched_nms, nms

from finemask.ops.box_ops import pairwise_iou, suppress
from finemask.ops.mask_ops import masks_to_rles
from finemask.ops.rle import mask_iou
from finemask.types import Suppression


class BoxesOnly:
    """A suppression that does not look at masks."""

    def by_mask(
        self,
        boxes: Tensor,
        scores: Tensor,
        labels: Tensor,
        mask_probs: Tensor,
        image_size_hw: tuple[int, int],
        limit: int,
    ) -> Tensor:
        """All of them; see ``finemask.types.Suppression``."""
        return torch.arange(boxes.shape[0], device=boxes.device)[:limit]  # len() would be one number in a traced graph


class NMS(BoxesOnly):
    """Non-maximum suppression of boxes within each class.

    Args:
        iou_thresh: IoU of boxes above which two overlap too much.
    """

    def __init__(self, iou_thresh: float = 0.5) -> None:
        self.iou_thresh = iou_thresh

    def by_box(self, boxes: Tensor, scores: Tensor, labels: Tensor, limit: int) -> tuple[Tensor, Tensor]:
        """See ``finemask.types.Suppression``."""
        kept = batched_nms(boxes, scores, labels, self.iou_thresh)[:limit]
        return kept, scores[kept]


class ClassAgnosticNMS(NMS):
    """Non-maximum suppression of boxes, whatever their classes.

    For data in which no two objects share a place: an object is then never reported as two classes at once.
    """

    def by_box(self, boxes: Tensor, scores: Tensor, labels: Tensor, limit: int) -> tuple[Tensor, Tensor]:
        """See ``finemask.types.Suppression``."""
        kept = nms(boxes, scores, self.iou_thresh)[:limit]
        return kept, scores[kept]


class SoftNMS(BoxesOnly):
    """Soft-NMS (Bodla et al. 2017, "Improving Object Detection With One Line of Code", arXiv 1704.04503).

    The best candidate of a class is kept, and every other of that class loses score by how much it overlaps with it;
    then the best of the rest, and so on.

    Args:
        method: ``linear`` multiplies a score by 1 - IoU where the IoU is above ``iou_thresh``, ``gaussian`` by
            exp(-IoU² / sigma) everywhere.
        iou_thresh: for ``linear``; the paper's N_t.
        sigma: for ``gaussian``.
        min_score: candidates whose score has sunk below it are dropped.

    Raises:
        ValueError: another method, or a sigma that is not positive.
    """

    def __init__(
        self,
        method: Literal["linear", "gaussian"] = "gaussian",
        iou_thresh: float = 0.3,
        sigma: float = 0.5,
        min_score: float = 0.001,
    ) -> None:
        if method not in ("linear", "gaussian"):
            raise ValueError(f"method is linear or gaussian, not {method!r}")
        if sigma <= 0:
            raise ValueError(f"sigma is {sigma}; it is positive")
        self.method = method
        self.iou_thresh = iou_thresh
        self.sigma = sigma
        self.min_score = min_score

    def by_box(self, boxes: Tensor, scores: Tensor, labels: Tensor, limit: int) -> tuple[Tensor, Tensor]:
        """See ``finemask.types.Suppression``."""
        # One candidate after another: on the CPU, where a step waits for nothing.
        on_cpu, scores_on_cpu, labels_on_cpu = boxes.cpu(), scores.cpu(), labels.cpu()
        kept, left = [], []
        for label in labels_on_cpu.unique():
            of_class = torch.where(labels_on_cpu == label)[0]
            chosen, its_scores = self._of_class(on_cpu[of_class], scores_on_cpu[of_class], limit)
            kept.append(of_class[chosen])
            left.append(its_scores)
        if not kept:
            return labels[:0], scores[:0]
        ordered, order = torch.cat(left).sort(descending=True, stable=True)
        return torch.cat(kept)[order[:limit]].to(boxes.device), ordered[:limit].to(scores)

    def _of_class(self, boxes: Tensor, scores: Tensor, limit: int) -> tuple[Tensor, Tensor]:
        """Positions int64 [M] and scores [M] in the order in which they are chosen, which is that of the scores."""
        remaining = scores.clone()
        chosen: list[int] = []
        found: list[Tensor] = []
        for _ in range(min(limit, len(boxes))):
            best = int(remaining.argmax())
            score = remaining[best].clone()
            if score < self.min_score:
                break
            chosen.append(best)
            found.append(score)
            remaining *= self._decay(pairwise_iou(boxes[best : best + 1], boxes)[0].nan_to_num())
            remaining[best] = -1.0
        if not chosen:
            return torch.empty(0, dtype=torch.int64), scores[:0]
        return torch.tensor(chosen), torch.stack(found)

    def _decay(self, iou: Tensor) -> Tensor:
        if self.method == "gaussian":
            return torch.exp(-iou.square() / self.sigma)
        return torch.where(iou > self.iou_thresh, 1.0 - iou, torch.ones_like(iou))


class MaskNMS:
    """Non-maximum suppression by the IoU of masks.

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


def settle_masks(
    boxes: Tensor,
    scores: Tensor,
    labels: Tensor,
    mask_probs: Tensor,
    image_size_hw: tuple[int, int],
    suppression: Suppression,
    limit: int,
) -> dict[str, Tensor]:
    """Final detections of an image once masks are known: sorted by score, suppressed by mask, capped.

    Args:
        boxes: [N, 4], xyxy px.
        scores: [N], 0..1; the mask predictor may have changed them, so they are in any order.
        labels: int64 [N], 1..K.
        mask_probs: [N, M, M], 0..1.
        image_size_hw: of the image that boxes are in, px.
        suppression: see ``finemask.types.Suppression``.
        limit: detections at most.
    """
    order = scores.argsort(descending=True, stable=True)
    boxes, scores, labels, mask_probs = (rows[order] for rows in (boxes, scores, labels, mask_probs))
    kept = suppression.by_mask(boxes, scores, labels, mask_probs, image_size_hw, limit)
    return {"boxes": boxes[kept], "scores": scores[kept], "labels": labels[kept], "mask_probs": mask_probs[kept]}
