"""Labels and detections of one image, matched by mask IoU."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from finemask.coco.index import CocoIndex
from finemask.ops.rle import crop_to_rle, mask_iou, rle_area, rles_for_coco
from finemask.types import CocoResult, Rle

LEAST_SCORE = 0.05
"""Detections below it say nothing, and Mask R-CNN gives a hundred of them an image."""

SAME_OBJECT_IOU = 0.5
"""From this overlap on, two masks are taken for one object, as COCO's AP50 does."""

_LOOSE_IOU = 0.25  # a mask drawn badly still overlaps its object by so much


@dataclass(frozen=True, slots=True)
class ComparedImage:
    """Labels and detections of one image: A labels (no crowds, none without pixels), D detections by falling score.

    Args:
        position: of the image in the index.
        label_ids: int64 [A], annotation ids of the file.
        label_classes: int64 [A], 1..K.
        label_rles: A masks.
        areas: float64 [A], px² of the labels.
        scores: float64 [D], 0..1.
        classes: int64 [D], 1..K.
        rles: D masks.
        iou: float64 [D, A], of masks.
        covered: float64 [D], share of a detection's pixels that labels of its class and crowd regions have already.
        label_iou: float64 [A, A].
        matches: int64 [D], the label of the same class that each detection found, -1: none; no label twice.
    """

    position: int
    label_ids: NDArray[np.int64]
    label_classes: NDArray[np.int64]
    label_rles: list[Rle]
    areas: NDArray[np.float64]
    scores: NDArray[np.float64]
    classes: NDArray[np.int64]
    rles: list[Rle]
    iou: NDArray[np.float64]
    covered: NDArray[np.float64]
    label_iou: NDArray[np.float64]
    matches: NDArray[np.int64]


def compare_images(index: CocoIndex, results: Sequence[CocoResult]) -> Iterator[ComparedImage]:
    """Compares the labels of every image with what was detected in it.

    Args:
        index: of the labels.
        results: detections in any order, with masks; image and category ids are those of the index's file.
    """
    found: dict[int, list[CocoResult]] = defaultdict(list)
    for result in results:
        if result["score"] >= LEAST_SCORE:
            found[result["image_id"]].append(result)
    label_of = {category_id: k + 1 for k, category_id in enumerate(index.category_ids)}
    for position, image_id in enumerate(index.image_ids.tolist()):
        by_score = sorted(found[image_id], key=lambda result: -result["score"])
        detected = [result for result in by_score if rle_area(result["segmentation"])]
        yield _compared(index, position, detected, label_of)


def _compared(
    index: CocoIndex, position: int, detected: Sequence[CocoResult], label_of: dict[int, int]
) -> ComparedImage:
    instances, size_hw = index.instances(position), index.size_hw(position)
    masks = {}
    for k in range(len(instances)):
        crop, x0, y0 = instances.crop(k)
        if crop.any():
            masks[k] = crop_to_rle(crop, x0, y0, *size_hw)
    kept = [k for k in masks if not instances.iscrowd[k]]
    crowds, labelled = [rle for k, rle in masks.items() if instances.iscrowd[k]], [masks[k] for k in kept]
    rles = [result["segmentation"] for result in detected]
    classes = np.array([label_of[result["category_id"]] for result in detected], dtype=np.int64)
    label_classes = instances.labels[kept]
    iou = mask_iou(rles, labelled)
    return ComparedImage(
        position=position,
        label_ids=instances.annotation_ids[kept],
        label_classes=label_classes,
        label_rles=labelled,
        areas=np.array([rle_area(rle) for rle in labelled], dtype=np.float64),
        scores=np.array([result["score"] for result in detected], dtype=np.float64),
        classes=classes,
        rles=rles,
        iou=iou,
        covered=_covered(rles, classes, labelled, label_classes, crowds),
        label_iou=mask_iou(labelled, labelled),
        matches=_matches(iou, classes[:, None] == label_classes[None, :]),
    )


def _covered(
    detected: Sequence[Rle],
    classes: NDArray[np.int64],
    rles: Sequence[Rle],
    label_classes: NDArray[np.int64],
    crowds: Sequence[Rle],
) -> NDArray[np.float64]:
    share = np.zeros(len(detected))
    for label in np.unique(classes):
        known = [*crowds, *(rles[k] for k in np.flatnonzero(label_classes == label).tolist())]
        if known:
            merged: Any = coco_mask.merge(rles_for_coco(known))
            union = Rle(size=list(merged["size"]), counts=merged["counts"].decode("ascii"))
            here = np.flatnonzero(classes == label).tolist()
            share[here] = mask_iou([detected[d] for d in here], [union], of_first=True)[:, 0]
    return share


def _matches(iou: NDArray[np.float64], same_class: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Best score first, each detection takes the free label it overlaps most; then again with less overlap."""
    matches = np.full(len(iou), -1, dtype=np.int64)
    if not iou.size:
        return matches
    allowed = np.where(same_class, iou, 0.0)
    for least in (SAME_OBJECT_IOU, _LOOSE_IOU):
        for d in np.flatnonzero(matches < 0):
            best = int(allowed[d].argmax())
            if allowed[d, best] >= least:
                matches[d] = best
                allowed[:, best] = 0.0
    return matches
