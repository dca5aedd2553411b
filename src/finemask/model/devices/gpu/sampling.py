"""Proposals that the second stage trains on, from all images at once: one wait, for how many there are of each kind."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from finemask.model.devices.gpu.batched_overlaps import match_batch
from finemask.model.devices.gpu.crossing import pad_rows, read
from finemask.model.devices.gpu.draws import BatchSampler, Drawn, draw_balanced
from finemask.model.devices.gpu.mask_crops import CropTruth, ReadTruths
from finemask.model.devices.gpu.proposals import Proposals
from finemask.model.devices.gpu.truths import Truths
from finemask.model.samplers import Sample


class Labelled(NamedTuple):
    """Boxes of all images with the instance that each overlaps most; see ``finemask.model.samplers.Sample``."""

    boxes: Tensor  # [B, N, 4]
    labels: Tensor  # int64 [B, N], -1..K; -1 also where there is no box
    matched_idxs: Tensor  # int64 [B, N]
    gt_boxes: Tensor  # [B, N, 4]

    def images(self) -> list[Sample]:
        """Image by image, the places without a box among them."""
        return [Sample(boxes, labels, idxs, gt_boxes) for boxes, labels, idxs, gt_boxes in zip(*self, strict=True)]

    def at(self, rows: Tensor) -> "Labelled":
        """Those at rows int64 [B, S]."""
        four = rows[..., None].expand(-1, -1, 4)
        return Labelled(
            self.boxes.gather(1, four),
            self.labels.gather(1, rows),
            self.matched_idxs.gather(1, rows),
            self.gt_boxes.gather(1, four),
        )


def label_batch(boxes: Tensor, valid: Tensor, truths: Truths, fg_iou_thresh: float, bg_iou_thresh: float) -> Labelled:
    """As ``finemask.model.samplers.label_boxes``, for boxes [B, N, 4] of all images, those that are ``valid``."""
    matched_idxs, kinds = match_batch(boxes, truths, fg_iou_thresh, bg_iou_thresh)
    labels = torch.where(kinds > 0, truths.labels.gather(1, matched_idxs), kinds)
    gt_boxes = truths.boxes.gather(1, matched_idxs[..., None].expand(-1, -1, 4))
    gt_boxes = torch.where(truths.valid[:, :1, None], gt_boxes, boxes)  # a box that is its own target has finite deltas
    return Labelled(boxes, labels.masked_fill_(~valid, -1), matched_idxs, gt_boxes)


class Sampled(NamedTuple):
    """What is trained on, image by image, positives first; what masks are trained on; and what was read beside."""

    samples: list[Sample]
    mask_truth: CropTruth
    beside: int


@torch.no_grad()
def sample_proposals(
    proposals: Proposals,
    truths: Truths,
    sampler: BatchSampler,
    hardness: Callable[[list[Sample]], Sequence[Tensor]],
    thresholds: tuple[float, float],
    beside: Tensor,
) -> Sampled:
    """The proposals of each image that the box head trains on, ground-truth boxes among them.

    Args:
        proposals: of all images.
        truths: of all images.
        sampler: what draws them.
        hardness: classification loss of candidates, see ``finemask.types.ProposalSampler``.
        thresholds: IoU from which a proposal is positive, and below which it is background.
        beside: a whole number [] that is read in the same wait.
    """
    candidates = label_batch(
        torch.cat([proposals.boxes, truths.boxes], dim=1),
        torch.cat([proposals.valid, truths.valid], dim=1),
        truths,
        *thresholds,
    )
    drawn = sampler.draw(candidates.labels, lambda: torch.stack(list(hardness(candidates.images()))))
    chosen = candidates.at(drawn.rows)
    is_final, number, num_positives, num_drawn, matched, gt_boxes, slots = read(
        proposals.is_final,
        beside,
        drawn.num_positives,
        drawn.num_drawn,
        chosen.matched_idxs,
        truths.boxes,
        truths.slots,
    )
    if not is_final:  # a chain of overlaps longer than those that were followed: hardly ever
        return sample_proposals(proposals.finish(), truths, sampler, hardness, thresholds, beside)
    samples = _in_lists(chosen, num_positives, num_drawn)
    known = ReadTruths(gt_boxes, slots, truths.counts)
    of_positives = [of_image[:count] for of_image, count in zip(matched, num_positives, strict=True)]
    mask_truth = CropTruth(truths, known, of_positives, [sample.positives().boxes for sample in samples])
    return Sampled(samples, mask_truth, int(number))


@torch.no_grad()
def relabelled(truths: Truths, boxes: Sequence[Tensor], iou_thresh: float) -> list[Sample]:
    """Boxes [R, 4] of each image that have an area, with the labels that they have at this IoU, positives first."""
    (padded,), _ = pad_rows(boxes)
    with_area = (padded[..., 2:] > padded[..., :2]).all(dim=-1)  # others have no deltas
    labelled = label_batch(padded, with_area, truths, iou_thresh, iou_thresh)
    in_order = -torch.arange(padded.shape[1], device=padded.device).float().expand(labelled.labels.shape)
    drawn: Drawn = draw_balanced(labelled.labels, padded.shape[1], 1.0, keys=in_order)
    return _in_lists(labelled.at(drawn.rows), *read(drawn.num_positives, drawn.num_drawn))


def _in_lists(chosen: Labelled, num_positives: NDArray[np.int64], num_drawn: NDArray[np.int64]) -> list[Sample]:
    return [
        sample.at(slice(int(drawn)))._replace(num_positives=int(positives))
        for sample, positives, drawn in zip(chosen.images(), num_positives, num_drawn, strict=True)
    ]
