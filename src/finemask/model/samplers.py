"""Proposals that the second stage trains on: labelling by IoU, random sampling, online hard example mining."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from finemask.model.devices.gpu.crossing import send
from finemask.model.devices.gpu.draws import Drawn, draw_balanced
from finemask.ops.box_ops import match_boxes, sample_balanced
from finemask.types import Target


class Sample(NamedTuple):
    """Proposals of one image and their regression targets."""

    boxes: Tensor  # [R, 4]
    labels: Tensor  # int64 [R], -1..K
    matched_idxs: Tensor  # int64 [R], position among the image's instances
    gt_boxes: Tensor  # [R, 4], the matched instance's
    num_positives: int | None = None  # where it is known: positives come first, and nobody has to look for them

    def at(self, rows: Tensor | slice) -> "Sample":
        """Those at the given positions (int64), in a slice, or where a mask (bool [R]) says so."""
        return Sample(self.boxes[rows], self.labels[rows], self.matched_idxs[rows], self.gt_boxes[rows])

    def positives(self) -> "Sample":
        """Those that have an instance."""
        if self.num_positives is None:
            return self.at(torch.where(self.labels > 0)[0])
        return self.at(slice(self.num_positives))


def positives_of(samples: list[Sample]) -> Tensor | None:
    """Positions int64 of the positives of all images, counted through all samples, where it is known how many."""
    if any(sample.num_positives is None for sample in samples):
        return None
    ends = np.cumsum([len(sample.labels) for sample in samples])
    ranges = [
        np.arange(end - len(sample.labels), end)[: sample.num_positives]
        for sample, end in zip(samples, ends, strict=True)
    ]
    return send(np.concatenate(ranges), samples[0].labels.device)


def label_boxes(boxes: Tensor, target: Target, fg_iou_thresh: float, bg_iou_thresh: float) -> Sample:
    """Labels proposals by IoU with ground truth: each gets label and box of the instance that it overlaps most.

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


class RandomSampler:
    """Random sampling with an upper bound on the share of positives.

    Args:
        batch_size_per_image: proposals an image that the box head trains on.
        positive_fraction: upper bound of the share of positives among them, 0..1.
    """

    def __init__(self, batch_size_per_image: int = 512, positive_fraction: float = 0.25) -> None:
        self._batch_size = batch_size_per_image
        self._positive_fraction = positive_fraction

    def __call__(self, labels: list[Tensor], hardness: Callable[[], list[Tensor]]) -> list[Tensor]:
        """See ``finemask.types.ProposalSampler``."""
        drawn = [sample_balanced(of_image, self._batch_size, self._positive_fraction) for of_image in labels]
        return [torch.cat(pair).sort().values for pair in drawn]

    def draw(self, labels: Tensor, hardness: Callable[[], Tensor]) -> Drawn:
        """See ``finemask.model.devices.gpu.draws.BatchSampler``."""
        return draw_balanced(labels, self._batch_size, self._positive_fraction)


class OHEMSampler:
    """Online hard example mining: the proposals of largest loss, positives and background each on their own.

    Shrivastava, Gupta & Girshick 2016, "Training region-based object detectors with online hard example mining" (arXiv
    1604.03540). Without their suppression of overlapping proposals and with the usual bound on the share of positives,
    as in mmdetection's ``OHEMSampler``. All proposals go through the box head once more, without a gradient; a batch
    norm in that head counts them too.

    Args:
        batch_size_per_image: proposals an image that the box head trains on.
        positive_fraction: upper bound of the share of positives among them, 0..1.
    """

    def __init__(self, batch_size_per_image: int = 512, positive_fraction: float = 0.25) -> None:
        self._batch_size = batch_size_per_image
        self._positive_fraction = positive_fraction

    def __call__(self, labels: list[Tensor], hardness: Callable[[], list[Tensor]]) -> list[Tensor]:
        """See ``finemask.types.ProposalSampler``."""
        return [self._hardest(*of_image) for of_image in zip(labels, hardness(), strict=True)]

    def draw(self, labels: Tensor, hardness: Callable[[], Tensor]) -> Drawn:
        """See ``finemask.model.devices.gpu.draws.BatchSampler``."""
        return draw_balanced(labels, self._batch_size, self._positive_fraction, keys=hardness())

    def _hardest(self, labels: Tensor, losses: Tensor) -> Tensor:
        order = losses.argsort(descending=True, stable=True)
        ranked = labels[order]
        positives = order[ranked > 0][: int(self._batch_size * self._positive_fraction)]
        background = order[ranked == 0][: self._batch_size - len(positives)]
        return torch.cat([positives, background]).sort().values
