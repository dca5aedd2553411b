"""Whether a score of 0.8 means right in 8 of 10: precision against score, and the mean distance between the two."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

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
