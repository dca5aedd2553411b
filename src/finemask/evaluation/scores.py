"""What an evaluation backend hands over, and the 12 numbers made from it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from finemask.evaluation.ground_truth import GroundTruth
from finemask.evaluation.result_table import ResultTable

COCO_KEYS = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl")
AREAS = ("all", "small", "medium", "large")
RECALLS = np.linspace(0, 1, 101)  # to the bit those of pycocotools
TINY = float(np.spacing(1))  # COCOeval's guard against dividing by nothing
_IOU_50, _IOU_75 = 0, 5  # positions in .50:.05:.95


@dataclass(frozen=True)
class Matches:
    """Every detection that counts at IoU 0.5, over objects of all sizes; one on a crowd region does not.

    D detections, grouped by category, then image, best score first; K categories in the order of
    ``CocoScores.category_ids``.

    Args:
        result: int64 [D], position in the results.
        image_id: int64 [D].
        category: int64 [D], 0..K-1.
        score: float64 [D].
        is_true: bool [D], whether it found an object that nothing better scored had found.
        positives: int64 [K], objects to find.
    """

    result: NDArray[np.int64]
    image_id: NDArray[np.int64]
    category: NDArray[np.int64]
    score: NDArray[np.float64]
    is_true: NDArray[np.bool_]
    positives: NDArray[np.int64]


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
    """

    category_ids: list[int]
    max_dets: list[int]
    precision: NDArray[np.float64]
    recall: NDArray[np.float64]
    matches: Matches | None


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


def no_numbers() -> dict[str, float | None]:
    """The 12 keys of an iou type that was not evaluated."""
    return dict.fromkeys(COCO_KEYS)


def _mean(values: NDArray[np.float64]) -> float | None:
    valid = values[values > -1]
    return float(np.mean(valid)) if len(valid) else None
