"""Why detections are wrong and what that costs: the error types of TIDE (Bolya et al. 2020, arXiv 2008.08115).

Every detection that is not right has exactly one type. Its own objects are those of its class, the others those of
other classes, and its IoU is the largest with any of them. The tests are made in this order, the paper leaving it open:

localisation    0.1 <= IoU < 0.5 with an own object
classification  IoU >= 0.5 with another object
duplicate       IoU >= 0.5 with an own object, which a better detection has found
background      IoU < 0.1 with everything
both            what is left: 0.1 <= IoU < 0.5 with another object only

An object is missed if nothing found it and no localisation or classification error aims at it. Each type is then put
right, alone, and the AP50 computed again; the difference is what the type costs.
"""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from finemask.evaluation.analysis.class_matching import FOREGROUND_IOU, Assignment, mean_average_precision
from finemask.evaluation.numbers.overlaps import Overlaps

DETECTION_ERRORS = ("classification", "localisation", "both", "duplicate", "background")
ERROR_TYPES = (*DETECTION_ERRORS, "missed")
_CLASSIFICATION, _LOCALISATION, _BOTH, _DUPLICATE, _BACKGROUND = range(5)
_NONE = -1


@dataclass(frozen=True)
class Errors:
    """What is wrong with each detection, and which objects are missed.

    Args:
        type: int64 [D], position in ``DETECTION_ERRORS``; -1 for one that is right or lies on a crowd region.
        aim: int64 [D], the object that a classification or localisation error was meant for; -1 for all else.
        is_missed: bool [G].
    """

    type: NDArray[np.int64]
    aim: NDArray[np.int64]
    is_missed: NDArray[np.bool_]

    def count(self, name: str) -> int:
        """How many there are of one of ``ERROR_TYPES``."""
        if name == "missed":
            return int(self.is_missed.sum())
        return int((self.type == DETECTION_ERRORS.index(name)).sum())


def find_errors(assignment: Assignment) -> Errors:
    """Gives each error its type."""
    objects, candidates = assignment.objects, assignment.candidates
    pairs = assignment.overlaps.where(~objects.ignored[assignment.overlaps.object])
    own = candidates.category[pairs.detection] == objects.category[pairs.object]
    own_iou, own_object = _largest(pairs.where(own), len(candidates.score))
    other_iou, other_object = _largest(pairs.where(~own), len(candidates.score))
    is_near = own_iou > 0  # pairs of less than 0.1 are not among the overlaps
    is_wrong = assignment.matched < 0
    types = np.select(
        [
            ~is_wrong,
            is_near & (own_iou < FOREGROUND_IOU),
            other_iou >= FOREGROUND_IOU,
            own_iou >= FOREGROUND_IOU,
            other_iou == 0,
        ],
        [_NONE, _LOCALISATION, _CLASSIFICATION, _DUPLICATE, _BACKGROUND],
        _BOTH,
    ).astype(np.int64)
    aim = np.where(types == _LOCALISATION, own_object, np.where(types == _CLASSIFICATION, other_object, -1))
    is_missed = ~objects.ignored & (assignment.found_by < 0)
    is_missed[aim[aim >= 0]] = False
    return Errors(types, aim, is_missed)


def ap50(assignment: Assignment) -> float | None:
    """AP at IoU 0.5, the AP50 of COCO; None without objects."""
    candidates, counts = assignment.candidates, ~assignment.on_ignored
    return mean_average_precision(
        candidates.category[counts], candidates.score[counts], assignment.is_true[counts], assignment.positives()
    )


def repaired_ap50(
    assignment: Assignment,
    errors: Errors,
    types: Collection[str],
    objects: NDArray[np.bool_] | None = None,
) -> float | None:
    """AP50 with errors of some types put right, by the paper's oracles.

    A classification error gets the class of its object and a localisation error its place, which makes them right; of
    several detections of one object the best stays. Other wrong detections are taken away. Missed objects are left
    out of the count, as if they had been found as precisely as the others were.

    Args:
        assignment: all detections.
        errors: of it.
        types: any of ``ERROR_TYPES``.
        objects: bool [G], the missed objects that are put right; by default all.
    """
    candidates = assignment.candidates
    category, is_true = candidates.category.copy(), assignment.is_true
    kept = ~assignment.on_ignored
    for name in set(types) & {"both", "duplicate", "background"}:
        kept &= errors.type != DETECTION_ERRORS.index(name)
    claim = np.where(is_true, assignment.matched, -1)
    for name in set(types) & {"classification", "localisation"}:
        rows = np.flatnonzero(errors.type == DETECTION_ERRORS.index(name))
        claim[rows], is_true[rows] = errors.aim[rows], True
        category[rows] = assignment.objects.category[errors.aim[rows]]
    kept[_outdone(claim, candidates.score)] = False
    positives = assignment.positives()
    counted = positives > 0
    if "missed" in types:
        left_out = errors.is_missed if objects is None else errors.is_missed & objects
        positives = positives - np.bincount(assignment.objects.category[left_out], minlength=assignment.categories)
    return mean_average_precision(category[kept], candidates.score[kept], is_true[kept], positives, counted)


def error_table(assignment: Assignment, errors: Errors) -> dict[str, Any]:
    """What ``metrics.json`` holds of one iou type: AP50, and of each type the count and the gain in AP50."""
    base = ap50(assignment)

    def gain(fixed: float | None) -> float | None:
        return None if fixed is None or base is None else fixed - base

    types = {
        name: {"count": errors.count(name), "gain": gain(repaired_ap50(assignment, errors, [name]))}
        for name in ERROR_TYPES
    }
    candidates, right = assignment.candidates, assignment.is_true
    positives, found = assignment.positives(), np.bincount(candidates.category[right], minlength=assignment.categories)
    counted, rows = positives > 0, ~assignment.on_ignored
    only_right = mean_average_precision(
        candidates.category[right], candidates.score[right], right[right], positives, counted
    )
    only_found = mean_average_precision(
        candidates.category[rows], candidates.score[rows], right[rows], np.minimum(found, positives), counted
    )
    return {"AP50": base, "types": types, "false_positive": gain(only_right), "false_negative": gain(only_found)}


def _largest(pairs: Overlaps, number: int) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """The largest IoU of each detection, float64 [D], 0 for none, and whose it is, int64 [D], -1 for none."""
    iou, partner = np.zeros(number), np.full(number, -1, dtype=np.int64)
    order = np.argsort(pairs.iou, kind="stable")  # of several assignments to one place, the last stays
    iou[pairs.detection[order]], partner[pairs.detection[order]] = pairs.iou[order], pairs.object[order]
    return iou, partner


def _outdone(claim: NDArray[np.int64], score: NDArray[np.float64]) -> NDArray[np.int64]:
    """Rows that lay claim to an object which a better one claims too."""
    rows = np.flatnonzero(claim >= 0)
    order = rows[np.lexsort((-score[rows], claim[rows]))]
    return np.asarray(order[1:][claim[order[1:]] == claim[order[:-1]]])
