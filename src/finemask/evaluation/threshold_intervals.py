"""The thresholds to work at, and how sure they are: the same choice made again on every resample of the images."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from finemask.evaluation.bootstrap import interval
from finemask.evaluation.match_table import MatchTable
from finemask.evaluation.operating_point import TARGET, Point, build_curve, operating_points

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
        chosen = {name: np.full(weights.shape[1], np.nan) for name in operating_points(build_curve(*_NOTHING))}
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


def cost(table: MatchTable) -> float:
    """Seconds that the thresholds of one resample take on an ordinary core, about: all together, and every class."""
    return 250e-9 * int(table.found[0, 0].sum())


def scored_matches(table: MatchTable, iou: int, category: int | None = None) -> ScoredMatches:
    """The detections that count at one of a table's IoUs, over all sizes.

    Args:
        table: any.
        iou: position among its IoUs.
        category: position among its categories; None for all together.
    """
    kept, wanted = table.counts(iou), table.wanted[0]
    if category is not None:
        kept = kept & (table.category == category)
        wanted = wanted & (table.object_category == category)
    objects = np.bincount(table.object_image[wanted], minlength=len(table.image_ids))
    return ScoredMatches(table.score[kept], table.is_true(iou)[kept], table.image[kept], objects)


_NOTHING = (np.zeros(0), np.zeros(0, dtype=bool), 0)
