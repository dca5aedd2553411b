"""Overlap of masks as run-length encodings, and greedy suppression by any overlap."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from finemask.ops.rle import rles_for_coco
from finemask.types import Rle


def mask_iou(one: Sequence[Rle], other: Sequence[Rle], *, of_first: bool = False) -> NDArray[np.float64]:
    """Intersection over union of every pair of masks; no mask is decoded.

    Args:
        one: N masks.
        other: M masks of the same size.
        of_first: the share of the first mask's pixels instead of that of the union.

    Returns:
        float64 [N, M], 0..1; 0 with a mask that has no pixels, itself included.
    """
    if not one or not other:
        return np.zeros((len(one), len(other)))
    found = coco_mask.iou(rles_for_coco(one), rles_for_coco(other), [of_first] * len(other))
    return np.nan_to_num(np.array(found, dtype=np.float64).reshape(len(one), len(other)))


def suppress(iou: NDArray[np.float64], scores: NDArray[np.floating], iou_thresh: float) -> NDArray[np.int64]:
    """Greedy suppression: the best is kept, all that overlap it too much go, then the best of the rest.

    Args:
        iou: [N, N], 0..1.
        scores: [N]; equal ones in the order in which they stand.
        iou_thresh: above it, two overlap too much.

    Returns:
        int64 [M], positions of those that are kept, best score first.
    """
    order = np.argsort(-scores, kind="stable")
    is_left = np.ones(len(scores), dtype=np.bool_)
    kept = []
    for position in order.tolist():
        if is_left[position]:
            kept.append(position)
            is_left &= iou[position] <= iou_thresh
    return np.array(kept, dtype=np.int64)
