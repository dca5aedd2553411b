"""Results that fit the ground truth in form and cannot be meant: boxes as corners, mixed-up image ids; refused here.

Programs that number images by themselves write ids that fit the ground truth in form, and score next to nothing.
"""

from bisect import bisect_left
from collections.abc import Sequence
from math import comb, log10

import numpy as np
from numpy.typing import NDArray

from finemask.errors import DataError
from finemask.evaluation.ground_truth import GroundTruth
from finemask.evaluation.numbers.overlaps import box_iou
from finemask.evaluation.numbers.ranking import run_starts
from finemask.ops.rle import rle_box_xywh
from finemask.types import CocoResult

_LOOKED_AT = 2_000  # entries that are enough to tell
_CLEARLY = 0.2  # a difference of IoUs, and a share of entries, that odd boxes among sound ones do not make
_OUTSIDE = 0.05  # of an image's side: detectors that do not clip their boxes end within it

_IMAGES = 30  # looked at
_BEST = 10  # detections of each
_IOU = 0.7
_FEW, _MANY = 0.3, 0.8  # shares of detections, and of images
_BY_CHANCE = 0.15  # share of detections on some object of another image; dense images of equal objects have so many
_IMPROBABLE = -6.0  # log10 of the probability that so many agree by chance


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


def refuse_swapped_images(results: Sequence[CocoResult], ground_truth: GroundTruth, source: object) -> None:
    """Refuses results that are beside the objects of their own images and on those of others, each of another one.

    It takes some ten detections in all to say so; fewer agree by chance.

    Args:
        results: checked, with ids of the ground truth.
        ground_truth: what they are to be compared with.
        source: the file, for messages.

    Raises:
        DataError: the ids are mixed up; says which image is which.
    """
    found = _best_boxes(results, ground_truth)
    objects, ids = ground_truth.objects, sorted(ground_truth.images)
    shown = np.flatnonzero(~objects.crowd)
    shown = shown[np.argsort(objects.image[shown], kind="stable")]
    boxes, image = objects.boxes[shown], objects.image[shown]
    beside = {}
    for image_id, best in found.items():
        first, last = np.searchsorted(image, [at := bisect_left(ids, image_id), at + 1])
        start = np.zeros(1, dtype=np.int64)
        if first == last or _number_on(best, boxes[first:last], start)[0] / len(best) <= _FEW:
            beside[image_id] = best
    if not beside or len(beside) < _MANY * len(found):
        return
    first_of_image = run_starts(image)
    having = [ids[at] for at in image[first_of_image].tolist()]
    partners, evidence = {}, 0.0
    for image_id, best in beside.items() if having else ():
        hits, size = _number_on(best, boxes, first_of_image), ground_truth.images[image_id][1:3]
        same = [at for at, id_ in enumerate(having) if id_ != image_id and ground_truth.images[id_][1:3] == size]
        other = max(same, key=lambda at: hits[at], default=None)
        if other is not None and (count := int(hits[other])) >= len(best) / 2:
            partners[image_id] = having[other]
            evidence += min(0.0, log10(len(same) * comb(len(best), count)) + count * log10(_BY_CHANCE))
    if evidence > _IMPROBABLE or len(set(partners.values())) < _MANY * len(found):
        return
    named = [
        f"{id_} ({name})" if (name := ground_truth.images[id_].file_name) else f"{id_}"
        for id_ in next(iter(partners.items()))
    ]
    raise DataError(
        f"its image ids are mixed up: in {len(partners)} of {len(found)} images looked at, the detections are on the "
        f"objects of another image. Those of image {named[0]} fit image {named[1]}",
        where=source,
        remedy="Results carry the image ids of the annotation file; finemask predict annotations=FILE writes them",
    )


def _best_boxes(results: Sequence[CocoResult], ground_truth: GroundTruth) -> dict[int, NDArray[np.float64]]:
    """Boxes xywh [N, 4] of the detections with the best scores, of images evenly spread over those that have any."""
    having = {entry["image_id"] for entry in results}
    ids = [id_ for id_ in ground_truth.images if id_ in having]
    chosen: dict[int, list[CocoResult]] = {id_: [] for id_ in ids[:: max(1, len(ids) // _IMAGES)]}
    for entry in results:
        if entry["image_id"] in chosen:
            chosen[entry["image_id"]].append(entry)
    best = {id_: sorted(entries, key=lambda entry: -entry["score"])[:_BEST] for id_, entries in chosen.items()}
    return {
        id_: np.array([entry.get("bbox") or rle_box_xywh(entry["segmentation"]) for entry in entries])
        for id_, entries in best.items()
    }


def _number_on(boxes: NDArray[np.float64], objects: NDArray[np.float64], first: NDArray[np.int64]) -> NDArray[np.int64]:
    """How many of the boxes [N, 4] are on an object of each image, int64 [I]; an image's objects begin at ``first``."""
    hits, no_crowd = np.zeros(len(first), dtype=np.int64), np.zeros(len(objects), dtype=bool)
    for box in boxes:
        hits += np.maximum.reduceat(box_iou(np.broadcast_to(box, objects.shape), objects, no_crowd), first) >= _IOU
    return hits
