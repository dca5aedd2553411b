"""Every detection beside every object of its image, whatever their classes: which overlap, and how much.

The COCO numbers need detections and objects of one class only; to say why a detection is wrong takes the others too.
Overlaps are computed image by image, and only those that mean something are kept, so memory does not grow with the
number of pairs. Images and categories are numbered as in ``ResultTable``; G objects, D detections, P pairs.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from finemask.evaluation.ground_truth import GroundTruth
from finemask.evaluation.objects import Objects
from finemask.evaluation.ranking import Candidates
from finemask.evaluation.result_table import ResultTable

LEAST_IOU = 0.1  # what overlaps less is background to each other
_PAIRS_AT_ONCE = 2**20  # bounds the memory of one image


@dataclass(frozen=True)
class Overlaps:
    """Pairs of a detection and an object with an IoU of at least 0.1, in the order of the detections.

    A crowd region is paired with detections of its own category only, and its "IoU" is COCO's: the part of the
    detection that lies in it.

    Args:
        detection: int64 [P], row of ``Candidates``.
        object: int64 [P], row of ``Objects``.
        iou: float64 [P].
    """

    detection: NDArray[np.int64]
    object: NDArray[np.int64]
    iou: NDArray[np.float64]

    def where(self, chosen: NDArray[np.bool_]) -> "Overlaps":
        """Some of the pairs.

        Args:
            chosen: bool [P].
        """
        return Overlaps(self.detection[chosen], self.object[chosen], self.iou[chosen])


def find_overlaps(
    ground_truth: GroundTruth, results: ResultTable, objects: Objects, candidates: Candidates, iou_type: str
) -> Overlaps:
    """IoU as pycocotools has it.

    Args:
        ground_truth: with masks for ``"segm"``.
        results: the masks of the candidates.
        objects: of the ground truth.
        candidates: of the results.
        iou_type: ``"bbox"`` or ``"segm"``.
    """
    by_image = np.argsort(objects.image, kind="stable")
    images = len(ground_truth.images)
    first_object = np.searchsorted(objects.image[by_image], np.arange(images + 1)).tolist()
    first_row = np.searchsorted(candidates.image, np.arange(images + 1)).tolist()
    parts = []
    for image in range(images):
        mine = by_image[first_object[image] : first_object[image + 1]]
        if not len(mine):
            continue
        truth: Any = objects.boxes[mine]
        if iou_type == "segm":
            truth = [objects.masks[position] for position in mine.tolist()]
        crowd = objects.crowd[mine].tolist()
        step = max(1, _PAIRS_AT_ONCE // len(mine))
        for start in range(first_row[image], first_row[image + 1], step):
            rows = slice(start, min(start + step, first_row[image + 1]))
            found: Any = candidates.boxes[rows]
            if iou_type == "segm":
                found = [results.mask(position) for position in candidates.result[rows].tolist()]
            ious = np.asarray(coco_mask.iou(found, truth, crowd), dtype=np.float64)
            detection, number = np.nonzero(ious >= LEAST_IOU)
            parts.append((detection + start, mine[number], ious[detection, number]))
    detection, number, iou = (np.concatenate(column) for column in zip(*parts, strict=True)) if parts else _NOTHING
    overlaps = Overlaps(detection, number, iou)
    same = candidates.category[detection] == objects.category[number]
    return overlaps.where(same | ~objects.ignored[number])


_NOTHING = (np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.float64))
