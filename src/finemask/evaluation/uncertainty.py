"""What an evaluation on disk says beyond its numbers: their intervals, thresholds to choose from, calibration."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from finemask.evaluation import threshold_intervals, weighted_ap
from finemask.evaluation.bootstrap import LEVEL, ap_interval, draw_weights, interval
from finemask.evaluation.calibration import calibration
from finemask.evaluation.coco import CocoEvaluator, Evaluation
from finemask.evaluation.match_table import IOUS, MatchTable, match_tables
from finemask.evaluation.threshold_intervals import scored_matches

_KINDS = ("bbox", "segm")


def uncertainty(evaluator: CocoEvaluator, evaluation: Evaluation) -> dict[str, Any]:
    """The keys ``confidence_interval``, ``thresholds`` and ``calibration`` of ``metrics.json``.

    Args:
        evaluator: with all detections added.
        evaluation: of that evaluator.
    """
    truth, results = evaluator.ground_truth, evaluator.result_table
    kinds = [kind for kind in _KINDS if kind in evaluator.iou_types]
    tables = match_tables(truth, results, kinds, evaluator.max_detections)
    seconds_each = sum(weighted_ap.cost(table) + threshold_intervals.cost(table) for table in tables.values())
    weights = draw_weights(len(truth.images), seconds_each)
    intervals: dict[str, Any] = {"level": LEVEL, "resamples": weights.shape[1]}
    names = {category.id: category.name for category in truth.categories}
    per_class: dict[str, dict[str, Any]] = {name: {} for name in names.values()}
    for kind, table in tables.items():
        resampled = weighted_ap.weighted_ap(table, weights)
        areas = {"APs": 1, "APm": 2, "APl": 3}
        intervals[kind] = {
            key: ap_interval(evaluation.metrics[kind][key], values, informative_images(table, area=areas.get(key, 0)))
            for key, values in resampled.numbers.items()
        }
        for position, category_id in enumerate(table.category_ids):
            images = informative_images(table, position)
            key, row = f"{kind}_AP", evaluation.metrics["per_class"][names[category_id]]
            per_class[names[category_id]][key] = ap_interval(row[key], resampled.per_class[position], images)
    point = evaluation.metrics["operating_point"]
    if point["iou_type"] not in tables:
        return {"confidence_interval": intervals | {"per_class": per_class}}
    table, iou = _at_operating_iou(evaluator, tables[point["iou_type"]], point["iou_type"])
    overall = scored_matches(table, iou)
    intervals["operating_point"] = None
    if point["threshold"] is not None:
        rates = overall.resampled_rates(point["threshold"], weights)
        intervals["operating_point"] = {name: interval(values, overall.images) for name, values in rates.items()}
    intervals["per_class"] = per_class
    thresholds: dict[str, Any] = overall.described(weights)
    thresholds["per_class"] = {
        names[category_id]: scored_matches(table, iou, position).described(weights)
        for position, category_id in enumerate(table.category_ids)
    }
    curve = {"iou": point["iou"], "iou_type": point["iou_type"]} | calibration(overall.score, overall.is_true)
    return {"confidence_interval": intervals, "thresholds": thresholds, "calibration": curve}


def _at_operating_iou(evaluator: CocoEvaluator, table: MatchTable, iou_type: str) -> tuple[MatchTable, int]:
    """A table with the operating point's IoU, and the position of that."""
    near = np.flatnonzero(np.isclose(IOUS, evaluator.operating_iou, rtol=0, atol=1e-12))
    if len(near):
        return table, int(near[0])
    truth, results, ious = evaluator.ground_truth, evaluator.result_table, [evaluator.operating_iou]
    return match_tables(truth, results, [iou_type], evaluator.max_detections, ious)[iou_type], 0


def informative_images(table: MatchTable, category: int | None = None, area: int = 0) -> int:
    """Images with an object to find, of one category or of any, of one size (``scores.AREAS``) or of all."""
    wanted: NDArray[np.bool_] = table.wanted[area]
    if category is not None:
        wanted = wanted & (table.object_category == category)
    return len(np.unique(table.object_image[wanted]))
