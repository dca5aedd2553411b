"""AP over the number of training images as a power law, and what it says about twice as many."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

CONFIDENCE = 0.95
FEWEST_POINTS = 3
_DRAWS = 1000
_EXPONENTS = np.geomspace(0.1, 2.0, 200)  # flatter looks like a straight line of the logarithm, steeper like a step
_LEAST_ERROR = 1e-3  # of an AP: two runs with the same numbers do not agree better
_LEAST_GAIN = 1e-3  # of AP, to be called one
_SMALL_GAIN = 0.01

Verdict: TypeAlias = Literal["rises", "flat", "unclear", "falls"]


@dataclass(frozen=True, slots=True)
class PowerLaw:
    """``AP(n) = a - b n^-c``.

    Args:
        a: AP of endless labels, at most 1.
        b: at least 0.
        c: 0.1 to 2.
    """

    a: float
    b: float
    c: float

    def __call__(self, images: float | NDArray[np.float64]) -> NDArray[np.float64]:
        """AP with so many images."""
        return np.asarray(self.a - self.b * np.asarray(images, dtype=np.float64) ** -self.c)


@dataclass(frozen=True)
class Forecast:
    """What a learning curve says about twice the labels.

    Args:
        law: fitted to the points.
        gain: AP that doubling would add, the middle of the draws.
        low: lower end of the interval of ``CONFIDENCE``.
        high: its upper end.
        verdict: ``rises`` (the interval lies above 0), ``flat`` (it ends below 0.01), ``falls`` (AP falls with more
            labels by more than its error) or ``unclear``.
        band: laws of single draws [draws, 3], a b c each, for the picture.
    """

    law: PowerLaw
    gain: float
    low: float
    high: float
    verdict: Verdict
    band: NDArray[np.float64]

    @property
    def text(self) -> str:
        """One sentence for people."""
        margin, ends = (self.high - self.low) / 2, f"{self.low:.3f} to {self.high:.3f}"
        if self.verdict == "rises":
            return f"Doubling the labels would give +{self.gain:.3f} ± {margin:.3f} AP (95 % interval {ends})."
        if self.verdict == "flat":
            return f"More labels of this kind would change little: doubling gives at most +{self.high:.3f} AP."
        if self.verdict == "falls":
            return (
                "AP falls with more labels, by more than its error: the curve says nothing about doubling them. "
                "Look at the labels, or train longer."
            )
        return (
            "The curve says nothing about doubling the labels: "
            f"anything from +{self.low:.3f} to +{self.high:.3f} AP fits. "
            "More validation images or more fractions would narrow that."
        )


def fit_power_law(
    images: Sequence[float] | NDArray[np.float64],
    ap: Sequence[float] | NDArray[np.float64],
    errors: Sequence[float] | NDArray[np.float64] | None = None,
) -> PowerLaw:
    """The law of least weighted squares with b ≥ 0, a ≤ 1 and c from 0.1 to 2.

    Args:
        images: numbers of training images, at least three different ones, [k].
        ap: AP of each, [k].
        errors: standard error of each AP, [k]; equal ones if None.
    """
    given = np.asarray(ap, dtype=np.float64)
    spread = np.ones(len(given)) if errors is None else np.maximum(np.asarray(errors, np.float64), _LEAST_ERROR)
    return PowerLaw(*_fit(np.asarray(images, dtype=np.float64), given[None], spread)[0].tolist())


def forecast(
    images: Sequence[float], ap: Sequence[float], errors: Sequence[float], *, seed: int = 0, draws: int = _DRAWS
) -> Forecast:
    """What doubling the largest number of images would give.

    Each AP is drawn anew within its standard error, the law is fitted to each draw, and the interval holds the middle
    95 % of the gains. Where the points lie further from the law than their errors explain, the errors are widened
    until they do (Birge 1932): training again would not give the same numbers either.

    Args:
        images: numbers of training images, at least three different ones.
        ap: AP of each, on the same validation images.
        errors: standard error of each AP.
        seed: of the draws.
        draws: how many.
    """
    n, measured = np.asarray(images, dtype=np.float64), np.asarray(ap, dtype=np.float64)
    spread = np.maximum(np.asarray(errors, dtype=np.float64), _LEAST_ERROR)
    law = fit_power_law(n, measured, spread)
    misfit = float((((measured - law(n)) / spread) ** 2).sum()) / max(1, len(n) - FEWEST_POINTS)
    widened = spread * max(1.0, misfit**0.5)
    rng = np.random.default_rng(seed)
    drawn = measured + widened * rng.standard_normal((draws, len(n)))
    band = _fit(n, drawn, widened)
    gains = _gains(band, float(n.max()))
    outside = (1 - CONFIDENCE) / 2
    low, gain, high = np.quantile(gains, (outside, 0.5, 1 - outside)).tolist()
    first, last = int(n.argmin()), int(n.argmax())
    fall = measured[first] - measured[last]
    verdict: Verdict = "unclear"
    if low >= _LEAST_GAIN:
        verdict = "rises"
    elif fall > 2 * float(np.hypot(spread[first], spread[last])):
        verdict = "falls"
    elif high < _SMALL_GAIN:
        verdict = "flat"
    return Forecast(law, gain, low, high, verdict, band)


def _gains(laws: NDArray[np.float64], most: float) -> NDArray[np.float64]:
    _, b, c = laws.T
    return np.asarray(b * most**-c * (1 - 2.0**-c), dtype=np.float64)


def _fit(images: NDArray[np.float64], ap: NDArray[np.float64], spread: NDArray[np.float64]) -> NDArray[np.float64]:
    """Laws [D, 3] of rows of AP [D, k]: for each exponent of a grid the best a and b, of which the best is taken.

    For one exponent, a and b are a straight line over x = (n / most)^-c; where the best line breaks a bound, the best
    one on a bound is taken.
    """
    most = float(images.max())
    x = (images[None] / most) ** -_EXPONENTS[:, None]  # [C, k]
    weight = spread**-2 / (spread**-2).sum()
    x_mean, ap_mean = x @ weight, ap @ weight  # [C], [D]
    across = x - x_mean[:, None]
    slope = -((ap * weight) @ across.T) / (across**2 @ weight)  # [D, C], b at n = most
    a = ap_mean[:, None] + slope * x_mean
    flat_a = np.minimum(ap_mean, 1.0)[:, None] + 0 * slope
    on_top = np.maximum(((1.0 - ap) * weight) @ x.T / (x**2 @ weight), 0.0)  # of a = 1
    candidates = [(a, slope, (slope < 0) | (a > 1)), (flat_a, 0 * slope, None), (1 + 0 * a, on_top, None)]
    best, chosen_a, chosen_b = np.full(slope.shape, np.inf), a, slope
    for of_a, of_b, outside in candidates:
        cost = _cost(x, ap, weight, of_a, of_b)
        if outside is not None:
            cost = np.where(outside, np.inf, cost)
        better = cost < best
        best = np.where(better, cost, best)
        chosen_a, chosen_b = np.where(better, of_a, chosen_a), np.where(better, of_b, chosen_b)
    rows, place = np.arange(len(ap)), best.argmin(axis=1)
    c = _EXPONENTS[place]
    return np.stack([chosen_a[rows, place], chosen_b[rows, place] * most**c, c], axis=1)


def _cost(
    x: NDArray[np.float64],
    ap: NDArray[np.float64],
    weight: NDArray[np.float64],
    a: NDArray[np.float64],
    b: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Weighted squares [D, C] of lines a - b x."""
    cost = np.zeros(a.shape)
    for k, share in enumerate(weight):
        cost += share * (ap[:, k, None] - a + b * x[:, k]) ** 2
    return cost
