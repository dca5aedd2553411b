"""Which ground-truth box belongs to which anchor or proposal."""

import torch
from torch import Tensor

from finemask.ops.boxes import pairwise_iou


def match_boxes(
    boxes: Tensor, gt_boxes: Tensor, fg_iou_thresh: float, bg_iou_thresh: float, *, keep_best: bool = False
) -> tuple[Tensor, Tensor]:
    """The best ground-truth box for every box, and whether it is good enough.

    Ren et al. 2015, "Faster R-CNN" (arXiv 1506.01497), section 3.1.2; the decisions of torchvision's ``Matcher``.

    Args:
        boxes: float [N, 4], xyxy px: anchors or proposals.
        gt_boxes: float [G, 4], xyxy px; none is fine.
        fg_iou_thresh: a box with at least this IoU is positive.
        bg_iou_thresh: a box with less is background; between the two it is ignored.
        keep_best: the boxes that overlap a ground-truth box most are positive however little that is, so that none
            is without an anchor.

    Returns:
        ``matched_idxs`` int64 [N], 0..G-1 (0 if there is no ground truth), and ``kinds`` int64 [N]: 1 is positive, 0
        background, -1 ignored.
    """
    if len(gt_boxes) == 0:
        nothing = torch.zeros(len(boxes), dtype=torch.int64, device=boxes.device)
        return nothing, nothing.clone()
    iou = pairwise_iou(gt_boxes.to(boxes.dtype), boxes)
    best, matched_idxs = iou.max(dim=0)
    positive = best >= fg_iou_thresh
    if keep_best:
        positive |= (iou == iou.amax(dim=1, keepdim=True)).any(dim=0)
    kinds = positive.long()
    if bg_iou_thresh < fg_iou_thresh:
        kinds[(best >= bg_iou_thresh) & ~positive] = -1
    return matched_idxs, kinds


def sample_balanced(labels: Tensor, batch_size: int, positive_fraction: float) -> tuple[Tensor, Tensor]:
    """Draws positives, and fills up with background: torchvision's ``BalancedPositiveNegativeSampler``, same draws.

    Args:
        labels: int64 [N]; above 0 is positive, 0 background, below 0 never drawn.
        batch_size: at most so many together.
        positive_fraction: at most this share of them positive, 0..1.

    Returns:
        Positions of the positives and of the background, int64, in the order in which they were drawn.
    """
    positives, background = torch.where(labels > 0)[0], torch.where(labels == 0)[0]
    num_positives = min(len(positives), int(batch_size * positive_fraction))
    num_background = min(len(background), batch_size - num_positives)
    device = labels.device
    drawn = torch.randperm(len(positives), device=device)[:num_positives]
    return positives[drawn], background[torch.randperm(len(background), device=device)[:num_background]]
