"""What other seeds would change, against Student's interval by hand."""

import numpy as np
import pytest
from scipy.stats import t, ttest_ind

from finemask.evaluation.uncertainty.several_seeds import seeds_error


def test_one_side_has_students_interval_of_its_mean():
    values = [0.40, 0.44, 0.45, 0.39]
    drawn = seeds_error([values], 200_000)
    reach = t.ppf(0.975, 3) * np.std(values, ddof=1) / 2
    assert np.quantile(drawn, [0.025, 0.975]) == pytest.approx([-reach, reach], rel=0.03)


def test_two_sides_have_that_of_students_test():
    a, b = [0.40, 0.44, 0.45], [0.50, 0.47]
    low, high = ttest_ind(b, a).confidence_interval(0.95)
    drawn = np.mean(b) - np.mean(a) + seeds_error([a, b], 200_000)
    assert np.quantile(drawn, [0.025, 0.975]) == pytest.approx([low, high], abs=0.004)


def test_of_single_trainings_nobody_knows():
    assert seeds_error([[0.4], [0.5]], 3).tolist() == [0, 0, 0]
    assert np.std(seeds_error([[0.4, 0.5], [0.5]], 1000)) > 0, "a single one has the deviation of the other side"
