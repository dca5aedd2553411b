"""What an exported file finds in an image, compared with what the model finds there."""

from dataclasses import dataclass

import torch
from torch import Tensor

from finemask.inference.exported_model import ExportedModel
from finemask.model.mask_rcnn import MaskRCNN
from finemask.model.rpn import RowsRegionProposalNetwork
from finemask.ops.mask_ops import masks_to_rles, pasted_corners
from finemask.ops.rle import mask_iou, rle_area
from finemask.types import Detections

BOX_PX = 0.5  # largest difference of an edge, px of the image
SCORE = 1e-3  # largest difference of a score
MASK_SHARE = 0.01  # largest share of a mask's pixels that differ; one pixel is always allowed
_SAME_BOX_PX = BOX_PX / 10  # edges that differ by less do so by the order of additions alone
_LAST_DIGITS = 1e-5  # of an objectness, that the order of additions decides
_DRAWS = 32


@dataclass(frozen=True, slots=True)
class Agreement:
    """How far two answers for one image agree.

    Args:
        image: its name.
        size_hw: height and width, px.
        score_thresh: what scores no more was left out.
        found: detections of the model.
        found_exported: detections of the exported file.
        matched: pairs of one class and one box.
        at_the_cut: detections of one side only, whose score is that of the threshold or of the last one that is kept.
        alone: other detections of one side only.
        best_alone: the best score of theirs; 0 if there is none.
        at_a_tie: how many of these come and go in the model, too: see ``agreement_of``.
        at_a_pixel: pairs whose boxes are the same but for 0.05 px, and round to other whole pixels: their masks, which
            are stretched over those, are compared in the box of the model.
        box_px: largest difference of an edge among the pairs.
        score: largest difference of a score.
        mask_pixels: largest number of differing pixels of a mask.
        mask_share: largest share of a mask's pixels that differ, where more than one does; 0..1.
        fault: what is wrong; empty if they agree.
    """

    image: str
    size_hw: tuple[int, int]
    score_thresh: float
    found: int
    found_exported: int
    matched: int
    at_the_cut: int
    alone: int
    best_alone: float
    at_a_tie: int
    at_a_pixel: int
    box_px: float
    score: float
    mask_pixels: float
    mask_share: float
    fault: str = ""


