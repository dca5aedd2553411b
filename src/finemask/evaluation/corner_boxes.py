"""Boxes of a results file that are corners, where COCO has x, y, width and height: recognised, and refused."""

from collections.abc import Sequence

import numpy as np

from finemask.errors import DataError
from finemask.evaluation.ground_truth import GroundTruth
from finemask.evaluation.pairs import box_iou
from finemask.ops.rle import rle_box_xywh
from finemask.types import CocoResult

_LOOKED_AT = 2_000  # entries that are enough to tell
_CLEARLY = 0.2  # a difference of IoUs, and a share of entries, that odd boxes among sound ones do not make
_OUTSIDE = 0.05  # of an image's side: detectors that do not clip their boxes end within it


def refuse_corner_boxes(results: Sequence[CocoResult], ground_truth: GroundTruth, source: object) -> None:
    """Refuses a file whose boxes, taken as xywh, contradict their own masks and as corners fit them.

    Without masks: if many end far outside their image as xywh, and all are inside as corners.

    Args:
        results: checked, with ids of the ground truth.
        ground_truth: knows the sizes of the images.
        source: the file, for messages.

    Raises:
        DataError: they are corners.
    """
    chosen = [entry for entry in results[:: max(1, len(results) // _LOOKED_AT)] if "bbox" in entry]
    if not chosen:
        return
    seen = _beside_masks([entry for entry in chosen if "segmentation" in entry]) or _in_images(chosen, ground_truth)
    if seen:
        raise DataError(
            f"the boxes are corners, [x0, y0, x1, y1]: as [x, y, width, height] {seen}",
            where=source,
            remedy="A COCO results file has [x, y, width, height]: subtract x0 from x1 and y0 from y1",
        )


def _beside_masks(entries: Sequence[CocoResult]) -> str | None:
    """What gives corners away, if anything does."""
    if not entries:
        return None
    xywh = np.array([entry["bbox"] for entry in entries])
    masks = np.array([rle_box_xywh(entry["segmentation"]) for entry in entries])
    fits, fits_as_corners = (box_iou(boxes, masks, np.zeros(len(boxes), bool)) for boxes in (xywh, _meant(xywh)))
    differ = np.abs(fits - fits_as_corners) > _CLEARLY
    if not differ.any() or (fits_as_corners > fits)[differ].mean() < 1 - _CLEARLY:
        return None
    # Boxes that have nothing to do with their masks fit in neither way.
    return "they contradict their masks" if fits_as_corners[differ].mean() > 1 - 2 * _CLEARLY else None


def _in_images(entries: Sequence[CocoResult], ground_truth: GroundTruth) -> str | None:
    """What gives corners away, if anything does."""
    xywh = np.array([entry["bbox"] for entry in entries])
    images = [ground_truth.images[entry["image_id"]] for entry in entries]
    sides = np.array([(image.width or np.inf, image.height or np.inf) for image in images])
    inside_as_corners = (_meant(xywh)[:, 2:] >= 0).all() and (xywh[:, 2:] <= sides + 1).all()
    share = (xywh[:, :2] + xywh[:, 2:] > sides * (1 + _OUTSIDE)).any(axis=1).mean()
    return f"{share:.0%} of them end outside their image" if inside_as_corners and share > _CLEARLY else None


def _meant(xyxy: np.ndarray) -> np.ndarray:
    """Xywh [N, 4] of boxes whose numbers are corners."""
    return np.concatenate([xyxy[:, :2], xyxy[:, 2:] - xyxy[:, :2]], axis=1)
