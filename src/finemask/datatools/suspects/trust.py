"""How far a model is to be believed, learned from where it agrees with the labels."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit, ndtr

_ROUNDS = 50  # of Newton's method, which takes about ten
_STIFFNESS = 1e-3  # keeps the slope finite where scores separate right from wrong completely
_FEWEST_PAIRS = 10  # from fewer, nobody knows what is usual
_NEIGHBOURS = 101  # labels of about the same size that a label is compared with
_OFFSET = 0.05  # of 1 - IoU, before its logarithm: to the pixel nobody and no model draws the same
_LEAST_SPREAD = 0.15  # of that logarithm
_LEAST_DROP = 0.1  # of IoU below the usual one, to be worth anybody's time


@dataclass(frozen=True, slots=True)
class Trust:
    """Probability that a detection of a score has a label of its class, as a logistic curve.

    Args:
        slope: over the logit of the score, at least 0.
        offset: added to it.
    """

    slope: float = 1.0
    offset: float = 0.0

    def __call__(self, scores: NDArray[np.float64]) -> NDArray[np.float64]:
        """The probability for each score, of the same shape."""
        return np.asarray(expit(self.slope * _logit(scores) + self.offset), dtype=np.float64)


def fit_trust(scores: NDArray[np.float64], right: NDArray[np.bool_]) -> Trust:
    """Fits the curve: Platt 1999, "Probabilistic outputs for support vector machines", with his smoothed targets.

    Args:
        scores: float64 [D], 0..1.
        right: bool [D], whether a label of the class is there.
    """
    if not len(scores):
        return Trust()
    hits, misses = int(right.sum()), int((~right).sum())
    target = np.where(right, (hits + 1) / (hits + 2), 1 / (misses + 2))
    features = np.stack([_logit(scores), np.ones(len(scores))], axis=1)
    start = np.array([1.0, 0.0])
    weights = start.copy()
    for _ in range(_ROUNDS):
        probability = expit(features @ weights)
        gradient = features.T @ (probability - target) + _STIFFNESS * (weights - start)
        curvature = (features.T * (probability * (1 - probability))) @ features + _STIFFNESS * np.eye(2)
        step = np.linalg.solve(curvature, gradient)
        weights -= step * min(1.0, 5.0 / float(np.abs(step).max() or 1.0))
        if np.abs(step).max() < 1e-8:
            break
    return Trust(max(float(weights[0]), 0.0), float(weights[1]))


def looseness(iou: NDArray[np.float64], areas: NDArray[np.float64]) -> NDArray[np.float64]:
    """How surely each IoU of a label with its detection is lower than this model's usual.

    The usual IoU is the median of the labels nearest in size, its spread the upper quartile of log(1 - IoU), which
    few faulty labels cannot move. The result is one minus the expected share of sound labels among all that lie as
    far out, as a false discovery rate: Benjamini and Hochberg 1995.

    Args:
        iou: float64 [P], of matched pairs.
        areas: float64 [P], of the labels, px².

    Returns:
        float64 [P], 0..1; 0 for all where there are fewer than ten pairs.
    """
    count = len(iou)
    if count < _FEWEST_PAIRS:
        return np.zeros(count)
    order = np.argsort(areas, kind="stable")
    gap = np.log(1.0 - iou[order] + _OFFSET)
    width = min(_NEIGHBOURS, count)
    first = np.clip(np.arange(count) - width // 2, 0, count - width)
    quartiles = np.array([np.quantile(gap[k : k + width], (0.5, 0.75)) for k in first])
    usual, spread = quartiles[:, 0], np.maximum((quartiles[:, 1] - quartiles[:, 0]) / 0.6745, _LEAST_SPREAD)
    tail = 1.0 - ndtr((gap - usual) / spread)
    drop = np.exp(gap) - np.exp(usual)
    tail = np.where(drop >= _LEAST_DROP, tail, 1.0)
    ascending = np.argsort(tail, kind="stable")
    rate = np.minimum.accumulate((tail[ascending] * count / np.arange(1, count + 1))[::-1])[::-1]
    sure = np.empty(count)
    sure[order[ascending]] = 1.0 - np.minimum(rate, 1.0)
    return sure


def _logit(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(logit(np.clip(scores, 1e-4, 1 - 1e-4)), dtype=np.float64)
