"""Boxes together with what they should become: what the second stage trains on."""

from typing import NamedTuple

import torch
from torch import Tensor

from finemask.ops.matching import match_boxes
from finemask.types import Target


class Sample(NamedTuple):
    """Boxes of one image and what they should become."""

    boxes: Tensor  # [R, 4]
    labels: Tensor  # int64 [R], -1..K
    matched_idxs: Tensor  # int64 [R], position among the image's instances
    gt_boxes: Tensor  # [R, 4], the matched instance's

    def at(self, rows: Tensor) -> "Sample":
        """Those at the given positions (int64) or where a mask (bool [R]) says so."""
        return Sample(*(part[rows] for part in self))


def label_boxes(boxes: Tensor, target: Target, fg_iou_thresh: float, bg_iou_thresh: float) -> Sample:
    """Gives every box the label and the box of the instance that it overlaps most.

    Args:
        boxes: float [R, 4], xyxy px of the image that ``target`` is of.
        target: ground truth; no instance is fine.
        fg_iou_thresh: a box with at least this IoU has the instance's label.
        bg_iou_thresh: a box with less is background, 0; between the two it is ignored, -1.

    Returns:
        All boxes, in their order.
    """
    gt_boxes = target["boxes"].to(boxes.dtype)
    matched_idxs, kinds = match_boxes(boxes, gt_boxes, fg_iou_thresh, bg_iou_thresh)
    if not len(gt_boxes):
        return Sample(boxes, kinds, matched_idxs, boxes)  # a box that is its own target has finite deltas
    labels = torch.where(kinds > 0, target["labels"][matched_idxs], kinds)
    return Sample(boxes, labels, matched_idxs, gt_boxes[matched_idxs])
