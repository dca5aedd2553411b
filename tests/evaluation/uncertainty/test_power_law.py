"""The power law behind a learning curve: exact laws come back, and intervals hold what they promise."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from finemask.evaluation.uncertainty.power_law import PowerLaw, fit_power_law, forecast

IMAGES = [60, 120, 240]


@settings(max_examples=15, deadline=None)
@given(st.floats(0.3, 1.0), st.floats(0.02, 0.25), st.floats(0.15, 1.9), st.sampled_from([3, 4, 6]))
def test_an_exact_law_comes_back(a, lost, c, points):
    """``lost`` is what the AP at the most images lacks of a."""
    images = np.geomspace(50, 800, points)
    truth = PowerLaw(a, lost * 800**c, c)
    assume(truth(50) >= 0)
    law = fit_power_law(images, truth(images))
    assert law(images) == pytest.approx(truth(images), abs=2e-3)
    assert law(1600) == pytest.approx(truth(1600), abs=2e-3)
    assert law.c == pytest.approx(c, rel=0.1)


@settings(max_examples=20, deadline=None)
@given(
    st.lists(st.floats(0, 1), min_size=3, max_size=6),
    st.lists(st.floats(0.001, 0.2), min_size=6, max_size=6),
)
def test_whatever_the_points_the_law_is_bounded_and_rises(ap, errors):
    images = [100 * 2**k for k in range(len(ap))]
    law = fit_power_law(images, ap, errors[: len(ap)])
    assert law.a <= 1
    assert law.b >= 0
    assert 0.1 <= law.c <= 2
    values = law(np.geomspace(100, 10_000, 50))
    assert (np.diff(values) >= -1e-12).all()
    weight = 1 / np.square(errors[: len(ap)])
    flat = np.average(ap, weights=weight)
    assert (weight * (law(images) - ap) ** 2).sum() <= (weight * (flat - ap) ** 2).sum() * (1 + 1e-9) + 1e-12


@pytest.mark.parametrize(("a", "gap", "c"), [(0.8, 0.15, 0.5), (0.6, 0.1, 1.2), (0.95, 0.3, 0.3), (0.7, 0.05, 0.8)])
def test_the_interval_covers_the_true_gain(a, gap, c):
    """95 % are promised; of 40 noisy curves of three points, fewer than 34 would be a chance of 1 in 100."""
    truth, error = PowerLaw(a, gap * 240**c, c), 0.01
    gain = float(truth(480) - truth(240))
    rng = np.random.default_rng(3)
    covered = 0
    for seed in range(40):
        measured = truth(np.array(IMAGES)) + error * rng.standard_normal(3)
        found = forecast(IMAGES, measured.tolist(), [error] * 3, seed=seed, draws=150)
        covered += found.low <= gain <= found.high
    assert covered >= 34


def test_a_steep_sure_curve_promises_a_gain():
    truth = PowerLaw(0.9, 0.3 * 240**0.5, 0.5)
    found = forecast(IMAGES, truth(np.array(IMAGES)).tolist(), [0.005] * 3)
    assert found.verdict == "rises"
    assert found.gain == pytest.approx(0.3 * (1 - 2**-0.5), abs=0.02)
    assert found.text.startswith(f"Doubling the labels would give +{found.gain:.3f} ± ")
    assert found.low < found.gain < found.high


@pytest.mark.parametrize(
    ("ap", "error", "verdict", "words"),
    [
        ([0.700, 0.701, 0.700], 0.002, "flat", "would change little"),
        ([0.50, 0.52, 0.51], 0.05, "unclear", "says nothing about doubling the labels: anything from"),
        ([0.70, 0.60, 0.50], 0.01, "falls", "AP falls with more labels"),
        ([0.30, 0.60, 0.35], 0.01, "unclear", "says nothing"),  # no law, however sure the points are
        ([0.0, 0.0, 0.0], 0.0, "flat", "would change little"),
        ([1.0, 1.0, 1.0], 0.0, "flat", "would change little"),
    ],
)
def test_where_the_curve_says_nothing_it_is_said(ap, error, verdict, words):
    found = forecast(IMAGES, ap, [error] * 3)
    assert found.verdict == verdict
    assert words in found.text
    assert "Doubling the labels would give" not in found.text


def test_the_same_points_give_the_same_answer():
    one, other = (forecast(IMAGES, [0.4, 0.5, 0.55], [0.01] * 3, seed=5) for _ in range(2))
    assert (one.gain, one.low, one.high) == (other.gain, other.low, other.high)
