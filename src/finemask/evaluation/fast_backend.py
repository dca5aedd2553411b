"""The fast backend: COCO's tables of precision and recall from the match table, without a loop over images.

Precision at a recall is the best at that recall or beyond, and it only ever rises where a detection is right. So it is
computed at the right ones alone; the false ones between them are counted.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from finemask.evaluation.ground_truth import GroundTruth
from finemask.evaluation.match_table import MatchTable, match_tables
from finemask.evaluation.result_table import ResultTable
from finemask.evaluation.scores import RECALLS, TINY, CocoScores, detection_caps


def evaluate(
    ground_truth: GroundTruth, results: ResultTable, iou_types: Sequence[str], max_detections: int
) -> dict[str, CocoScores]:
    """Matches and counts.

    Args:
        ground_truth: with masks unless ``"bbox"`` is the only type.
        results: may be empty.
        iou_types: any of ``"bbox"``, ``"segm"`` and ``"boundary"``.
        max_detections: cap on the detections of one image and category.
    """
    caps = detection_caps(max_detections)
    tables = match_tables(ground_truth, results, iou_types, max_detections)
    return {
        iou_type: CocoScores(
            table.category_ids,
            caps,
            *precision_and_recall(table, caps),
            table.matches() if iou_type == iou_types[-1] else None,
        )
        for iou_type, table in tables.items()
    }


def precision_and_recall(table: MatchTable, caps: Sequence[int]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """COCO's tables, as ``CocoScores`` has them.

    Args:
        table: at T IoUs.
        caps: M caps, ascending, none above the table's own.

    Returns:
        Precision, float64 [T, R, K, A], and recall, float64 [T, K, A, M].
    """
    ious, areas, _ = table.found.shape
    categories = len(table.category_ids)
    precision = np.full((ious, len(RECALLS), categories, areas), -1.0)
    recall = np.full((ious, categories, areas, len(caps)), -1.0)
    edges = np.searchsorted(table.category, np.arange(categories + 1))
    near_edges = np.searchsorted(table.rows, edges)
    place = table.place[table.rows]
    for area in range(areas):
        found, positives = table.found[:, area], table.positives(area)
        wanted = np.flatnonzero(positives)
        for number, cap in enumerate(caps):
            best = np.flatnonzero(place < cap)
            true = _sums(found[:, best])[:, np.searchsorted(best, near_edges)]
            recall[:, wanted, area, number] = (true[:, wanted + 1] - true[:, wanted]) / positives[wanted]
        # Of the detections up to a row, all of that size count, but for what those do that overlap something.
        within = _sums(table.within[area])
        change = _sums(table.counted(area).astype(np.int8) - table.within[area, table.rows])
        true = _sums(found)
        right = np.flatnonzero(found.any(axis=0))  # at no other row can precision be the best from there on
        right_edges = np.searchsorted(right, near_edges)
        for category in wanted.tolist():
            mine, start = right[right_edges[category] : right_edges[category + 1]] + 1, near_edges[category]
            reported = within[table.rows[mine - 1] + 1] - within[edges[category]]
            reported = reported + change[:, mine] - change[:, start, None]
            precision[:, :, category, area] = _at_recalls(
                true[:, mine] - true[:, start, None], reported, int(positives[category])
            )
    return precision, recall


def _sums(values: NDArray[Any]) -> NDArray[np.int32]:
    """Of the first 0, 1, … N, along the last axis, int32 [..., N + 1]."""
    sums = np.zeros((*values.shape[:-1], values.shape[-1] + 1), dtype=np.int32)
    sums[..., 1:] = values
    np.cumsum(sums, axis=-1, out=sums)
    return sums


def _at_recalls(true: NDArray[np.int32], reported: NDArray[np.int32], positives: int) -> NDArray[np.float64]:
    """Best precision at each recall or beyond, 0 where it is not reached, float64 [T, R].

    Args:
        true: int32 [T, N], right ones so far, of one category, best first.
        reported: int32 [T, N], those that count so far.
        positives: objects to find.
    """
    ious, number = true.shape
    best = np.zeros((ious, number + 1))  # the last for recalls that are not reached
    np.divide(true, reported + TINY, out=best[:, :-1])
    best = np.maximum.accumulate(best[:, ::-1], axis=1)[:, ::-1]
    # One search for all IoUs: each has its own range of numbers.
    apart = np.arange(ious)[:, None] * (max(positives, number) + 2)
    at = np.searchsorted((true + apart).ravel(), (_needed(positives) + apart).ravel())
    return np.take_along_axis(best, at.reshape(ious, -1) - np.arange(ious)[:, None] * number, axis=1)


@lru_cache(maxsize=1024)
def _needed(positives: int) -> NDArray[np.int64]:
    """Right detections from which each recall is reached, in COCO's arithmetic, int64 [R]; at least 1."""
    return np.searchsorted(np.arange(1, positives + 1) / positives, RECALLS) + 1
