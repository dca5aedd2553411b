"""The confusion matrix at the operating point, with what is missed and what is made up."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from finemask.evaluation.analysis.class_matching import FOREGROUND_IOU, Assignment, match_greedily

BACKGROUND = "background"


def confusion_matrix(assignment: Assignment, threshold: float | None, iou: float = FOREGROUND_IOU) -> NDArray[np.int64]:
    """Objects by their class and by the class they were taken for.

    Detections that found an object of their class are on the diagonal, so that it adds up to the true positives of
    the operating point. Those left over, best first, then take the object of another class that they overlap most,
    at the same IoU or more, as long as nothing has found it. A detection on a crowd region is not counted.

    Args:
        assignment: all detections, matched at ``iou``.
        threshold: score from which detections are kept; None keeps none.
        iou: of the operating point.

    Returns:
        int64 [K + 1, K + 1], row: class of the object, column: class of the detection, both by ascending category id.
        The last row holds detections without an object, the last column objects without a detection.
    """
    objects, candidates = assignment.objects, assignment.candidates
    kept = np.zeros(len(candidates.score), dtype=np.bool_) if threshold is None else candidates.score >= threshold
    matched = np.where(kept & assignment.is_true, assignment.matched, -1)
    is_taken = objects.ignored.copy()
    is_taken[matched[matched >= 0]] = True
    is_left = kept & (assignment.matched < 0)
    pairs = assignment.overlaps
    other = candidates.category[pairs.detection] != objects.category[pairs.object]
    may_match = other & (pairs.iou >= iou) & is_left[pairs.detection] & ~is_taken[pairs.object]
    taken_for = match_greedily(pairs.where(may_match), candidates.image, objects.ignored, objects.crowd)
    matched = np.where(taken_for >= 0, taken_for, matched)

    nothing = assignment.categories
    counted = kept & ~assignment.on_ignored
    truth = np.append(objects.category, nothing)[matched]  # -1 is the last
    is_found = np.zeros(len(objects.category), dtype=np.bool_)
    is_found[matched[matched >= 0]] = True
    missed = objects.category[~is_found & ~objects.ignored]
    size = nothing + 1
    cells = np.append(truth[counted] * size + candidates.category[counted], missed * size + nothing)
    return np.bincount(cells, minlength=size * size).reshape(size, size)


def confusion_table(
    assignment: Assignment, threshold: float | None, iou: float, names: list[str], order: list[int]
) -> dict[str, Any]:
    """What ``metrics.json`` holds of it.

    Args:
        assignment: all detections, matched at ``iou``.
        threshold: score from which detections are kept.
        iou: of the operating point.
        names: of the categories, as they are to be listed.
        order: position of each of them by ascending id.
    """
    shown = [*order, assignment.categories]
    counts = confusion_matrix(assignment, threshold, iou)[np.ix_(shown, shown)]
    return {
        "iou": iou,
        "threshold": threshold,
        "names": [*names, BACKGROUND],
        "counts": counts.tolist(),
    }
