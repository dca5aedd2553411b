"""Sorting and counting in groups, for arrays of a million rows."""

import numpy as np
from numpy.typing import NDArray

_LARGEST = 2**62


def order_by(*columns: NDArray[np.int64]) -> NDArray[np.int64]:
    """Positions in the order of the first column, equal ones by the next, and at last as they were listed, int64 [N].

    Args:
        columns: int64 [N] each, none negative.
    """
    number = len(columns[0])
    largest = [int(column.max(initial=0)) + 1 for column in columns]
    if np.prod(largest, dtype=object) * max(number, 1) >= _LARGEST:
        return np.lexsort(columns[::-1])
    key = columns[0].copy()
    for column, size in zip(columns[1:], largest[1:], strict=True):
        key *= size
        key += column
    # Numbers that hold the position as well are all different: they need no stable sort, which takes ten times as long.
    key *= max(number, 1)
    key += np.arange(number)
    key.sort()
    key %= max(number, 1)
    return key


def falling_levels(score: NDArray[np.float64]) -> NDArray[np.int64]:
    """The place of each score among the different ones, 0 for the highest, int64 [N]."""
    order = np.argsort(-score)
    ranked = score[order]
    levels = np.empty(len(score), dtype=np.int64)
    levels[order] = np.cumsum(np.append(False, ranked[1:] != ranked[:-1])[: len(score)])
    return levels


def run_starts(groups: NDArray[np.int64]) -> NDArray[np.int64]:
    """Where runs of equal numbers begin, int64 [R]."""
    return np.flatnonzero(np.append(True, groups[1:] != groups[:-1])[: len(groups)])


def places_in_runs(groups: NDArray[np.int64]) -> NDArray[np.int64]:
    """How many stand before each element in its run of equal numbers, int64 [N]."""
    starts = run_starts(groups)
    return spread(np.diff(np.append(starts, len(groups))))[1]


def places_within(groups: NDArray[np.int64]) -> NDArray[np.int64]:
    """How many of the same group stand before each element, wherever, int64 [N]."""
    order = np.argsort(groups, kind="stable")
    places = np.empty(len(groups), dtype=np.int64)
    places[order] = places_in_runs(groups[order])
    return places


def spread(counts: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows that stand for several each: ``[2, 0, 3]`` gives ``[0, 0, 2, 2, 2]`` and ``[0, 1, 0, 1, 2]``.

    Args:
        counts: int64 [N], how many each stands for.
    """
    row = np.repeat(np.arange(len(counts)), counts)
    return row, np.arange(len(row)) - np.repeat(np.cumsum(counts) - counts, counts)
