"""Distributing groups of images over parts so that every part has its share of every class.

Iterative stratification (Sechidis, Tsoumakas and Vlahavas, 2011, "On the stratification of multi-label data"): the
class with the fewest images left is distributed first, while there is still a choice, each of its images to the part
that still wants most images of that class. Here whole groups are distributed, the largest first, and a part takes
none for which it has no room, so the sizes come out as asked for where groups allow it.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

_TIE = 1e-9


def assign_parts(
    labels: csr_array, sizes: NDArray[np.int64], fractions: Sequence[float], seed: int
) -> NDArray[np.int64]:
    """The part of each group.

    Args:
        labels: [n, K], number of images of each of n groups that have each class.
        sizes: int64 [n], images of each group, at least 1.
        fractions: share of the images that each part should have, adding up to 1.
        seed: another seed gives another split.

    Returns:
        int64 [n], 0 to ``len(fractions) - 1``; no part is empty if there are as many groups as parts.
    """
    rng = np.random.default_rng(seed)
    by_size = rng.permutation(len(sizes))
    by_size = by_size[np.argsort(-sizes[by_size], kind="stable")]
    rank = np.empty(len(sizes), dtype=np.int64)
    rank[by_size] = np.arange(len(sizes))
    shares = _Shares(labels, sizes, np.asarray(fractions, dtype=np.float64), rng)
    columns = labels.tocsc()
    left = np.asarray(labels.sum(axis=0), dtype=np.float64).reshape(-1)
    while (left > _TIE).any():
        label = int(np.where(left > _TIE, left, np.inf).argmin())
        members = columns.indices[columns.indptr[label] : columns.indptr[label + 1]]
        members = members[shares.part_of[members] < 0]
        for group in members[np.argsort(rank[members])].tolist():
            classes, counts = shares.give(group, label)
            left[classes] -= counts
    for group in by_size[shares.part_of[by_size] < 0].tolist():
        shares.give(group, None)
    _fill_empty_parts(shares.part_of, sizes, len(fractions))
    return shares.part_of


class _Shares:
    """What each part still wants."""

    def __init__(
        self, labels: csr_array, sizes: NDArray[np.int64], fractions: NDArray[np.float64], rng: np.random.Generator
    ) -> None:
        self._labels, self._sizes, self._rng = labels, sizes, rng
        totals = np.asarray(labels.sum(axis=0), dtype=np.float64).reshape(-1)
        self._wanted_of_class = np.outer(fractions, totals)
        self._wanted = fractions * sizes.sum()
        self.part_of = np.full(len(sizes), -1, dtype=np.int64)

    def give(self, group: int, label: int | None) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        """Gives a group to the part that wants it most; returns its classes and the images that have each."""
        size = self._sizes[group]
        # With half of the group's images the part is as near to its share as without.
        candidates = np.flatnonzero(self._wanted >= size / 2 - _TIE)
        if not candidates.size:
            candidates = _greatest(self._wanted, np.arange(len(self._wanted)))
        if label is not None:
            candidates = _greatest(self._wanted_of_class[:, label], candidates)
        candidates = _greatest(self._wanted, candidates)
        part = int(candidates[0] if len(candidates) == 1 else self._rng.choice(candidates))
        row = slice(self._labels.indptr[group], self._labels.indptr[group + 1])
        classes, counts = self._labels.indices[row], self._labels.data[row]
        self._wanted_of_class[part, classes] -= counts
        self._wanted[part] -= size
        self.part_of[group] = part
        return classes, counts


def _greatest(values: NDArray[np.float64], candidates: NDArray[np.int64]) -> NDArray[np.int64]:
    chosen = values[candidates]
    greatest: NDArray[np.int64] = candidates[chosen >= chosen.max() - _TIE]
    return greatest


def _fill_empty_parts(part_of: NDArray[np.int64], sizes: NDArray[np.int64], parts: int) -> None:
    """Gives each empty part the smallest group of the part that has most groups."""
    if len(part_of) < parts:
        return
    for part in range(parts):
        counts = np.bincount(part_of, minlength=parts)
        if counts[part] == 0:
            donors = np.flatnonzero(part_of == counts.argmax())
            part_of[donors[np.argmin(sizes[donors])]] = part
