"""Weighted AP, a weight for each image, of many weightings at once: what a bootstrap over images repeats.

An image of weight 2 counts as if it were there twice (its equal scores stay together, where COCO would go through the
one copy after the other). Precision only matters where a detection is right, so the rows of every array here are the
right detections; the false ones between two of them are summed by a sparse product.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from finemask.evaluation.numbers.coco_numbers import RECALLS, TINY
from finemask.evaluation.numbers.match_table import AREAS, MatchTable

AREA_OF = {"AP": 0, "AP50": 0, "AP75": 0, "APs": 1, "APm": 2, "APl": 3}
"""The numbers, each with the position of its size among ``match_table.AREAS``."""
_BOUNDS = np.append(RECALLS, np.inf)
_BLOCK = 50_000  # numbers of an array worked on at a time: what fits into a core's cache


@dataclass(frozen=True)
class WeightedAp:
    """AP of B weightings; NaN where a weighting leaves nothing to find.

    Args:
        numbers: float64 [B] by key: AP, AP50, AP75, APs, APm, APl.
        per_class: float64 [K, B], AP over all sizes.
    """

    numbers: dict[str, NDArray[np.float64]]
    per_class: NDArray[np.float64]


def weighted_ap(table: MatchTable, weights: NDArray[np.float64]) -> WeightedAp:
    """COCO's AP of each weighting; with all weights 1, that of the evaluation.

    Args:
        table: at the ten IoUs of COCO.
        weights: float64 [I, B], of every image in every weighting; at least 0.
    """
    by_size, at_50, at_75 = {}, np.zeros(0), np.zeros(0)
    per_class = np.zeros(0)
    for area in range(len(table.wanted)):
        precision = class_ap(table, weights, area)  # [T, K, B]
        mean = precision.mean(axis=0)
        if area == 0:
            per_class, at_50, at_75 = mean, _mean(precision[0]), _mean(precision[5])
        else:
            by_size[f"AP{AREAS[area][0]}"] = _mean(mean)
    return WeightedAp({"AP": _mean(per_class), "AP50": at_50, "AP75": at_75} | by_size, per_class)


def seconds_a_weighting(table: MatchTable) -> float:
    """Seconds that one weighting takes on an ordinary core, about."""
    areas = range(len(table.wanted))
    true = sum(int(table.found(area).sum()) for area in areas)
    false = sum(int(_always_false(table, area).sum()) for area in areas)
    classes = len(np.unique(table.detections.category))
    return 70e-9 * true + 2e-9 * false + 20e-6 * classes


def class_ap(table: MatchTable, weights: NDArray[np.float64], area: int = 0) -> NDArray[np.float64]:
    """AP of every class at every IoU of a table; NaN without objects of that size.

    Args:
        table: at T IoUs.
        weights: float64 [I, B], of every image in every weighting; at least 0.
        area: position among ``match_table.AREAS``.

    Returns:
        Float64 [T, K, B].
    """
    found, counted = table.found(area), table.counted(area)
    positives = _positives(table, weights, area)
    result = np.repeat(np.where(positives > 0, 0.0, np.nan)[None], len(found), axis=0)
    # Most detections are false at every IoU: their weights between two right rows are summed once, for all IoUs.
    always_false = _always_false(table, area)
    right_at_any = table.rows[found.any(axis=0)]
    always_between = _counts_between(table, right_at_any, np.flatnonzero(always_false))
    right = [table.rows[at_iou] for at_iou in found]
    only_here = [table.rows[at_iou] for at_iou in counted & ~found & ~always_false[table.rows]]
    only_here_between = [_counts_between(table, *rows) for rows in zip(right, only_here, strict=True)]
    for category in np.unique(table.detections.category[right_at_any]).tolist():
        of_class = np.searchsorted(table.detections.category, [category, category + 1])
        start, end = np.searchsorted(right_at_any, of_class)
        # of each IoU: its right rows by their images, their places among those of any IoU, the false ones between them
        by_iou = []
        for rows, between in zip(right, only_here_between, strict=True):
            first, last = np.searchsorted(rows, of_class)
            mine = rows[first:last]
            places = np.searchsorted(right_at_any[start:end], mine)
            by_iou.append((table.detections.image[mine], places, between[first:last]))
        step = max(_BLOCK // int(end - start), 8)
        for column in range(0, weights.shape[1], step):
            columns = slice(column, column + step)
            block = np.ascontiguousarray(weights[:, columns])
            always = np.cumsum(always_between[start:end] @ block, axis=0)
            for iou, (images, places, between) in enumerate(by_iou):
                if len(images):
                    false = always[places] + np.cumsum(between @ block, axis=0) if between.nnz else always[places]
                    true = np.cumsum(block[images], axis=0)
                    result[iou, category, columns] = _ap(true, false, positives[category, columns])
    return result


def _positives(table: MatchTable, weights: NDArray[np.float64], area: int) -> NDArray[np.float64]:
    """Objects to find, float64 [K, B]."""
    wanted = table.wanted[area]
    category, image = table.objects.category[wanted], table.objects.image[wanted]
    shape = (len(table.category_ids), len(table.image_ids))
    counts = csr_matrix((np.ones(len(image)), (category, image)), shape=shape)
    return np.asarray(counts @ weights)


def _always_false(table: MatchTable, area: int) -> NDArray[np.bool_]:
    """What is false at every IoU, bool [D]."""
    false: NDArray[np.bool_] = table.within[area].copy()
    false[table.rows] = table.counted(area).all(axis=0) & ~table.found(area).any(axis=0)
    return false


def _counts_between(table: MatchTable, rows: NDArray[np.int64], detections: NDArray[np.int64]) -> Any:
    """How many of some detections stand right before each row, by image: a sparse matrix [rows, I].

    What comes after the last row of its class is left out: it lowers no precision that is looked at.

    Args:
        table: for images and classes.
        rows: int64, positions among the detections, ascending.
        detections: int64, as well.
    """
    row = np.searchsorted(rows, detections)
    leads = row < len(rows)
    leads[leads] = table.detections.category[rows[row[leads]]] == table.detections.category[detections[leads]]
    ends = np.append(0, np.cumsum(np.bincount(row[leads], minlength=len(rows))))
    images = table.detections.image[detections[leads]]
    return csr_matrix((np.ones(len(images)), images, ends), shape=(len(rows), len(table.image_ids)))


def _ap(true: NDArray[np.float64], false: NDArray[np.float64], positives: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean over 101 recalls of the best precision at that recall or beyond, float64 [B].

    Args:
        true: float64 [N, B], right detections up to and with each of the N right ones.
        false: float64 [N, B], false ones before it.
        positives: float64 [B].
    """
    precision = true / (true + false + TINY)
    precision = np.maximum.accumulate(precision[::-1], axis=0)[::-1]
    with np.errstate(divide="ignore", invalid="ignore"):
        recall = true / positives
    recall[:, positives == 0] = 0
    level = (recall * 100).astype(np.int64)  # of the highest recall reached, but for rounding
    level += _BOUNDS[level + 1] <= recall
    level -= _BOUNDS[level] > recall
    level += 1  # how many recalls are reached: 0 always is
    level[1:] -= level[:-1].copy()
    ap = np.einsum("nb,nb->b", precision, level.astype(np.float64)) / len(RECALLS)
    return np.where(positives > 0, ap, np.nan)


def _mean(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Over the classes that have objects, float64 [B]."""
    valid = ~np.isnan(values)
    count = valid.sum(axis=0)
    return np.where(count > 0, np.where(valid, values, 0).sum(axis=0) / np.maximum(count, 1), np.nan)
