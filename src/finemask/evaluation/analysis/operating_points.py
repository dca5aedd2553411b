"""Precision, recall and F1 over the score threshold, the thresholds to work at, and calibration.

Calibration: whether a score of 0.8 means right in 8 of 10.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from finemask.evaluation.numbers.match_table import Matches

TARGET = 0.9  # of the points that promise a precision or a recall


@dataclass(frozen=True)
class Point:
    """What is kept at a threshold: detections of that score or more.

    Args:
        threshold: a score; None where no detection is worth keeping.
        true_positives: objects found.
        false_positives: detections that found nothing.
        false_negatives: objects missed.
    """

    threshold: float | None
    true_positives: int
    false_positives: int
    false_negatives: int

    @property
    def precision(self) -> float | None:
        """Part of the detections that are right; None without detections."""
        return _ratio(self.true_positives, self.true_positives + self.false_positives)

    @property
    def recall(self) -> float | None:
        """Part of the objects that are found; None without objects."""
        return _ratio(self.true_positives, self.true_positives + self.false_negatives)

    @property
    def f1(self) -> float | None:
        """Harmonic mean of the two; 0 if nothing is right, None without detections and objects."""
        errors = self.false_positives + self.false_negatives
        return _ratio(2 * self.true_positives, 2 * self.true_positives + errors)

    def rates(self) -> dict[str, float | None]:
        """``threshold``, ``precision``, ``recall`` and ``f1``."""
        return {name: getattr(self, name) for name in ("threshold", "precision", "recall", "f1")}


@dataclass(frozen=True)
class Curve:
    """Counts at every distinct score, from the highest down; S scores.

    Args:
        thresholds: float64 [S], descending.
        true_positives: int64 [S], among the detections of that score or more.
        false_positives: int64 [S].
        positives: objects to find.
    """

    thresholds: NDArray[np.float64]
    true_positives: NDArray[np.int64]
    false_positives: NDArray[np.int64]
    positives: int

    @property
    def precision(self) -> NDArray[np.float64]:
        """[S], in [0, 1]."""
        return self.true_positives / (self.true_positives + self.false_positives)

    @property
    def recall(self) -> NDArray[np.float64]:
        """[S], in [0, 1]; zeros without objects."""
        return self.true_positives / max(self.positives, 1)

    @property
    def f1(self) -> NDArray[np.float64]:
        """[S], in [0, 1]."""
        # detections are at least 1, so there is always something to divide by
        return 2 * self.true_positives / (self.true_positives + self.false_positives + self.positives)

    def at(self, threshold: float | Literal["auto"]) -> Point:
        """The point at a given threshold; ``"auto"`` is that of the best F1."""
        if threshold == "auto":
            return self.best()
        kept = int(np.searchsorted(-self.thresholds, -threshold, side="right"))
        return self._point(threshold, kept - 1)

    def best(self) -> Point:
        """The point of the best F1; of several, the one with the highest threshold.

        Equal ratios of whole numbers are equal doubles, so the choice does not depend on rounding.
        """
        if not len(self.thresholds) or not self.true_positives[-1]:
            return self._point(None, -1)
        position = int(np.argmax(self.f1))
        return self._point(float(self.thresholds[position]), position)

    def at_precision(self, target: float) -> Point:
        """The point that finds most with a precision of the target or more; a point without threshold if none has it.

        Of several that find as much, it is the one with the highest threshold.
        """
        reached = (self.precision >= target) & (self.true_positives > 0)
        if not reached.any():
            return self._point(None, -1)
        position = int(np.argmax(np.where(reached, self.true_positives, -1)))
        return self._point(float(self.thresholds[position]), position)

    def at_recall(self, target: float) -> Point:
        """The point with the highest threshold that finds the target or more; one without threshold if none does."""
        reached = (self.recall >= target) & (self.true_positives > 0)
        if not reached.any():
            return self._point(None, -1)
        position = int(np.argmax(reached))
        return self._point(float(self.thresholds[position]), position)

    def _point(self, threshold: float | None, position: int) -> Point:
        if position < 0:
            return Point(threshold, 0, 0, self.positives)
        true, false = int(self.true_positives[position]), int(self.false_positives[position])
        return Point(threshold, true, false, self.positives - true)


@dataclass(frozen=True)
class Curves:
    """Counts over the score threshold at one IoU.

    Args:
        iou_type: masks if they were evaluated, else boxes.
        overall: over all categories together.
        per_class: by category name, in the order of the ground-truth file.
        matches: which detections are right, for pictures of them.
    """

    iou_type: str
    overall: Curve
    per_class: dict[str, Curve]
    matches: Matches


def build_curves(iou_type: str, matches: Matches, positions: Mapping[str, int]) -> Curves:
    """The curves of all categories together and of each.

    Args:
        iou_type: of the matches.
        matches: of all detections that count.
        positions: of the categories among the ascending ids, by name.
    """
    starts = np.searchsorted(matches.category, np.arange(len(positions) + 1))
    per_class = {}
    for name, position in positions.items():
        mine = slice(starts[position], starts[position + 1])
        positives = int(matches.positives[position])
        per_class[name] = build_curve(matches.score[mine], matches.is_true[mine], positives)
    overall = build_curve(matches.score, matches.is_true, int(matches.positives.sum()))
    return Curves(iou_type, overall, per_class, matches)


def operating_points(curve: Curve) -> dict[str, Point]:
    """The three points to choose from: ``best_f1``, ``precision_90`` and ``recall_90``."""
    return {
        "best_f1": curve.best(),
        "precision_90": curve.at_precision(TARGET),
        "recall_90": curve.at_recall(TARGET),
    }


def build_curve(score: NDArray[Any], is_true: NDArray[np.bool_], positives: int) -> Curve:
    """Counts over the threshold.

    Args:
        score: [D], in any order.
        is_true: bool [D].
        positives: objects to find.
    """
    order = np.argsort(-score)  # in any order among equal scores: they are counted together
    score, is_true = score[order], is_true[order]
    last = np.flatnonzero(np.append(np.diff(score) != 0, True)) if len(score) else np.zeros(0, dtype=np.int64)
    true = np.cumsum(is_true, dtype=np.int64)[last]
    return Curve(np.asarray(score[last], dtype=np.float64), true, last + 1 - true, int(positives))


def _ratio(part: int, whole: int) -> float | None:
    return part / whole if whole else None


_BINS = 10


def calibration(score: NDArray[np.float64], is_true: NDArray[np.bool_]) -> dict[str, Any]:
    """The calibration curve and its expected error.

    Args:
        score: float64 [D], 0..1.
        is_true: bool [D].

    Returns:
        ``error``: the distance between mean score and precision of a bin, averaged over the detections; None without
        detections, or where a score is no fraction. ``bins``: ten of equal width over the score, each with ``from``,
        ``to``, ``detections``, ``mean_score`` and ``precision`` (None where it is empty).
    """
    if not len(score) or score.min() < 0 or score.max() > 1:
        return {"error": None, "bins": []}
    edges = np.linspace(0, 1, _BINS + 1)
    which = np.clip(np.searchsorted(edges, score, side="right") - 1, 0, _BINS - 1)
    number = np.bincount(which, minlength=_BINS)
    total, right = (np.bincount(which, value, _BINS) for value in (score, is_true.astype(np.float64)))
    bins = [
        {
            "from": float(edges[position]),
            "to": float(edges[position + 1]),
            "detections": int(number[position]),
            "mean_score": float(total[position] / number[position]) if number[position] else None,
            "precision": float(right[position] / number[position]) if number[position] else None,
        }
        for position in range(_BINS)
    ]
    return {"error": float(np.abs(total - right).sum() / len(score)), "bins": bins}
