"""The confusion matrix at the operating point, with what is missed and what is made up."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from finemask.evaluation.numbers.greedy_matching import match_greedily
from finemask.evaluation.numbers.match_table import MatchTable
from finemask.evaluation.numbers.overlaps import Overlaps

BACKGROUND = "background"


def confusion_matrix(table: MatchTable, cross_class: Overlaps, threshold: float | None) -> NDArray[np.int64]:
    """Objects by their class and by the class they were taken for.

    Detections that found an object of their class are on the diagonal, so that it adds up to the true positives of
    the operating point. Those left over, best first, then take the object of another class that they overlap most,
    at the same IoU or more, as long as nothing has found it. A detection on a crowd region is not counted.

    Args:
        table: at the IoU of the operating point.
        cross_class: overlaps of its detections with objects of other classes, of that IoU or more.
        threshold: score from which detections are kept; None keeps none.

    Returns:
        int64 [K + 1, K + 1], row: class of the object, column: class of the detection, both by ascending category id.
        The last row holds detections without an object, the last column objects without a detection.
    """
    objects, detections, is_true = table.objects, table.detections, table.is_true()
    kept = table.counts() & (threshold is not None) & (detections.score >= (threshold or 0))
    matched = np.where(kept & is_true, table.matched(), -1)
    is_free = ~objects.ignored
    is_free[matched[matched >= 0]] = False
    is_left = kept & ~is_true
    pairs = cross_class.where(is_left[cross_class.detection] & is_free[cross_class.object])
    order = detections.best_first_by_image()  # in an image all classes compete
    number = np.argsort(order)
    rows, taken_for = match_greedily(
        pairs.renumbered(number), detections.image[order], is_free[None], objects.crowd, table.ious
    )
    matched[order[rows]] = taken_for[0, 0]

    nothing = len(table.category_ids)
    truth = np.append(objects.category, nothing)[matched]  # -1 is the last
    is_found = np.zeros(len(objects.category), dtype=np.bool_)
    is_found[matched[matched >= 0]] = True
    missed = objects.category[~is_found & ~objects.ignored]
    size = nothing + 1
    cells = np.append(truth[kept] * size + detections.category[kept], missed * size + nothing)
    return np.bincount(cells, minlength=size * size).reshape(size, size)


def confusion_table(
    table: MatchTable, cross_class: Overlaps, threshold: float | None, names: list[str], order: list[int]
) -> dict[str, Any]:
    """What ``metrics.json`` holds of it.

    Args:
        table: at the IoU of the operating point.
        cross_class: as of ``confusion_matrix``.
        threshold: score from which detections are kept.
        names: of the categories, as they are to be listed.
        order: position of each of them by ascending id.
    """
    shown = [*order, len(table.category_ids)]
    counts = confusion_matrix(table, cross_class, threshold)[np.ix_(shown, shown)]
    return {
        "iou": float(table.ious[0]),
        "threshold": threshold,
        "names": [*names, BACKGROUND],
        "counts": counts.tolist(),
    }
