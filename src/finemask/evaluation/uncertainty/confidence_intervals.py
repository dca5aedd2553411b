"""Confidence intervals of an evaluation's numbers and thresholds, from resamples of the images."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from finemask.evaluation.analysis.operating_points import (
    TARGET,
    Point,
    build_curve,
    calibration,
    operating_points,
)
from finemask.evaluation.evaluator import CocoEvaluator, Evaluation
from finemask.evaluation.numbers.match_table import MatchTable
from finemask.evaluation.uncertainty.resampling import LEVEL, ap_interval, draw_weights, interval
from finemask.evaluation.uncertainty.weighted_ap import AREA_OF, seconds_a_weighting, weighted_ap

_BLOCK = 50_000  # numbers of an array worked on at a time: what fits into a core's cache


class ScoredMatches:
    """Detections at one IoU with their images: of all categories together, or of one. D detections, I images.

    Args:
        score: float64 [D].
        is_true: bool [D].
        image: int64 [D], position among the images.
        objects: int64 [I], objects to find.
    """

    def __init__(
        self,
        score: NDArray[np.float64],
        is_true: NDArray[np.bool_],
        image: NDArray[np.int64],
        objects: NDArray[np.int64],
    ) -> None:
        order = np.argsort(-score, kind="stable")
        self.score, self.is_true, self.image = score[order], is_true[order], image[order]
        self.objects = objects

    @property
    def images(self) -> int:
        """Images with an object or a detection; the others say nothing about a threshold."""
        return int(np.count_nonzero((self.objects > 0) | (np.bincount(self.image, minlength=len(self.objects)) > 0)))

    def points(self) -> dict[str, Point]:
        """The points chosen on the images as they are."""
        return operating_points(build_curve(self.score, self.is_true, int(self.objects.sum())))

    def resampled_thresholds(self, weights: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
        """The threshold of each point in every resample, float64 [B]; NaN where none reaches the target.

        Args:
            weights: float64 [I, B].
        """
        ends = np.flatnonzero(np.append(np.diff(self.score) != 0, True)) if len(self.score) else np.zeros(0, np.int64)
        level = np.searchsorted(ends, np.arange(len(self.score)))
        # At a score at which nothing is right no threshold is chosen, so these join the next score at which one is.
        right = np.unique(level[self.is_true])
        scores = self.score[ends[right]]
        row = np.searchsorted(right, level)
        chosen = {name: np.full(weights.shape[1], np.nan) for name in self.points()}
        if not len(scores):
            return chosen
        counts = [
            csr_matrix((np.ones(len(which)), (row[which], self.image[which])), shape=(len(scores), len(weights)))
            for which in (np.flatnonzero(self.is_true), np.flatnonzero(~self.is_true & (row < len(scores))))
        ]
        step = max(_BLOCK // len(scores), 8)
        for start in range(0, weights.shape[1], step):
            columns = slice(start, start + step)
            block = np.ascontiguousarray(weights[:, columns])
            true, false = (np.cumsum(np.asarray(count @ block), axis=0) for count in counts)
            positives = self.objects @ block
            reported = np.maximum(true + false, 1)
            f1 = np.where(true > 0, 2 * true / np.maximum(true + false + positives, 1), 0)
            precise = np.where((true / reported >= TARGET) & (true > 0), true, 0)
            full = (true > 0) & (true / np.maximum(positives, 1) >= TARGET)
            for name, value in (("best_f1", f1), ("precision_90", precise), ("recall_90", full)):
                best = np.argmax(value, axis=0)  # the first: the highest threshold
                exists = value[best, np.arange(value.shape[1])] > 0
                chosen[name][columns] = np.where(exists, scores[best], np.nan)
        return chosen

    def resampled_rates(self, threshold: float, weights: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
        """Precision, recall and F1 at a given threshold in every resample, float64 [B]; NaN where undefined."""
        kept = self.score >= threshold
        images = len(self.objects)
        true = np.bincount(self.image[kept & self.is_true], minlength=images) @ weights
        false = np.bincount(self.image[kept & ~self.is_true], minlength=images) @ weights
        positives = self.objects @ weights
        with np.errstate(divide="ignore", invalid="ignore"):
            return {
                "precision": true / (true + false),
                "recall": true / positives,
                "f1": 2 * true / (true + false + positives),
            }

    def described(self, weights: NDArray[np.float64]) -> dict[str, dict[str, Any]]:
        """What ``metrics.json`` says of each point.

        The interval of a threshold is that of the choice; those of precision, recall and F1 are of the chosen
        threshold as it stands, which is the one that predictions are made with.
        """
        thresholds, images = self.resampled_thresholds(weights), self.images
        described = {}
        for name, point in self.points().items():
            row: dict[str, Any] = {"threshold": point.threshold, "interval": None}
            rates = dict.fromkeys(("precision", "recall", "f1"))
            if point.threshold is None:
                described[name] = row | rates | {f"{rate}_interval": None for rate in rates}
                continue
            row["interval"] = interval(thresholds[name], images)
            row |= {rate: getattr(point, rate) for rate in rates}
            resampled = self.resampled_rates(point.threshold, weights)
            described[name] = row | {f"{rate}_interval": interval(resampled[rate], images) for rate in rates}
        return described


def seconds_of_thresholds(table: MatchTable) -> float:
    """Seconds that the thresholds of one resample take on an ordinary core, about: all together, and every class."""
    return 250e-9 * int(table.found()[0].sum())


def scored_matches(table: MatchTable, category: int | None = None) -> ScoredMatches:
    """The detections that count at a table's first IoU, over all sizes.

    Args:
        table: any.
        category: position among its categories; None for all together.
    """
    kept, wanted = table.counts(), table.wanted[0]
    if category is not None:
        kept = kept & (table.detections.category == category)
        wanted = wanted & (table.objects.category == category)
    objects = np.bincount(table.objects.image[wanted], minlength=len(table.image_ids))
    return ScoredMatches(table.detections.score[kept], table.is_true()[kept], table.detections.image[kept], objects)


def uncertainty(evaluator: CocoEvaluator, evaluation: Evaluation) -> dict[str, Any]:
    """The keys ``confidence_interval``, ``thresholds`` and ``calibration`` of ``metrics.json``.

    Args:
        evaluator: with all detections added.
        evaluation: of that evaluator.
    """
    truth, tables = evaluator.ground_truth, evaluation.tables
    seconds_each = sum(seconds_a_weighting(table) + seconds_of_thresholds(table) for table in tables.values())
    weights = draw_weights(len(truth.images), seconds_each)
    intervals: dict[str, Any] = {"level": LEVEL, "resamples": weights.shape[1]}
    names = {category.id: category.name for category in truth.categories}
    per_class: dict[str, dict[str, Any]] = {name: {} for name in names.values()}
    for kind, table in tables.items():
        resampled = weighted_ap(table, weights)
        intervals[kind] = {
            key: ap_interval(evaluation.metrics[kind][key], values, informative_images(table, area=AREA_OF[key]))
            for key, values in resampled.numbers.items()
        }
        for position, category_id in enumerate(table.category_ids):
            images = informative_images(table, position)
            key, row = f"{kind}_AP", evaluation.metrics["per_class"][names[category_id]]
            per_class[names[category_id]][key] = ap_interval(row[key], resampled.per_class[position], images)
    point = evaluation.metrics["operating_point"]
    at_point = evaluation.operating_table
    overall = scored_matches(at_point)
    intervals["operating_point"] = None
    if point["threshold"] is not None:
        rates = overall.resampled_rates(point["threshold"], weights)
        intervals["operating_point"] = {name: interval(values, overall.images) for name, values in rates.items()}
    intervals["per_class"] = per_class
    thresholds: dict[str, Any] = overall.described(weights)
    thresholds["per_class"] = {
        names[category_id]: scored_matches(at_point, position).described(weights)
        for position, category_id in enumerate(at_point.category_ids)
    }
    curve = {"iou": point["iou"], "iou_type": point["iou_type"]} | calibration(overall.score, overall.is_true)
    return {"confidence_interval": intervals, "thresholds": thresholds, "calibration": curve}


def informative_images(table: MatchTable, category: int | None = None, area: int = 0) -> int:
    """Images with an object to find, of one category or of any, of one size (``match_table.AREAS``) or of all."""
    wanted: NDArray[np.bool_] = table.wanted[area]
    if category is not None:
        wanted = wanted & (table.objects.category == category)
    return len(np.unique(table.objects.image[wanted]))
