"""COCO's tables of precision and recall, from the match table, and the 12 numbers made from them.

Precision at a recall is the best at that recall or beyond, and it only ever rises where a detection is right. So it is
computed at the right ones alone; the false ones between them are counted.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from finemask.evaluation.ground_truth import GroundTruth
from finemask.evaluation.numbers.match_table import Matches, MatchTable, match_tables
from finemask.evaluation.result_table import ResultTable

COCO_KEYS = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl")
RECALLS = np.linspace(0, 1, 101)  # to the bit those of pycocotools
TINY = float(np.spacing(1))  # COCOeval's guard against dividing by nothing
_IOU_50, _IOU_75 = 0, 5  # positions in .50:.05:.95


@dataclass(frozen=True)
class CocoScores:
    """COCO's accumulated tables; -1 where there is nothing to find.

    T = 10 IoU thresholds .50:.05:.95, R = 101 recall levels, K categories, A = 4 areas (``AREAS``), M caps on
    the detections of an image and category.

    Args:
        category_ids: K ids, ascending.
        max_dets: M caps, ascending; the last is the evaluation's own.
        precision: float64 [T, R, K, A], at the last cap.
        recall: float64 [T, K, A, M].
        matches: at IoU 0.5; None but for the last iou type that was asked for, the one that curves are drawn of.
        table: that they were read off; None where a backend has another one.
    """

    category_ids: list[int]
    max_dets: list[int]
    precision: NDArray[np.float64]
    recall: NDArray[np.float64]
    matches: Matches | None
    table: MatchTable | None = None


Backend = Callable[[GroundTruth, ResultTable, Sequence[str], int], dict[str, CocoScores]]
"""``backend(ground_truth, results, iou_types, max_detections)``: the scores of each type."""


def detection_caps(max_detections: int) -> list[int]:
    """The caps at which recall is reported, ascending: 1, 10, 100 as far as they are allowed, and the cap."""
    return sorted({min(cap, max_detections) for cap in (1, 10, 100)} | {max_detections})


def summarize(scores: CocoScores) -> dict[str, float | None]:
    """COCO's 12 numbers, to the bit those of ``COCOeval.summarize`` for the standard cap of 100.

    Precision, and recall by size, are at the evaluation's cap. AR1, AR10 and AR100 are at their own caps, or
    at the evaluation's where that is lower. A cap above 100 adds ``AR``, the recall at it.
    """
    cap = scores.max_dets[-1]

    def precision(area: int = 0, iou: slice = slice(None)) -> float | None:
        return _mean(scores.precision[iou, :, :, area])

    def recall(area: int = 0, at: int = cap) -> float | None:
        return _mean(scores.recall[:, :, area, scores.max_dets.index(min(at, cap))])

    values = [
        precision(),
        precision(iou=slice(_IOU_50, _IOU_50 + 1)),
        precision(iou=slice(_IOU_75, _IOU_75 + 1)),
        *(precision(area) for area in (1, 2, 3)),
        *(recall(at=at) for at in (1, 10, 100)),
        *(recall(area) for area in (1, 2, 3)),
    ]
    numbers = dict(zip(COCO_KEYS, values, strict=True))
    return numbers | {"AR": recall()} if cap > 100 else numbers


def class_precision(scores: CocoScores, category: int) -> float | None:
    """AP of one category over all sizes; None without an object of it.

    Args:
        scores: of one iou type.
        category: position in ``scores.category_ids``.
    """
    return _mean(scores.precision[:, :, category, 0])


def _mean(values: NDArray[np.float64]) -> float | None:
    valid = values[values > -1]
    return float(np.mean(valid)) if len(valid) else None


def fast_scores(
    ground_truth: GroundTruth, results: ResultTable, iou_types: Sequence[str], max_detections: int
) -> dict[str, CocoScores]:
    """The fast backend: matches and counts.

    Args:
        ground_truth: with masks unless ``"bbox"`` is the only type.
        results: may be empty.
        iou_types: any of ``"bbox"``, ``"segm"`` and ``"boundary"``.
        max_detections: cap on the detections of one image and category.
    """
    tables = match_tables(ground_truth, results, iou_types, max_detections)
    return {
        kind: scores_of(table, max_detections, with_matches=kind == iou_types[-1]) for kind, table in tables.items()
    }


def scores_of(table: MatchTable, max_detections: int, *, with_matches: bool = False) -> CocoScores:
    """COCO's tables of precision and recall.

    Args:
        table: at T IoUs.
        max_detections: its own cap.
        with_matches: at the first IoU.
    """
    ious, areas, _ = table.object.shape
    caps, categories = detection_caps(max_detections), len(table.category_ids)
    precision = np.full((ious, len(RECALLS), categories, areas), -1.0)
    recall = np.full((ious, categories, areas, len(caps)), -1.0)
    edges = np.searchsorted(table.detections.category, np.arange(categories + 1))
    row_edges = np.searchsorted(table.rows, edges)
    place = table.detections.place[table.rows]
    for area in range(areas):
        found, positives = table.found(area), table.positives(area)
        wanted = np.flatnonzero(positives)
        for number, cap in enumerate(caps):
            best = np.flatnonzero(place < cap)
            true = _sums(found[:, best])[:, np.searchsorted(best, row_edges)]
            recall[:, wanted, area, number] = (true[:, wanted + 1] - true[:, wanted]) / positives[wanted]
        # Of the detections up to a row, all of that size count, but for what those do that overlap something.
        within = _sums(table.within[area])
        change = _sums(table.counted(area).astype(np.int8) - table.within[area, table.rows])
        true = _sums(found)
        right = np.flatnonzero(found.any(axis=0))  # at no other row can precision be the best from there on
        right_edges = np.searchsorted(right, row_edges)
        for category in wanted.tolist():
            mine, start = right[right_edges[category] : right_edges[category + 1]] + 1, row_edges[category]
            reported = within[table.rows[mine - 1] + 1] - within[edges[category]]
            reported = reported + change[:, mine] - change[:, start, None]
            precision[:, :, category, area] = _precision_at_recalls(
                true[:, mine] - true[:, start, None], reported + TINY, int(positives[category])
            )
    matches = table.matches() if with_matches else None
    return CocoScores(table.category_ids, caps, precision, recall, matches, table)


def mean_average_precision(
    category: NDArray[np.int64],
    is_true: NDArray[np.bool_],
    positives: NDArray[np.int64],
    counted: NDArray[np.bool_] | None = None,
) -> float | None:
    """AP at one IoU of detections that count, averaged over the categories; None if none of them has objects.

    Args:
        category: int64 [D], ascending; in a category the best stand first.
        is_true: bool [D].
        positives: int64 [K], objects to find.
        counted: bool [K], the categories of the mean; by default those with objects.
    """
    counted = positives > 0 if counted is None else counted
    if not counted.any():
        return None
    bounds = np.searchsorted(category, np.arange(len(positives) + 1)).tolist()
    values = [
        average_precision(is_true[bounds[number] : bounds[number + 1]], int(positives[number]))
        for number in np.flatnonzero(counted).tolist()
    ]
    return float(np.mean(values))


def average_precision(is_true: NDArray[np.bool_], positives: int) -> float:
    """Precision at COCO's 101 recall levels, on average.

    Args:
        is_true: bool [D], detections of one category, best first.
        positives: objects to find. Without any, nothing is left to find: 1, or 0 if there are false detections.
    """
    if not positives:
        return float(not len(is_true))
    right = np.flatnonzero(is_true)
    true = np.arange(1, len(right) + 1, dtype=np.int32)
    return float(_precision_at_recalls(true[None], (right + 1)[None], positives).mean())


def _sums(values: NDArray[Any]) -> NDArray[np.int32]:
    """Of the first 0, 1, … N, along the last axis, int32 [..., N + 1]."""
    sums = np.zeros((*values.shape[:-1], values.shape[-1] + 1), dtype=np.int32)
    sums[..., 1:] = values
    np.cumsum(sums, axis=-1, out=sums)
    return sums


def _precision_at_recalls(true: NDArray[np.int32], reported: NDArray[Any], positives: int) -> NDArray[np.float64]:
    """Best precision at each recall or beyond, 0 where it is not reached, float64 [T, R].

    Args:
        true: int32 [T, N], right ones so far, of one category, best first.
        reported: [T, N], those that count so far.
        positives: objects to find.
    """
    ious, number = true.shape
    best = np.zeros((ious, number + 1))  # the last for recalls that are not reached
    np.divide(true, reported, out=best[:, :-1])
    best = np.maximum.accumulate(best[:, ::-1], axis=1)[:, ::-1]
    # One search for all IoUs: each has its own range of numbers.
    apart = np.arange(ious)[:, None] * (max(positives, number) + 2)
    at = np.searchsorted((true + apart).ravel(), (_needed(positives) + apart).ravel())
    return np.take_along_axis(best, at.reshape(ious, -1) - np.arange(ious)[:, None] * number, axis=1)


@lru_cache(maxsize=1024)
def _needed(positives: int) -> NDArray[np.int64]:
    """Right detections from which each recall is reached, in COCO's arithmetic, int64 [R]; at least 1."""
    return np.searchsorted(np.arange(1, positives + 1) / positives, RECALLS) + 1
