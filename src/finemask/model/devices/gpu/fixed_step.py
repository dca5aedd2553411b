"""A training step and a detection with shapes that do not depend on the data, and for which models there are such.

A part from outside that replaces a method that sees lists is given lists: ``fixed_training`` and ``fixed_detection``.
"""

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from finemask.model.box_predictor.box_branch import box_branch_of
from finemask.model.devices.gpu.detecting import (
    detect_boxes,
    in_order,
    in_own_pixels,
    settles_batches,
)
from finemask.model.devices.gpu.draws import BatchSampler, draws_batches
from finemask.model.devices.gpu.proposals import proposal_losses, propose
from finemask.model.devices.gpu.sampling import sample_proposals
from finemask.model.devices.gpu.sheet import PyramidMaps
from finemask.model.devices.gpu.truths import truths_of
from finemask.model.mask_predictor.mask_branch import MaskBranch, mask_branch_of
from finemask.model.rpn import RowsRegionProposalNetwork
from finemask.model.samplers import OHEMSampler
from finemask.types import Detections, Target

if TYPE_CHECKING:
    from finemask.model.mask_rcnn import MaskRCNN


def fixed_training(model: "MaskRCNN") -> bool:
    """Whether all parts that see proposals or targets in training are finemask's, or see no lists.

    Online hard example mining sends all proposals through the box head once more, here the empty places too: batch norm
    would count them.
    """
    heads = model.roi_heads
    counts_places = isinstance(heads.fg_bg_sampler, OHEMSampler) and any(
        isinstance(module, _BatchNorm) for module in heads.box_head.modules()
    )
    return (
        type(model.rpn) is RowsRegionProposalNetwork
        and draws_batches(heads.fg_bg_sampler)
        and not counts_places
        and _is_own(box_branch_of(heads.box_predictor))
        and (_is_own(heads.mask_predictor) or not isinstance(heads.mask_predictor, MaskBranch))
    )


def fixed_detection(model: "MaskRCNN") -> bool:
    """Whether the proposals and detections of several images can be settled at once."""
    heads = model.roi_heads
    branch = box_branch_of(heads.box_predictor)
    is_own = type(model.rpn) is RowsRegionProposalNetwork and _is_own(branch)
    return is_own and settles_batches(branch, heads.suppression)


def _is_own(part: object) -> bool:
    return type(part).__module__.startswith("finemask.")


def fixed_losses(model: "MaskRCNN", images: Sequence[Tensor], targets: Sequence[Target]) -> dict[str, Tensor]:
    """As ``MaskRCNN.losses``, of a model for which ``fixed_training``."""
    heads, rpn, sampler = model.roi_heads, model.rpn, model.roi_heads.fg_bg_sampler
    assert isinstance(rpn, RowsRegionProposalNetwork)
    assert isinstance(sampler, BatchSampler)
    heads.check_targets(list(targets))
    batch, _ = model.transform(images)
    truths = truths_of(targets, batch.image_sizes)
    features = PyramidMaps(model.backbone(batch.tensors))
    levels = list(features.values())
    proposals = propose(rpn, batch, levels)
    rpn_losses, num_anchors = proposal_losses(rpn, batch, levels, truths)
    context = heads.box_context(features, batch.image_sizes, [], truths)
    branch, matcher = box_branch_of(heads.box_predictor), heads.proposal_matcher
    samples, mask_truth, rpn.rows = sample_proposals(
        proposals,
        truths,
        sampler,
        partial(branch.hardness, context),
        (matcher.high_threshold, matcher.low_threshold),
        num_anchors,
    )
    box_losses = branch.losses(context, samples)
    positives = [sample.positives() for sample in samples]
    labels = torch.cat([of_image.labels for of_image in positives])
    heads.rows, heads.mask_rows = sum(len(sample.labels) for sample in samples), len(labels)
    rois = heads.mask_rois(features, [of_image.boxes for of_image in positives], labels, batch.image_sizes)
    mask_losses = mask_branch_of(heads.mask_predictor).losses(rois, mask_truth, heads.mask_loss)
    return {**box_losses, **mask_losses, **rpn_losses}


def fixed_detections(
    model: "MaskRCNN", images: Sequence[Tensor], least_scores: Sequence[float] | None = None
) -> list[Detections]:
    """Detections of images that are padded to one shape, together; of a model for which ``fixed_detection``.

    Args:
        model: in evaluation mode.
        images: as of ``MaskRCNN.forward``.
        least_scores: see ``MaskRCNN.detect``.
    """
    heads, rpn = model.roi_heads, model.rpn
    assert isinstance(rpn, RowsRegionProposalNetwork)
    batch, _ = model.transform(images)
    features = PyramidMaps(model.backbone(batch.tensors))
    proposals = propose(rpn, batch, list(features.values()))
    context = heads.box_context(features, batch.image_sizes, [])
    least = least_scores if heads.settles_by_boxes() else None
    boxes = detect_boxes(box_branch_of(heads.box_predictor), context, proposals, least)
    labels = torch.cat([of_image.labels for of_image in boxes])
    scores = torch.cat([of_image.scores for of_image in boxes])
    rois = heads.mask_rois(features, [of_image.boxes for of_image in boxes], labels, batch.image_sizes)
    probs, scores = mask_branch_of(heads.mask_predictor).detect(rois, scores)
    original = [(image.shape[-2], image.shape[-1]) for image in images]
    return in_own_pixels(in_order(boxes, scores, probs), batch.image_sizes, original)
