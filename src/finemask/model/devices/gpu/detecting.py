"""Detections of a batch with two waits: for how many candidates there are, and for how many of them are kept."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from finemask.model.box_predictor.box_branch import BoxBranch, BoxContext
from finemask.model.devices.gpu.batched_overlaps import suppress_batch
from finemask.model.devices.gpu.crossing import read, rows_of_images, send
from finemask.model.devices.gpu.proposals import Proposals
from finemask.model.suppression import NMS, ClassAgnosticNMS
from finemask.ops.box_ops import MIN_SIDE_PX, ScoredBoxes
from finemask.types import Detections, Suppression

_MOST_CANDIDATES = 4096  # of an image that are compared pair by pair; with more, image after image


def settles_batches(branch: BoxBranch, suppression: Suppression) -> bool:
    """Whether detections are what NMS of boxes leaves of the candidates, so that all images can be settled at once."""
    of_kind = type(branch)
    is_plain = of_kind.settle is BoxBranch.settle and of_kind.detect is BoxBranch.detect
    return is_plain and type(suppression) in (NMS, ClassAgnosticNMS)


def detect_boxes(
    branch: BoxBranch, context: BoxContext, proposals: Proposals, least_scores: Sequence[float] | None = None
) -> list[ScoredBoxes]:
    """Detections of each image, best first, as ``BoxBranch.detect`` finds them in lists of proposals.

    Args:
        branch: for which ``settles_batches``.
        context: of the batch.
        proposals: of all images.
        least_scores: of label 1, 2, …: detections that score less are left out.
    """
    images, places = proposals.valid.shape
    scores, boxes = branch.score(context, list(proposals.boxes))
    limits = np.array([(width, height) * 2 for height, width in context.image_shapes], dtype=np.float32)
    of_classes = boxes.reshape(images, places, -1, 4)[:, :, 1:].clamp(min=0)
    of_classes = of_classes.minimum(send(limits[:, None, None], boxes.device))
    of_scores = scores.reshape(images, places, -1)[..., 1:]
    has_area = (of_classes[..., 2:] - of_classes[..., :2] >= MIN_SIDE_PX).all(dim=-1)
    is_candidate = (of_scores > context.score_thresh) & has_area & proposals.valid[..., None]
    counts: list[int]
    is_final, numbers = read(proposals.is_final, is_candidate.flatten(1).sum(1))
    if not is_final:
        return detect_boxes(branch, context, proposals.finish(), least_scores)
    counts = numbers.tolist()
    ranked = torch.where(is_candidate, of_scores, -1.0).flatten(1).topk(max(1, *counts), dim=1)
    labels = ranked.indices % of_scores.shape[2] + 1
    found = of_classes.flatten(1, 2).gather(1, ranked.indices[..., None].expand(-1, -1, 4))
    if max(counts) > _MOST_CANDIDATES:
        candidates = [
            ScoredBoxes(of_boxes[:count], its_scores[:count], its_labels[:count])
            for of_boxes, its_scores, its_labels, count in zip(found, ranked.values, labels, counts, strict=True)
        ]
        return [branch.settle(context, of_image) for of_image in candidates]  # what scores less is no harm there
    return _settle(context, found, ranked.values, labels, least_scores)


def _settle(
    context: BoxContext, boxes: Tensor, scores: Tensor, labels: Tensor, least_scores: Sequence[float] | None
) -> list[ScoredBoxes]:
    """Boxes [B, N, 4], scores [B, N], -1 where there is none, and labels [B, N], best first."""
    suppression = context.suppression
    assert isinstance(suppression, NMS)
    within = None if isinstance(suppression, ClassAgnosticNMS) else labels
    suppressed = suppress_batch(boxes, scores >= 0, suppression.iou_thresh, within)
    kept = _wanted(context, suppressed.kept, scores, labels, least_scores)
    is_final, counts = read(suppressed.is_final, kept.sum(1))
    if not is_final:
        kept = _wanted(context, suppressed.finish(), scores, labels, least_scores)
        counts = read(kept.sum(1))[0]
    place = torch.arange(kept.shape[1], 0, -1, device=kept.device)
    chosen = torch.where(kept, place, 0).topk(max(1, counts.max()), dim=1).indices
    parts = (boxes.gather(1, chosen[..., None].expand(-1, -1, 4)), scores.gather(1, chosen), labels.gather(1, chosen))
    return [
        ScoredBoxes(*(part[:count] for part in of_image))
        for of_image, count in zip(zip(*parts, strict=True), counts.tolist(), strict=True)
    ]


def _wanted(
    context: BoxContext, kept: Tensor, scores: Tensor, labels: Tensor, least_scores: Sequence[float] | None
) -> Tensor:
    """Which of those that are kept, bool [B, N], are reported: the best, and of these what scores enough."""
    kept = kept & (kept.cumsum(1) <= context.detections_per_img)
    if least_scores is None:
        return kept
    return kept & (scores >= send(np.array([0.0, *least_scores], dtype=np.float32), scores.device)[labels])


def in_order(found: Sequence[ScoredBoxes], scores: Tensor, mask_probs: Tensor) -> list[dict[str, Tensor]]:
    """Detections of each image with their masks, by the scores that they have now.

    Args:
        found: of each image.
        scores: [sum of N], of all images; a mask predictor may have changed them.
        mask_probs: [sum of N, M, M].
    """
    counts = [len(of_image.boxes) for of_image in found]
    parts = {
        "boxes": torch.cat([of_image.boxes for of_image in found]),
        "scores": scores,
        "labels": torch.cat([of_image.labels for of_image in found]),
        "mask_probs": mask_probs,
    }
    order = scores.argsort(descending=True, stable=True)
    order = order[rows_of_images(counts, scores.device)[order].argsort(stable=True)]
    split = {name: part[order].split(counts) for name, part in parts.items()}
    return [dict(zip(split, of_image, strict=True)) for of_image in zip(*split.values(), strict=True)]


def in_own_pixels(
    found: Sequence[dict[str, Tensor]], sizes: Sequence[tuple[int, int]], originals: Sequence[tuple[int, int]]
) -> list[Detections]:
    """As ``ImageTransform.postprocess``, for all images at once."""
    counts = [len(of_image["boxes"]) for of_image in found]
    boxes = torch.cat([of_image["boxes"] for of_image in found])
    row = np.repeat(np.arange(len(counts)), counts)
    four = [1, 0, 1, 0]
    ratio = (np.array(originals, dtype=np.float32) / np.array(sizes, dtype=np.float32))[row][:, four]
    limits = np.array(originals, dtype=np.float32)[row][:, four]
    scaled = (boxes * send(ratio, boxes.device)).clamp(min=0).minimum(send(limits, boxes.device))
    return [
        Detections(
            boxes=of_image_boxes,
            labels=of_image["labels"],
            scores=of_image["scores"],
            mask_probs=of_image["mask_probs"],
            image_size_hw=original,
        )
        for of_image_boxes, of_image, original in zip(scaled.split(counts), found, originals, strict=True)
    ]
