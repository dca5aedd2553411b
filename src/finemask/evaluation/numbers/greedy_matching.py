"""COCO's greedy matching, for all images, thresholds and sizes at once.

COCOeval goes through image, category, size, IoU and detection one at a time. Where nothing is to be chosen, one running
maximum says it all; for the rest the loop is over the place of a detection within its image and category alone.
T IoUs, A sizes, G objects.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from finemask.evaluation.numbers.overlaps import Pairs
from finemask.evaluation.numbers.ranking import Ranking, places_within, run_starts, spread


def outcomes(
    ranking: Ranking, pairs: Pairs, crowd: NDArray[np.bool_], wanted: NDArray[np.bool_], thresholds: NDArray[np.float64]
) -> tuple[NDArray[np.int64], NDArray[np.bool_], NDArray[np.bool_]]:
    """What becomes of each detection that overlaps an object; best first, each takes what overlaps it most of the rest.

    Args:
        ranking: all detections.
        pairs: that overlap by the least of the thresholds.
        crowd: bool [G], objects that any number of detections may have.
        wanted: bool [A, G], objects to find of each size; the others are ignored, and go last.
        thresholds: float64 [T], IoUs.

    Returns:
        ``rows``, ``found`` and ``ignored`` of a ``MatchTable``.
    """
    starts = run_starts(pairs.row)
    lengths = np.diff(np.append(starts, len(pairs.row)))
    has_rivals = np.zeros(len(crowd), dtype=bool)  # objects, for one of whose detections another object will do too
    has_rivals[pairs.object[np.repeat(lengths > 1, lengths)]] = True
    order = np.argsort(pairs.row[starts])
    rows, starts, lengths = pairs.row[starts[order]], starts[order], lengths[order]
    object_ = pairs.object[starts]
    is_plain = ~has_rivals[object_]
    matched = np.zeros((len(thresholds), len(rows)), dtype=bool)
    matched[:, is_plain] = _without_choice(object_[is_plain], pairs.iou[starts[is_plain]], crowd, thresholds)
    of_size = wanted[:, object_]
    found, ignored = matched[:, None] & of_size, matched[:, None] & ~of_size
    tangled = np.flatnonzero(~is_plain)
    cells = ranking.image[rows[tangled]] * (int(ranking.category.max(initial=0)) + 1) + ranking.category[rows[tangled]]
    for chosen, is_true, fell in _rounds(pairs, starts[tangled], lengths[tangled], cells, crowd, wanted, thresholds):
        found[:, :, tangled[chosen]] = is_true
        ignored[:, :, tangled[chosen]] = fell
    return rows, found, ignored


def _without_choice(
    object_: NDArray[np.int64], iou: NDArray[np.float64], crowd: NDArray[np.bool_], thresholds: NDArray[np.float64]
) -> NDArray[np.bool_]:
    """Whether detections match that overlap one object alone, as all do that overlap it: bool [T, C].

    The best scored of them that overlaps enough has the object, for whatever sizes are counted: that is each detection
    from its own IoU down to the highest of those before it.

    Args:
        object_: int64 [C], what each overlaps, the better scored before the worse.
        iou: float64 [C].
        crowd: bool [G]; all match.
        thresholds: float64 [T].
    """
    steps = np.sort(thresholds)
    order = np.argsort(object_, kind="stable")
    level = np.searchsorted(steps, iou[order], side="right")  # how many of the thresholds are reached
    group = np.cumsum(np.append(False, np.diff(object_[order]) != 0)[: len(order)]) * (len(steps) + 1)
    highest = np.maximum.accumulate(group + level)
    above, reached = np.empty_like(level), np.empty_like(level)
    above[order] = np.maximum(np.append(0, highest[:-1])[: len(order)] - group, 0)
    reached[order] = level
    above[crowd[object_]] = 0
    step = np.searchsorted(steps, thresholds)[:, None]
    return np.asarray((above <= step) & (step < reached))


def _rounds(
    pairs: Pairs,
    starts: NDArray[np.int64],
    lengths: NDArray[np.int64],
    cells: NDArray[np.int64],
    crowd: NDArray[np.bool_],
    wanted: NDArray[np.bool_],
    thresholds: NDArray[np.float64],
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.bool_], NDArray[np.bool_]]]:
    """Goes through detections, the n-th of every image and category together.

    Args:
        pairs: with objects and IoUs.
        starts: int64 [C], where the pairs of each begin.
        lengths: int64 [C], how many there are.
        cells: int64 [C], a number for each image and category; in one cell the better stand first.
        crowd: bool [G].
        wanted: bool [A, G].
        thresholds: float64 [T].

    Yields:
        Positions in ``starts``, int64 [N]; whether each found an object, bool [T, A, N]; whether it fell to something
        that is ignored, bool [T, A, N].
    """
    taken = np.zeros((len(crowd), len(thresholds), len(wanted)), dtype=bool)
    turn = places_within(cells)
    for which in range(int(turn.max(initial=-1)) + 1):
        chosen = np.flatnonzero(turn == which)
        begins, length = starts[chosen], lengths[chosen]
        which_of, inside = spread(length)  # the latter is the rank by IoU among the detection's pairs
        pair = begins[which_of] + inside
        object_ = pairs.object[pair]
        allowed = (~taken[object_] | crowd[object_, None, None]) & (pairs.iou[pair, None] >= thresholds)[:, :, None]
        # an object to find goes before anything that is ignored, however well that overlaps
        value = (inside[:, None] + 1 + length[which_of][:, None] * wanted[:, object_].T).astype(np.int32)
        best = np.maximum.reduceat(allowed * value[:, None], np.cumsum(length) - length)
        found, ignored = best > length[:, None, None], (best > 0) & (best <= length[:, None, None])
        row, iou, area = np.nonzero(best)
        winner = pairs.object[begins[row] + (best[row, iou, area] - 1) % length[row]]
        taken[winner, iou, area] = True
        yield chosen, np.moveaxis(found, 0, -1), np.moveaxis(ignored, 0, -1)
