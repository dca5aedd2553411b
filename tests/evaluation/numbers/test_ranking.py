"""Sorting and counting in groups against what numpy and Python say."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from finemask.evaluation.numbers.ranking import falling_levels, order_by, places_in_runs, places_within, spread

SMALL, ANY = st.integers(0, 4), st.integers(0, 2**62)


@given(st.lists(st.tuples(SMALL, SMALL, SMALL), max_size=50) | st.lists(st.tuples(SMALL, ANY, ANY), max_size=8))
def test_the_order_is_that_of_a_stable_sort(rows):
    """Numbers that fit into one with their positions, and others that do not."""
    columns = [np.array([row[which] for row in rows], dtype=np.int64) for which in range(3)]
    assert order_by(*columns).tolist() == sorted(range(len(rows)), key=lambda position: rows[position])
    assert [column.tolist() for column in columns] == [[row[which] for row in rows] for which in range(3)]


@given(st.lists(st.sampled_from([0.0, -0.0, 0.1, 0.5, 0.9]) | st.floats(-1e300, 1e300), max_size=60))
def test_levels_count_the_higher_scores(scores):
    expected = [len({other for other in scores if other > score}) for score in scores]
    assert falling_levels(np.array(scores, dtype=np.float64)).tolist() == expected


@given(st.lists(st.integers(0, 3), max_size=40))
def test_places(groups):
    column = np.array(groups, dtype=np.int64)
    assert places_within(column).tolist() == [groups[:n].count(group) for n, group in enumerate(groups)]
    in_runs = []
    for number, group in enumerate(groups):
        in_runs.append(in_runs[-1] + 1 if number and groups[number - 1] == group else 0)
    assert places_in_runs(column).tolist() == in_runs


@pytest.mark.parametrize("counts", [[], [0], [2, 0, 3], [1, 1]])
def test_spread(counts):
    row, inside = spread(np.array(counts, dtype=np.int64))
    assert list(zip(row.tolist(), inside.tolist(), strict=True)) == [
        (row, number) for row, count in enumerate(counts) for number in range(count)
    ]
