"""The two moments at which a suppression is asked: when the boxes of an image are there, and when its masks are."""

from torch import Tensor

from finemask.ops.suppression import ScoredBoxes
from finemask.types import Suppression


def settle_boxes(candidates: ScoredBoxes, suppression: Suppression, limit: int) -> ScoredBoxes:
    """What the suppression leaves of an image's candidates, best first.

    Args:
        candidates: in any order.
        suppression: see ``finemask.types.Suppression``; one that also looks at masks may leave more than ``limit``.
        limit: on the detections of an image.
    """
    kept, scores = suppression.by_box(candidates.boxes, candidates.scores, candidates.labels, limit)
    return ScoredBoxes(candidates.boxes[kept], scores, candidates.labels[kept])


def settle_masks(
    boxes: Tensor,
    scores: Tensor,
    labels: Tensor,
    mask_probs: Tensor,
    image_size_hw: tuple[int, int],
    suppression: Suppression,
    limit: int,
) -> dict[str, Tensor]:
    """The detections of an image, best first, once their masks are known.

    Args:
        boxes: [N, 4], xyxy px.
        scores: [N], 0..1; the mask predictor may have changed them, so they are in any order.
        labels: int64 [N], 1..K.
        mask_probs: [N, M, M], 0..1.
        image_size_hw: of the image that boxes are in, px.
        suppression: see ``finemask.types.Suppression``.
        limit: detections at most.
    """
    order = scores.argsort(descending=True, stable=True)
    boxes, scores, labels, mask_probs = (rows[order] for rows in (boxes, scores, labels, mask_probs))
    kept = suppression.by_mask(boxes, scores, labels, mask_probs, image_size_hw, limit)
    return {"boxes": boxes[kept], "scores": scores[kept], "labels": labels[kept], "mask_probs": mask_probs[kept]}
