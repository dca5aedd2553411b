"""Overlaps of all images' boxes at once: IoU, matching with ground truth, non-maximum suppression at a fixed size."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from finemask.model.devices.gpu.crossing import read
from finemask.model.devices.gpu.truths import Truths

_PAIRS_AT_ONCE = 2**27  # whose overlaps are computed together: a gigabyte for the largest intermediate result
_ROUNDS = 12  # of suppression before it is asked whether they were enough
_MIN_IOU = -1.0  # of a pair that is none


def batched_iou(boxes1: Tensor, boxes2: Tensor) -> Tensor:
    """IoU of every pair within each of a number of groups.

    Args:
        boxes1: float [..., N, 4], xyxy px.
        boxes2: float [..., M, 4], xyxy px; leading dimensions may be broadcast.

    Returns:
        float [..., N, M], 0..1; NaN where both boxes have no area.
    """
    one, other = boxes1.unsqueeze(-2), boxes2.unsqueeze(-3)
    sides = torch.minimum(one[..., 2:], other[..., 2:]).sub_(torch.maximum(one[..., :2], other[..., :2])).clamp_(min=0)
    shared = sides[..., 0] * sides[..., 1]
    areas, areas2 = ((boxes[..., 2:] - boxes[..., :2]).prod(-1) for boxes in (one, other))
    return shared / (areas + areas2).sub_(shared)


def match_batch(
    boxes: Tensor, truths: Truths, fg_iou_thresh: float, bg_iou_thresh: float, *, keep_best: bool = False
) -> tuple[Tensor, Tensor]:
    """As ``finemask.ops.box_ops.match_boxes``, for all images at once.

    Args:
        boxes: float [B, N, 4], xyxy px; or [1, N, 4], the same for every image.
        truths: of the B images.
        fg_iou_thresh: see there.
        bg_iou_thresh: see there.
        keep_best: see there.

    Returns:
        ``matched_idxs`` int64 [B, N], the place of an instance, and ``kinds`` int64 [B, N]: 1, 0 or -1.
    """
    images, places = truths.valid.shape
    at_once = max(1, _PAIRS_AT_ONCE // (places * boxes.shape[1]))
    parts = [
        _match(
            boxes if len(boxes) == 1 else boxes[first : first + at_once],
            truths.boxes[first : first + at_once],
            truths.valid[first : first + at_once],
            (fg_iou_thresh, bg_iou_thresh),
            keep_best=keep_best,
        )
        for first in range(0, images, at_once)
    ]
    matched_idxs, kinds = zip(*parts, strict=True)
    return (matched_idxs[0], kinds[0]) if len(parts) == 1 else (torch.cat(matched_idxs), torch.cat(kinds))


def _match(
    boxes: Tensor, gt_boxes: Tensor, valid: Tensor, thresholds: tuple[float, float], *, keep_best: bool
) -> tuple[Tensor, Tensor]:
    fg_iou_thresh, bg_iou_thresh = thresholds
    iou = batched_iou(gt_boxes, boxes).masked_fill_(~valid[..., None], _MIN_IOU)  # [B, G, N]
    best, matched_idxs = iou.max(dim=1)
    positive = best >= fg_iou_thresh
    if keep_best:
        most = iou.amax(dim=2, keepdim=True)
        positive |= ((iou == most) & valid[..., None]).any(dim=1)
    kinds = positive.long()
    if bg_iou_thresh < fg_iou_thresh:
        kinds = kinds.masked_fill_((best >= bg_iou_thresh) & ~positive, -1)
    return matched_idxs, kinds


@dataclass(frozen=True)
class Kept:
    """What non-maximum suppression leaves, as far as it was carried on.

    Attributes:
        kept: bool [G, T].
        is_final: bool [], whether more rounds would change nothing.
        finish: carries it on until they would not, each time with a wait.
    """

    kept: Tensor
    is_final: Tensor
    finish: Callable[[], Tensor]


@torch.no_grad()
def suppress_batch(
    boxes: Tensor, valid: Tensor, iou_thresh: float, labels: Tensor | None = None, rounds: int | None = None
) -> Kept:
    """Non-maximum suppression within each of G groups at once.

    The greedy choice is a fixed point: what is kept is what nothing kept before it overlaps too much. Iterating from
    "all are kept" settles the first candidate in the first round, and in round k whatever hangs on a chain of k - 1
    others; once a round changes nothing, the greedy choice is reached (Zheng et al. 2021, "Enhancing Geometric
    Factors", arXiv 2005.03572, proposition 1). Chains are short, and their length is not asked for before all else is
    queued: the answer says whether it was enough.

    Args:
        boxes: float [G, T, 4], xyxy px, best score first.
        valid: bool [G, T]; others are not there.
        iou_thresh: IoU above which the later of two goes.
        labels: int64 [G, T]; only boxes of one label suppress each other.
        rounds: before the answer is given; as many as are nearly always enough by default.
    """
    at_once = _ROUNDS if rounds is None else rounds
    with torch.autocast(boxes.device.type, enabled=False):
        matrix = _overlapping(boxes, iou_thresh, labels)
        there = valid[:, None].to(matrix.dtype)
        kept, before = there, there
        for _ in range(at_once):
            before, kept = kept, torch.baddbmm(there, kept, matrix, alpha=-1).relu_()

        def finish() -> Tensor:
            found, is_final = kept, False
            with torch.no_grad(), torch.autocast(boxes.device.type, enabled=False):
                while not is_final:
                    for _ in range(at_once):
                        last, found = found, torch.baddbmm(there, found, matrix, alpha=-1).relu_()
                    is_final = bool(read((last == found).all())[0])
            return found[:, 0] > 0

        return Kept(kept[:, 0] > 0, (kept == before).all(), finish)


def _overlapping(boxes: Tensor, iou_thresh: float, labels: Tensor | None) -> Tensor:
    """1 where the row's box stands before the column's and overlaps it too much, [G, T, T]."""
    groups, candidates = boxes.shape[:2]
    # What is added up are ones, at most as many as there are candidates: half precision counts as far as is asked.
    kind = torch.float32 if boxes.device.type == "cpu" else torch.float16
    at_once = max(1, _PAIRS_AT_ONCE // max(1, candidates**2))
    parts = []
    for first in range(0, groups, at_once):
        some = boxes[first : first + at_once]
        over = batched_iou(some, some) > iou_thresh
        if labels is not None:
            of_some = labels[first : first + at_once]
            over &= of_some[:, :, None] == of_some[:, None, :]
        parts.append(over.to(kind).triu_(1))
    return parts[0] if len(parts) == 1 else torch.cat(parts)
