"""Calibrated probabilities that a detection is right, or a label's mask at fault, fitted to where the two agree."""

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree
from scipy.special import expit, gamma, logit

_ROUNDS = 50  # of Newton's method, which takes about ten
_STIFFNESS = 1.0  # keeps the slope finite where scores separate right from wrong completely
_FEWEST_PAIRS = 10  # from fewer, nobody knows what is usual
_NEIGHBOURS = 101  # pairs like a pair that it is compared with
_BLOCK = 4096  # pairs whose neighbours are looked at together
_OFFSET = 0.05  # of 1 - share, before its logarithm: to the pixel nobody and no model draws the same
_LEAST_SPREAD = 0.15  # of that logarithm
_LEAST_DROP = 0.1  # of a share below the usual one, to be worth anybody's time
_FAULTY_SPREAD = 8.0  # spreads over which faulty masks are taken to lie evenly
_FREEDOM = 5  # of Student's t: sound masks lie further out than a normal distribution knows
_T_PEAK = float(gamma((_FREEDOM + 1) / 2) / (np.sqrt(_FREEDOM * np.pi) * gamma(_FREEDOM / 2)))


def fit_trust(
    evidence: NDArray[np.float64], right: NDArray[np.bool_], weights: NDArray[np.float64] | None = None
) -> NDArray[np.float64]:
    """Probability that each detection is right: a logistic curve over evidence, fitted to where the labels agree.

    Platt 1999, "Probabilistic outputs for support vector machines", with his smoothed targets.

    Args:
        evidence: float64 [D, F], such as logits of scores; put on one scale here.
        right: bool [D], whether the labels agree.
        weights: float64 [D], how much each counts; 1 if None.

    Returns:
        float64 [D], 0..1.
    """
    if not len(evidence):
        return np.zeros(0)
    counts = np.ones(len(right)) if weights is None else weights
    hits, misses = float(counts[right].sum()), float(counts[~right].sum())
    target = np.where(right, (hits + 1) / (hits + 2), 1 / (misses + 2))
    spread = evidence.std(axis=0)
    scaled = (evidence - evidence.mean(axis=0)) / np.where(spread > 1e-9, spread, 1.0)
    features = np.concatenate([scaled, np.ones((len(evidence), 1))], axis=1)
    slopes = np.zeros(features.shape[1])
    stiffness = _STIFFNESS * np.eye(len(slopes))
    for _ in range(_ROUNDS):
        probability = expit(features @ slopes)
        gradient = features.T @ (counts * (probability - target)) + stiffness @ slopes
        curvature = (features.T * (counts * probability * (1 - probability))) @ features + stiffness
        step = np.linalg.solve(curvature, gradient)
        slopes -= step * min(1.0, 2.0 / float(np.abs(step).max() or 1.0))
        if np.abs(step).max() < 1e-8:
            break
    return np.asarray(expit(features @ slopes), dtype=np.float64)


def looseness(shares: NDArray[np.float64], likeness: NDArray[np.float64]) -> NDArray[np.float64]:
    """How probable it is that a label's mask is at fault and not the model's, if both were as likely beforehand.

    A pair of label and detection is compared with the 101 pairs most like it: what is usual is their median, the
    spread their upper quartile of log(1 - share), which few faulty labels cannot move. How far a pair lies outside is
    weighed as a Bayes factor: sound masks follow a Student's t, faulty ones lie anywhere from usual to far out.

    Args:
        shares: float64 [P, S], of matched pairs: overlap as shares 0..1 of several things, of which the lowest
            compared with the usual one counts.
        likeness: float64 [P, C], coordinates in which pairs that are alike lie close.

    Returns:
        float64 [P], 0..1; 0 for all where there are fewer than ten pairs.
    """
    count = len(shares)
    found = np.zeros(count)
    if count < _FEWEST_PAIRS:
        return found
    gap = np.log(1.0 - shares + _OFFSET)
    tree = cKDTree(likeness)
    for first in range(0, count, _BLOCK):
        rows = slice(first, first + _BLOCK)
        near = tree.query(likeness[rows], k=min(_NEIGHBOURS, count))[1]
        usual, upper = np.quantile(gap[near], (0.5, 0.75), axis=1)
        spread = np.maximum((upper - usual) / 0.6745, _LEAST_SPREAD)
        outside = (gap[rows] - usual) / spread
        counts = (np.exp(gap[rows]) - np.exp(usual) >= _LEAST_DROP) & (outside > 0)
        sound = _T_PEAK * (1 + outside**2 / _FREEDOM) ** (-(_FREEDOM + 1) / 2)
        odds = np.where(counts, 1 / _FAULTY_SPREAD / sound, 0.0).max(axis=1) / shares.shape[1]  # of several looks
        found[rows] = odds / (1 + odds)
    return found


def logits(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Logits of scores, finite for 0 and 1 too."""
    return np.asarray(logit(np.clip(scores, 1e-4, 1 - 1e-4)), dtype=np.float64)
