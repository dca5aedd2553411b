"""Boxes of one image: IoU, matching with ground truth, balanced sampling, candidates, box voting, suppression."""

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from finemask.lean_torchvision import torchvision

MIN_SIDE_PX = 1e-2  # of a detection, as in torchvision
_PAIRS_AT_A_TIME = 2**20  # looked at together
_BLOCK_NUMBERS = 2**18  # of one intermediate result: what stays in a core's cache


def pairwise_iou(boxes1: Tensor, boxes2: Tensor) -> Tensor:
    """Intersection over union of every pair, as torchvision's ``box_iou``.

    torchvision broadcasts the two corners of a box in the innermost dimension, which no CPU can vectorise; here each
    coordinate is its own contiguous row, and blocks stay in the cache: several times faster with many anchors.

    Args:
        boxes1: float [N, 4], xyxy px.
        boxes2: float [M, 4], xyxy px.

    Returns:
        float [N, M], 0..1; NaN where both boxes have no area.
    """
    left, top, right, bottom = boxes2.t().contiguous()
    area2 = (right - left) * (bottom - top)
    iou = boxes1.new_empty(len(boxes1), len(boxes2))
    rows = max(1, _BLOCK_NUMBERS // max(1, len(boxes2))) if boxes1.device.type == "cpu" else max(1, len(boxes1))
    for start in range(0, len(boxes1), rows):
        x1, y1, x2, y2 = boxes1[start : start + rows, :, None].unbind(1)
        width = torch.minimum(x2, right).sub_(torch.maximum(x1, left)).clamp_(min=0)
        height = torch.minimum(y2, bottom).sub_(torch.maximum(y1, top)).clamp_(min=0)
        shared = width.mul_(height)
        union = ((x2 - x1) * (y2 - y1) + area2).sub_(shared)
        torch.div(shared, union, out=iou[start : start + rows])
    return iou


class ScoredBoxes(NamedTuple):
    """Boxes of one image, each with one class."""

    boxes: Tensor  # float [N, 4], xyxy px
    scores: Tensor  # float [N], 0..1
    labels: Tensor  # int64 [N], 1..K


def candidates_of(
    scores: Tensor, boxes: Tensor, image_hw: tuple[int, int], score_thresh: float | Tensor
) -> ScoredBoxes:
    """Candidates for detections: every box with every foreground class that scores above a threshold.

    Args:
        scores: float [R, K + 1], 0..1; class 0 is background.
        boxes: float [R, K + 1, 4], xyxy px, one for each class.
        image_hw: height and width that boxes are clipped to, px.
        score_thresh: a candidate scores more than this.

    Returns:
        The candidates, RoI after RoI; those without area once clipped are left out.
    """
    rois, classes = torch.where(scores[:, 1:] > score_thresh)
    labels = classes + 1
    chosen = torchvision.ops.clip_boxes_to_image(boxes[rois, labels], image_hw)
    kept = torchvision.ops.remove_small_boxes(chosen, min_size=MIN_SIDE_PX)
    return ScoredBoxes(chosen[kept], scores[rois, labels][kept], labels[kept])


def vote_boxes(kept: ScoredBoxes, candidates: ScoredBoxes, iou_thresh: float) -> ScoredBoxes:
    """Replaces each kept box by the mean, weighted by score, of its class's candidates around it.

    Gidaris & Komodakis 2015, "Object detection via a multi-region & semantic segmentation-aware CNN model"
    (arXiv 1505.01749), section 5.

    Args:
        kept: what suppression left of the candidates.
        candidates: all of the image.
        iou_thresh: candidates with at least this IoU with a kept box vote on it.

    Returns:
        ``kept`` with other boxes, scores and order unchanged.
    """
    near = pairwise_iou(kept.boxes, candidates.boxes) >= iou_thresh
    weights = candidates.scores * (near & (kept.labels[:, None] == candidates.labels))
    # Not a matrix product, which autocast and TF32 would round to whole pixels.
    sums = torch.stack([(weights * coordinate).sum(dim=1) for coordinate in candidates.boxes.t()], dim=1)
    return kept._replace(boxes=sums / weights.sum(dim=1, keepdim=True))


def match_boxes(
    boxes: Tensor, gt_boxes: Tensor, fg_iou_thresh: float, bg_iou_thresh: float, *, keep_best: bool = False
) -> tuple[Tensor, Tensor]:
    """Matches anchors or proposals with ground truth by IoU: foreground, background, or between the two.

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


def suppress(iou: NDArray[np.float64], scores: NDArray[np.floating], iou_thresh: float) -> NDArray[np.int64]:
    """Greedy suppression: the best is kept, all that overlap it too much go, then the best of the rest.

    Args:
        iou: [N, N], 0..1.
        scores: [N]; equal ones in the order in which they stand.
        iou_thresh: above it, two overlap too much.

    Returns:
        int64 [M], positions of those that are kept, best score first.
    """
    order = np.argsort(-scores, kind="stable")
    is_left = np.ones(len(scores), dtype=np.bool_)
    kept = []
    for position in order.tolist():
        if is_left[position]:
            kept.append(position)
            is_left &= iou[position] <= iou_thresh
    return np.array(kept, dtype=np.int64)


def touching_pairs(boxes_xyxy: NDArray[np.int64]) -> NDArray[np.int64]:
    """All pairs of boxes that share a pixel, by a sweep from left to right; never an N × N table.

    Args:
        boxes_xyxy: whole px [N, 4].

    Returns:
        int64 [P, 2], each pair once.
    """
    order = np.argsort(boxes_xyxy[:, 0], kind="stable")
    x0, y0, x1, y1 = boxes_xyxy[order].T
    after = np.arange(len(order)) + 1
    # Those that begin before this one ends are neighbours in the sorted row.
    counts = np.maximum(np.searchsorted(x0, x1, side="left") - after, 0)
    ends = np.cumsum(counts)
    found = [np.empty((0, 2), dtype=np.int64)]
    start = 0
    while start < len(order):
        before = ends[start] - counts[start]
        stop = max(start + 1, int(np.searchsorted(ends, before + _PAIRS_AT_A_TIME, side="right")))
        of = counts[start:stop]
        one = np.repeat(np.arange(start, stop), of)
        other = np.arange(of.sum()) - np.repeat(ends[start:stop] - of - before, of) + one + 1
        height = np.minimum(y1[one], y1[other]) - np.maximum(y0[one], y0[other])
        shares = (height > 0) & (np.minimum(x1[one], x1[other]) > x0[other])
        found.append(np.stack([order[one[shares]], order[other[shares]]], axis=1))
        start = stop
    return np.concatenate(found)
