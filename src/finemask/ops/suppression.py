"""From a score for every box and class to candidates, and boxes out of those that overlap."""

from typing import NamedTuple

import torch
from torch import Tensor
from torchvision.ops import clip_boxes_to_image, remove_small_boxes

from finemask.ops.boxes import pairwise_iou

_MIN_SIDE_PX = 1e-2  # of a detection, as in torchvision


class ScoredBoxes(NamedTuple):
    """Boxes of one image, each with one class."""

    boxes: Tensor  # float [N, 4], xyxy px
    scores: Tensor  # float [N], 0..1
    labels: Tensor  # int64 [N], 1..K


def candidates_of(scores: Tensor, boxes: Tensor, image_hw: tuple[int, int], score_thresh: float) -> ScoredBoxes:
    """Every box and foreground class of one image that scores enough to be looked at.

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
    chosen = clip_boxes_to_image(boxes[rois, labels], image_hw)
    kept = remove_small_boxes(chosen, min_size=_MIN_SIDE_PX)
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
