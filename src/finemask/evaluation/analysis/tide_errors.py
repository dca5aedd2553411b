"""TIDE's error types (Bolya et al. 2020, arXiv 2008.08115): why detections are wrong, and what that costs.

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

from finemask.evaluation.numbers.coco_numbers import mean_average_precision
from finemask.evaluation.numbers.match_table import MatchTable
from finemask.evaluation.numbers.overlaps import LEAST_IOU, Overlaps
from finemask.evaluation.numbers.ranking import falling_levels, order_by

FOREGROUND_IOU = 0.5
DETECTION_ERRORS = ("classification", "localisation", "both", "duplicate", "background")
ERROR_TYPES = (*DETECTION_ERRORS, "missed")
_CLASSIFICATION, _LOCALISATION, _BOTH, _DUPLICATE, _BACKGROUND = range(5)
_NONE = -1


@dataclass(frozen=True)
class Errors:
    """What is wrong with each detection, and which objects are missed.

    Args:
        table: at IoU 0.5.
        type: int64 [D], position in ``DETECTION_ERRORS``; -1 for one that is right or lies on a crowd region.
        aim: int64 [D], the object that a classification or localisation error was meant for; -1 for all else.
        is_missed: bool [G].
    """

    table: MatchTable
    type: NDArray[np.int64]
    aim: NDArray[np.int64]
    is_missed: NDArray[np.bool_]

    def count(self, name: str) -> int:
        """How many there are of one of ``ERROR_TYPES``."""
        if name == "missed":
            return int(self.is_missed.sum())
        return int((self.type == DETECTION_ERRORS.index(name)).sum())


def find_errors(table: MatchTable, cross_class: Overlaps) -> Errors:
    """Gives each error its type.

    Args:
        table: at IoU 0.5.
        cross_class: overlaps of its detections with objects of other classes, of 0.1 or more.
    """
    number, objects = len(table.detections.result), table.objects
    own = table.overlaps.at_least(LEAST_IOU)
    own_iou, own_object = own.where(~objects.ignored[own.object]).largest(number)
    other_iou, other_object = cross_class.at_least(LEAST_IOU).largest(number)
    types = np.select(
        [
            table.is_true() | ~table.counts(),
            (own_iou > 0) & (own_iou < FOREGROUND_IOU),
            other_iou >= FOREGROUND_IOU,
            own_iou >= FOREGROUND_IOU,
            other_iou == 0,
        ],
        [_NONE, _LOCALISATION, _CLASSIFICATION, _DUPLICATE, _BACKGROUND],
        _BOTH,
    ).astype(np.int64)
    aim = np.where(types == _LOCALISATION, own_object, np.where(types == _CLASSIFICATION, other_object, -1))
    is_missed = ~objects.ignored & (table.found_by() < 0)
    is_missed[aim[aim >= 0]] = False
    return Errors(table, types, aim, is_missed)


def ap50(table: MatchTable) -> float | None:
    """AP at IoU 0.5, the AP50 of COCO; None without objects."""
    counts = table.counts()
    return mean_average_precision(table.detections.category[counts], table.is_true()[counts], table.positives())


def repaired_ap50(errors: Errors, types: Collection[str], objects: NDArray[np.bool_] | None = None) -> float | None:
    """AP50 with errors of some types put right, by the paper's oracles.

    A classification error gets the class of its object and a localisation error its place, which makes them right; of
    several detections of one object the best stays. Other wrong detections are taken away. Missed objects are left
    out of the count, as if they had been found as precisely as the others were.

    Args:
        errors: of all detections.
        types: any of ``ERROR_TYPES``.
        objects: bool [G], the missed objects that are put right; by default all.
    """
    table, detections = errors.table, errors.table.detections
    category, is_true, kept = detections.category.copy(), table.is_true(), table.counts()
    for name in set(types) & {"both", "duplicate", "background"}:
        kept &= errors.type != DETECTION_ERRORS.index(name)
    claim = np.where(is_true, table.matched(), -1)
    for name in set(types) & {"classification", "localisation"}:
        rows = np.flatnonzero(errors.type == DETECTION_ERRORS.index(name))
        claim[rows], is_true[rows] = errors.aim[rows], True
        category[rows] = table.objects.category[errors.aim[rows]]
    claiming = np.flatnonzero(claim >= 0)
    claiming = claiming[np.lexsort((detections.result[claiming], -detections.score[claiming], claim[claiming]))]
    outdone = claiming[1:][claim[claiming[1:]] == claim[claiming[:-1]]]  # a better one claims the same object
    kept[outdone] = False
    order = np.flatnonzero(kept)
    if "classification" in types:  # else they are in order as they stand
        level = falling_levels(detections.score[order])
        order = order[order_by(category[order], level, detections.image[order], detections.result[order])]
    positives = table.positives()
    counted = positives > 0
    if "missed" in types:
        left_out = errors.is_missed if objects is None else errors.is_missed & objects
        positives = positives - np.bincount(table.objects.category[left_out], minlength=len(positives))
    return mean_average_precision(category[order], is_true[order], positives, counted)


def error_table(errors: Errors) -> dict[str, Any]:
    """What ``metrics.json`` holds of one iou type: AP50, and of each type the count and the gain in AP50."""
    table = errors.table
    base = ap50(table)

    def gain(fixed: float | None) -> float | None:
        return None if fixed is None or base is None else fixed - base

    types = {name: {"count": errors.count(name), "gain": gain(repaired_ap50(errors, [name]))} for name in ERROR_TYPES}
    category, positives, rows, right = table.detections.category, table.positives(), table.counts(), table.is_true()
    found = np.bincount(category[right], minlength=len(positives))
    only_right = mean_average_precision(category[right], right[right], positives)
    only_found = mean_average_precision(category[rows], right[rows], np.minimum(found, positives), positives > 0)
    return {"AP50": base, "types": types, "false_positive": gain(only_right), "false_negative": gain(only_found)}
