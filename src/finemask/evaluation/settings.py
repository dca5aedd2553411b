"""What a user may choose of an evaluation, checked; a value that makes no sense is refused by name.

Every function raises ``ConfigError`` for a value that is none of its own.
"""

import math
from collections.abc import Sequence
from typing import Literal

from finemask.errors import ConfigError
from finemask.evaluation.ground_truth import GroundTruth

IOU_TYPES = ("bbox", "segm")
BOUNDARY = "boundary"
_STANDARD_CAP = 100
_HEADROOM = 1.5  # over the objects of the fullest image: a cap at their very number would cost recall


def checked_iou_types(iou_types: Sequence[str]) -> tuple[str, ...]:
    """The types in COCO's order, without the boundary, which has metrics of its own."""
    given = set() if isinstance(iou_types, str) else set(iou_types)
    if not given or not given <= {*IOU_TYPES, BOUNDARY} or (BOUNDARY in given and "segm" not in given):
        raise ConfigError(
            f"iou_types is {iou_types!r}",
            remedy="Write 'iou_types=[bbox,segm]', [bbox] or [segm]; and boundary beside segm, as in [segm,boundary].",
        )
    return tuple(kind for kind in IOU_TYPES if kind in iou_types)


def resolved_cap(max_detections: int | str, ground_truth: GroundTruth) -> int:
    """The cap on the detections of an image and category."""
    if max_detections == "auto":
        return max(_STANDARD_CAP, math.ceil(_HEADROOM * ground_truth.max_per_image))
    if isinstance(max_detections, int) and not isinstance(max_detections, bool) and max_detections > 0:
        return max_detections
    raise ConfigError(f"max_detections is {max_detections!r}", remedy="Give a whole number of at least 1, or auto.")


def checked_threshold(threshold: float | str) -> float | Literal["auto"]:
    """The score of the operating point."""
    if threshold == "auto":
        return "auto"
    if isinstance(threshold, int | float) and not isinstance(threshold, bool) and 0 <= threshold <= 1:
        return float(threshold)
    raise ConfigError(f"threshold is {threshold!r}", remedy="Give a score from 0 to 1, or auto.")


def checked_iou(iou: float) -> float:
    """The overlap at the operating point."""
    if isinstance(iou, int | float) and not isinstance(iou, bool) and 0 < iou <= 1:
        return float(iou)
    raise ConfigError(f"operating_iou is {iou!r}", remedy="Give an overlap above 0 and up to 1; 0.5 is usual.")
