"""Which object each detection found, which objects none found, and what the false detections lie on."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
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
class Findings:
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


def find(
    ground_truth: GroundTruth, results: Sequence[CocoResult], matches: Matches, iou_type: str, threshold: float
) -> Findings:
    """Goes through the detections as COCO's rules do.

    Which detections are right is the evaluation's own word; here each of them is given the object that COCO's
    matching gives it: of its category's objects that nothing better scored had found, the one it overlaps most.

    Args:
        ground_truth: of the evaluation.
        results: of the evaluation.
        matches: of the evaluation.
        iou_type: ``"bbox"`` or ``"segm"``, by which things are found.
        threshold: detections that score less are left out.
    """
    annotations = ground_truth.annotations
    objects: dict[int, list[int]] = defaultdict(list)
    for position, annotation in enumerate(annotations):
        if not annotation["iscrowd"]:
            objects[annotation["image_id"]].append(position)
    detections: dict[int, list[int]] = defaultdict(list)  # rows of the matches: by category, best score first
    for row in np.flatnonzero(matches.score >= threshold).tolist():
        detections[int(matches.image_id[row])].append(row)
    found_by: dict[int, int] = {}
    false: list[tuple[float, FalseDetection]] = []
    for image_id, rows in detections.items():
        present = objects[image_id]
        of_rows = [results[int(matches.result[row])] for row in rows]
        overlaps = _overlaps(of_rows, [annotations[position] for position in present], iou_type)
        free = np.ones(len(present), dtype=np.bool_)
        categories = np.array([annotations[position]["category_id"] for position in present], dtype=object)
        for row, result, overlap in zip(rows, of_rows, overlaps, strict=True):
            number = int(matches.result[row])
            if not matches.is_true[row]:
                best = int(overlap.argmax()) if len(present) and overlap.max() > 0 else None
                lies_on: tuple[Any, ...] = (None, 0.0)
                if best is not None:
                    is_other = categories[best] != result["category_id"]
                    lies_on = present[best], float(overlap[best]), bool(is_other and overlap[best] >= RIGHT_IOU)
                false.append((float(matches.score[row]), FalseDetection(number, *lies_on)))
                continue
            candidates = np.where(free & (categories == result["category_id"]), overlap, -1.0)
            best = len(present) - 1 - int(candidates[::-1].argmax())  # the last of equals, as pycocotools has it
            free[best] = False
            found_by[present[best]] = number
    false.sort(key=lambda entry: -entry[0])
    missed = [position for group in objects.values() for position in group if position not in found_by]
    return Findings(found_by, sorted(missed), [detection for _, detection in false])


def _overlaps(
    detections: Sequence[CocoResult], objects: Sequence[Mapping[str, Any]], iou_type: str
) -> NDArray[np.float64]:
    """IoU float64 [D, G]."""
    if not detections or not objects:
        return np.zeros((len(detections), len(objects)))
    found: Any = [_shape(entry, iou_type) for entry in detections]
    labelled: Any = [_shape(entry, iou_type) for entry in objects]
    return np.asarray(coco_mask.iou(found, labelled, [False] * len(objects)), dtype=np.float64)


def _shape(entry: Mapping[str, Any], iou_type: str) -> Any:
    if iou_type == "segm":
        return entry["segmentation"]
    return np.array(box_xywh(entry), dtype=np.float64)
