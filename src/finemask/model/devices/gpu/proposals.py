"""The RPN's second half with shapes that do not depend on the data: proposals, and what it learns from."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from torchvision.models.detection.image_list import ImageList

from finemask.model.devices.gpu.batched_overlaps import match_batch, suppress_batch
from finemask.model.devices.gpu.box_coding import decode, encode
from finemask.model.devices.gpu.crossing import send
from finemask.model.devices.gpu.draws import draw_balanced
from finemask.model.devices.gpu.truths import Truths
from finemask.model.rpn import BETA, RowsRegionProposalNetwork


@dataclass(frozen=True)
class Proposals:
    """Proposals of B images, at most T each.

    Attributes:
        boxes: float32 [B, T, 4], xyxy px, best first.
        valid: bool [B, T].
        is_final: bool [], whether suppression was carried on far enough; see ``Kept``.
        finish: the same after as many rounds as it takes, with a wait for each of the asks.
    """

    boxes: Tensor
    valid: Tensor
    is_final: Tensor
    finish: Callable[[], "Proposals"]


@torch.no_grad()
def propose(rpn: RowsRegionProposalNetwork, images: ImageList, levels: list[Tensor]) -> Proposals:
    """What ``RowsRegionProposalNetwork`` proposes, for all images and levels in one suppression."""
    anchors = rpn.anchors_of(images, levels)
    objectness, deltas = rpn.answers(levels)
    batch, device = len(objectness), objectness.device
    per_level = rpn.anchors_per_level(levels)
    best = np.array([min(count, rpn.pre_nms_top_n()) for count in per_level])
    place = np.arange(best.max())
    table = np.minimum(place, best[:, None] - 1)  # [levels, T], and where the level begins among all and the chosen
    starts = np.stack([np.cumsum(best) - best, np.cumsum(per_level) - per_level])[..., None]
    of_chosen, of_anchors = send(np.stack([table + starts[0], 0 * table + starts[1]]).reshape(2, -1), device)
    parts = objectness.split(per_level, dim=1)
    top = [part.topk(count, dim=1).indices for part, count in zip(parts, best.tolist(), strict=True)]
    chosen = torch.cat(top, dim=1).index_select(1, of_chosen) + of_anchors  # [B, levels · T]
    scores = objectness.gather(1, chosen).sigmoid()
    codes = deltas.gather(1, chosen[..., None].expand(-1, -1, 4))
    boxes = decode(codes, anchors[chosen])
    limits = np.array([(width, height) * 2 for height, width in images.image_sizes], dtype=np.float32)
    boxes = boxes.clamp(min=0).minimum(send(limits[:, None], device))
    usable = ((boxes[..., 2:] - boxes[..., :2]) >= rpn.min_size).all(dim=-1)
    usable &= send((place < best[:, None]).reshape(-1), device)
    if rpn.score_thresh > 0:
        usable &= scores >= rpn.score_thresh
    groups = (batch * len(best), len(place))
    suppressed = suppress_batch(boxes.reshape(*groups, 4), usable.reshape(groups), rpn.nms_thresh)

    def chosen_of(kept: Tensor, is_final: Tensor) -> Proposals:
        ranked = torch.where(kept.reshape(scores.shape), scores, -1.0)
        top = ranked.topk(min(rpn.post_nms_top_n(), ranked.shape[1]), dim=1)
        return Proposals(
            boxes.gather(1, top.indices[..., None].expand(-1, -1, 4)),
            top.values >= 0,
            is_final,
            lambda: chosen_of(suppressed.finish(), torch.ones_like(is_final)),
        )

    return chosen_of(suppressed.kept, suppressed.is_final)


def proposal_losses(
    rpn: RowsRegionProposalNetwork, images: ImageList, levels: list[Tensor], truths: Truths
) -> tuple[dict[str, Tensor], Tensor]:
    """``loss_objectness`` and ``loss_rpn_box_reg``, as the ragged ones, and the number of anchors sampled, int64 []."""
    anchors = rpn.anchors_of(images, levels)
    matcher, sampler = rpn.proposal_matcher, rpn.fg_bg_sampler
    with torch.no_grad():
        matched, kinds = match_batch(
            anchors[None], truths, matcher.high_threshold, matcher.low_threshold, keep_best=True
        )
        drawn = draw_balanced(kinds, sampler.batch_size_per_image, sampler.positive_fraction)
        own, is_positive = anchors[drawn.rows], drawn.is_positive
        gt_boxes = truths.boxes.gather(1, matched.gather(1, drawn.rows)[..., None].expand(-1, -1, 4))
        wanted = encode(torch.where(is_positive[..., None], gt_boxes, own), own)
        offsets = send(np.arange(len(kinds))[:, None] * len(anchors), kinds.device)
        sampled = (drawn.rows + offsets).flatten()
    per_location = rpn.head.cls_logits.out_channels
    objectness, deltas = rpn.head.at(levels, sampled // per_location)
    shape = sampled % per_location
    found = deltas.gather(1, shape[:, None, None].expand(-1, 1, 4)).reshape(wanted.shape)
    logits = objectness.gather(1, shape[:, None]).reshape(is_positive.shape)
    each_box = functional.smooth_l1_loss(found, wanted, beta=BETA, reduction="none")
    each = functional.binary_cross_entropy_with_logits(logits, is_positive.to(logits.dtype), reduction="none")
    count = drawn.num_drawn.sum()
    at_least_one = count.clamp(min=1)
    losses = {
        "loss_objectness": (each * drawn.is_drawn).sum() / at_least_one,
        "loss_rpn_box_reg": (each_box * is_positive[..., None]).sum() / at_least_one,
    }
    return losses, count