def agreement_of(model: MaskRCNN, exported: ExportedModel, image: Tensor, name: str, thresh: float) -> Agreement:
    """Compares the answers of both for an image.

    Where ground is flat, and beyond the edge of an image, anchors have one objectness but for its last digits; which of
    them become the last proposals, and what is found there, is decided by the order of additions. So where something is
    found by one side only, the model is asked again with other last digits: what then comes and goes in the model
    itself, as many detections of as high a score, is no difference.

    Args:
        model: in evaluation mode.
        exported: the file, opened.
        image: uint8 [3, H, W].
        name: of the image.
        thresh: what scores no more is left out.
    """
    wanted, found = _both(model, exported, image, thresh)
    limit = model.roi_heads.detections_per_img
    agreement = compare(wanted, found, name, thresh, limit)
    if not agreement.alone:
        return agreement
    assert isinstance(model.rpn, RowsRegionProposalNetwork)  # no other is exported
    most, best = 0, 0.0
    generator = torch.Generator().manual_seed(0)

    def other_digits(_: object, __: object, answer: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        objectness, deltas = answer
        return objectness + _LAST_DIGITS * torch.randn(objectness.shape, generator=generator), deltas

    hook = model.rpn.head.register_forward_hook(other_digits)
    try:
        for _ in range(_DRAWS):
            drawn = compare(wanted, answer_of(model, image, thresh), name, thresh, limit)
            most, best = max(most, drawn.alone), max(best, drawn.best_alone)
            if agreement.alone <= most and agreement.best_alone <= best + SCORE:
                return compare(wanted, found, name, thresh, limit, ties=agreement.alone)
    finally:
        hook.remove()
    return agreement


def compare(wanted: Detections, found: Detections, name: str, thresh: float, limit: int, *, ties: int = 0) -> Agreement:
    """Matches two answers for one image, and measures how far they differ.

    Args:
        wanted: of the model.
        found: of the exported file.
        name: of the image.
        thresh: what scores no more was left out.
        limit: of detections in an image.
        ties: so many detections of one side only are no difference.
    """
    far = (wanted["boxes"][:, None] - found["boxes"][None]).abs().amax(dim=2)
    far = far + (wanted["scores"][:, None] - found["scores"][None]).abs()
    pairs, only_wanted, only_found = matched(far, wanted["labels"], found["labels"], 2 * BOX_PX + 2 * SCORE)
    rows, columns = (torch.tensor([pair[side] for pair in pairs], dtype=torch.int64) for side in (0, 1))
    a, b = _chosen(wanted, rows), _chosen(found, columns)
    at_a_pixel = _at_a_pixel(a, b)
    pixels, share = _mask_differences(a, b, torch.where(at_a_pixel[:, None], a["boxes"], b["boxes"]))
    cuts = [thresh]
    for answer in (wanted, found):
        if len(answer["scores"]) >= limit:
            cuts.append(float(answer["scores"][-1]))
    alone = [float(wanted["scores"][row]) for row in only_wanted] + [float(found["scores"][row]) for row in only_found]
    lonely = [score for score in alone if min(abs(score - cut) for cut in cuts) > SCORE]
    box_px, score = _largest(a["boxes"] - b["boxes"]), _largest(a["scores"] - b["scores"])
    faults = []
    if len(lonely) > ties:
        faults.append(f"{len(lonely)} found by one of the two only, the best with score {max(lonely):.3f}")
    if not box_px <= BOX_PX:
        faults.append(f"edges differ by {box_px:.2f} px")
    if not score <= SCORE:
        faults.append(f"scores differ by {score:.4f}")
    if not share <= MASK_SHARE:
        faults.append(f"{share:.1%} of a mask's pixels differ")
    return Agreement(
        image=name,
        size_hw=wanted["image_size_hw"],
        score_thresh=thresh,
        found=len(wanted["scores"]),
        found_exported=len(found["scores"]),
        matched=len(pairs),
        at_the_cut=len(alone) - len(lonely),
        alone=len(lonely),
        best_alone=max(lonely, default=0.0),
        at_a_tie=min(ties, len(lonely)),
        at_a_pixel=int(at_a_pixel.sum()),
        box_px=box_px,
        score=score,
        mask_pixels=pixels,
        mask_share=share,
        fault="; ".join(faults),
    )


def matched(
    far: Tensor, labels: Tensor, other_labels: Tensor, limit: float
) -> tuple[list[tuple[int, int]], list[int], list[int]]:
    """Pairs of one class, the nearest free one for each row in turn; and what is left on either side.

    Args:
        far: how far each row is from each column, [N, M].
        labels: of the rows, [N].
        other_labels: of the columns, [M].
        limit: what is farther is no pair.
    """
    far = far.masked_fill(labels[:, None] != other_labels[None], torch.inf)
    pairs, free = [], set(range(len(other_labels)))
    left = []
    for row, of_row in enumerate(far):
        nearest = min(free, key=lambda column: float(of_row[column]), default=None)
        if nearest is None or float(of_row[nearest]) > limit:
            left.append(row)
            continue
        free.discard(nearest)
        pairs.append((row, nearest))
    return pairs, left, sorted(free)


def _chosen(answer: Detections, rows: Tensor) -> Detections:
    return Detections(
        boxes=answer["boxes"][rows],
        labels=answer["labels"][rows],
        scores=answer["scores"][rows],
        mask_probs=answer["mask_probs"][rows],
        image_size_hw=answer["image_size_hw"],
    )


def _at_a_pixel(a: Detections, b: Detections) -> Tensor:
    """Bool [P] of pairs: one box, but masks that would be stretched over other whole pixels."""
    same = (a["boxes"] - b["boxes"]).abs().amax(dim=1) < _SAME_BOX_PX
    first, second = (pasted_corners(one["boxes"], one["mask_probs"].shape[-1]) for one in (a, b))
    return same & (first != second).any(dim=1)


def _mask_differences(a: Detections, b: Detections, boxes_of_b: Tensor) -> tuple[float, float]:
    """Most differing pixels of a pair of masks, and the largest share of pixels where more than one differs."""
    most, share = 0.0, 0.0
    rles = [
        masks_to_rles(one["mask_probs"], boxes, one["image_size_hw"])
        for one, boxes in ((a, a["boxes"]), (b, boxes_of_b))
    ]
    for first, second in zip(*rles, strict=True):
        if first == second:
            continue
        areas = rle_area(first) + rle_area(second)
        iou = float(mask_iou([first], [second])[0, 0])
        shared = areas * iou / (1 + iou)
        differing = areas - 2 * shared
        most = max(most, round(differing))
        if round(differing) > 1:
            share = max(share, differing / (areas - shared))
    return most, share


def _largest(difference: Tensor) -> float:
    return float(difference.abs().max()) if difference.numel() else 0.0


def _both(model: MaskRCNN, exported: ExportedModel, image: Tensor, thresh: float) -> tuple[Detections, Detections]:
    exported.score_thresh = thresh
    try:
        (found,) = exported([image])
    finally:
        exported.score_thresh = None
    return answer_of(model, image, thresh), found


def answer_of(model: MaskRCNN, image: Tensor, thresh: float) -> Detections:
    """What a model finds in an image uint8 [3, H, W] above a score threshold other than its own."""
    own = model.roi_heads.score_thresh
    model.roi_heads.score_thresh = thresh
    try:
        with torch.inference_mode():
            (found,) = model([image])
    finally:
        model.roi_heads.score_thresh = own
    answer: Detections = found
    return answer
