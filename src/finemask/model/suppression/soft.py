"""Soft-NMS: overlapping candidates lose score instead of going."""

from typing import Literal

import torch
from torch import Tensor

from finemask.model.suppression.boxes_only import BoxesOnly
from finemask.ops.boxes import pairwise_iou


class SoftNMS(BoxesOnly):
    """Bodla et al. 2017, "Soft-NMS: Improving Object Detection With One Line of Code" (arXiv 1704.04503).

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
