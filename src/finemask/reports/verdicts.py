"""Verdicts at a score threshold: objects found and missed, detections true and false, what the false ones overlap."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from finemask.evaluation.ground_truth import GroundTruth
from finemask.evaluation.numbers.match_table import Matches
from finemask.ops.colours import NO_VERDICT, VERDICTS, Colour
from finemask.pages.instance_pictures import box_xywh
from finemask.types import CocoResult

RIGHT_IOU = 0.5
_PAIRS_AT_ONCE = 2**24  # of detections and objects whose overlaps are computed together: 134 MB


class FalseDetection(NamedTuple):
    """A detection that found nothing.

    Args:
        result: its position in the results.
        annotation: position of the object that it overlaps most, of any category; None if it touches none.
        overlap: IoU with that object; 0 without one.
        is_confused: whether the place is right, and only the class is not.
    """

    result: int
    annotation: int | None
    overlap: float
    is_confused: bool = False


@dataclass(frozen=True)
class Verdicts:
    """Every object and every detection of an evaluation at one threshold. Crowd regions are left out.

    Args:
        found_by: position of an object in the annotations, to the position in the results of what found it.
        missed: positions of the objects that nothing found, in the order of the annotations.
        false: best score first.
    """

    found_by: dict[int, int]
    missed: list[int]
    false: list[FalseDetection]

    def object_colour(self, position: int) -> Colour:
        """The colour of an annotation, by its position: of one that was found, or missed."""
        return VERDICTS["found" if position in self.found_by else "missed"]

    def detection_colour(self, result: int) -> Colour:
        """The colour of a detection, by its position: right, false, of the wrong class; or on a crowd region."""
        return self._of_detections.get(result, NO_VERDICT)

    @cached_property
    def _of_detections(self) -> dict[int, Colour]:
        wrong = {f.result: VERDICTS["wrong-class" if f.is_confused else "false"] for f in self.false}
        return wrong | dict.fromkeys(self.found_by.values(), VERDICTS["found"])


def judge(
    ground_truth: GroundTruth, results: Sequence[CocoResult], matches: Matches, iou_type: str, threshold: float
) -> Verdicts:
    """Reads off the matches what was found, and looks up what the false detections lie on.

    Args:
        ground_truth: of the evaluation.
        results: of the evaluation.
        matches: of the evaluation.
        iou_type: ``"bbox"`` or ``"segm"``, by which things overlap.
        threshold: detections that score less are left out.
    """
    annotations = ground_truth.annotations
    kept = matches.score >= threshold
    found = kept & matches.is_true
    found_by = dict(zip(matches.object[found].tolist(), matches.result[found].tolist(), strict=True))
    objects: dict[int, list[int]] = defaultdict(list)
    for position, annotation in enumerate(annotations):
        if not annotation["iscrowd"]:
            objects[annotation["image_id"]].append(position)
    missed = sorted(position for group in objects.values() for position in group if position not in found_by)
    rows = np.flatnonzero(kept & ~matches.is_true)
    by_image: dict[int, list[int]] = defaultdict(list)
    for row in rows[np.argsort(-matches.score[rows], kind="stable")].tolist():
        by_image[int(matches.image_id[row])].append(row)
    false: list[tuple[float, FalseDetection]] = []
    for image_id, of_image in by_image.items():
        present = objects[image_id]
        detections = [results[int(matches.result[row])] for row in of_image]
        overlaps = _overlaps(detections, [annotations[position] for position in present], iou_type)
        for row, detection, overlap in zip(of_image, detections, overlaps, strict=True):
            lies_on: tuple[Any, ...] = (None, 0.0)
            if len(present) and overlap.max() > 0:
                best = int(overlap.argmax())
                is_other = annotations[present[best]]["category_id"] != detection["category_id"]
                lies_on = present[best], float(overlap[best]), bool(is_other and overlap[best] >= RIGHT_IOU)
            false.append((float(matches.score[row]), FalseDetection(int(matches.result[row]), *lies_on)))
    false.sort(key=lambda entry: -entry[0])
    return Verdicts(found_by, missed, [detection for _, detection in false])


def _overlaps(detections: Sequence[Any], objects: Sequence[Any], iou_type: str) -> Iterator[NDArray[np.float64]]:
    """IoU of each detection with all objects, float64 [G]; never the whole table, which of a mosaic is gigabytes."""

    def shapes(entries: Sequence[Any]) -> list[Any]:
        if iou_type == "segm":
            return [entry["segmentation"] for entry in entries]
        return [np.array(box_xywh(entry), dtype=np.float64) for entry in entries]

    of_objects = shapes(objects)
    at_once = max(1, _PAIRS_AT_ONCE // max(1, len(objects)))
    for first in range(0, len(detections), at_once):
        some = shapes(detections[first : first + at_once])
        if objects:
            yield from np.asarray(coco_mask.iou(some, of_objects, [False] * len(objects)), dtype=np.float64)
        else:
            yield from np.zeros((len(some), 0))
