"""From the scores and boxes of all RoIs to the detections of an image: torchvision's steps around a suppression."""

from collections.abc import Mapping

import torch
from torch import Tensor
from torchvision.ops import clip_boxes_to_image, remove_small_boxes

from finemask.types import Suppression

_MIN_SIDE_PX = 1e-2  # torchvision's: a box without area has no mask


def select_detections(
    boxes: Tensor,
    scores: Tensor,
    image_size_hw: tuple[int, int],
    suppression: Suppression,
    score_thresh: float,
    limit: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """Every class of every RoI is a candidate; what the suppression leaves are the detections.

    Args:
        boxes: float [R, K + 1, 4], decoded, xyxy px; or [R, 1, 4], one box for all classes.
        scores: float [R, K + 1], 0..1, of the classes; 0 is background.
        image_size_hw: of the image that boxes are in, px.
        suppression: see ``finemask.types.Suppression``.
        score_thresh: candidates must score more.
        limit: detections at most.

    Returns:
        Boxes [N, 4], scores [N] and labels int64 [N], best score first. A suppression that also looks at masks may
        leave more than ``limit`` for the time being.
    """
    num_classes = scores.shape[1]
    boxes = clip_boxes_to_image(boxes, image_size_hw).expand(-1, num_classes, 4)
    labels = torch.arange(num_classes, device=scores.device).expand_as(scores)
    boxes, scores, labels = boxes[:, 1:].reshape(-1, 4), scores[:, 1:].reshape(-1), labels[:, 1:].reshape(-1)
    chosen = torch.where(scores > score_thresh)[0]
    chosen = chosen[remove_small_boxes(boxes[chosen], _MIN_SIDE_PX)]
    boxes, labels = boxes[chosen], labels[chosen]
    kept, scores = suppression.by_box(boxes, scores[chosen], labels, limit)
    return boxes[kept], scores, labels[kept]


def suppress_by_masks(
    found: Mapping[str, Tensor], image_size_hw: tuple[int, int], suppression: Suppression, limit: int
) -> dict[str, Tensor]:
    """The detections of an image that are left once their masks are known.

    Args:
        found: ``boxes``, ``scores``, ``labels``, ``mask_probs`` and whatever else has a row for each detection.
        image_size_hw: of the image that boxes are in, px.
        suppression: see ``finemask.types.Suppression``.
        limit: detections at most.
    """
    kept = suppression.by_mask(
        found["boxes"], found["scores"], found["labels"], found["mask_probs"], image_size_hw, limit
    )
    return {name: rows[kept] for name, rows in found.items()}
