"""Greedy COCO matching, for all IoU thresholds and all sets of objects at once.

COCOeval goes through image, category, size, IoU and detection one at a time: best score first, each detection takes
the object that it overlaps most of those that are free, one to be found before one that is ignored. Here the same is
done in two ways. Where neither a detection nor its object has another partner to choose, a running maximum of IoUs
says who is first at each threshold. The other detections are *contested*: they go through COCO's loop, but the n-th of
every image and category together, with all thresholds and sets at once. ``docs/how_matching_works.md`` has an example.

T IoU thresholds; A sets of objects to find, such as COCO's sizes; G objects; P pairs; N detections that overlap any.
"""

import numpy as np
from numpy.typing import NDArray

from finemask.evaluation.numbers.overlaps import Overlaps
from finemask.evaluation.numbers.ranking import places_within, run_starts, spread

ALMOST_ONE = 1 - 1e-10  # COCOeval asks for no more than this


def match_greedily(
    overlaps: Overlaps,
    competing: NDArray[np.int64],
    wanted: NDArray[np.bool_],
    crowd: NDArray[np.bool_],
    thresholds: NDArray[np.float64],
) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """Gives each detection, best first, the object that it overlaps most of what is left.

    Args:
        overlaps: that may match; of two detections of one group the one with the lower number is the better.
        competing: int64 [D], a number for each group of detections that overlap the same objects: those of an image
            and category, or of an image.
        wanted: bool [A, G], objects to find; any other is ignored, and taken only where no free one to find overlaps
            enough, however well the other does.
        crowd: bool [G], objects that any number of detections may have.
        thresholds: float64 [T], IoUs from which a detection finds an object.

    Returns:
        The N detections that overlap an object by the least of the thresholds, int64 [N], ascending; and the object of
        each, int32 [T, A, N], -1 for none.
    """
    thresholds = np.minimum(thresholds, ALMOST_ONE)
    pairs = overlaps.at_least(float(thresholds.min()))
    first = run_starts(pairs.detection)
    number = np.diff(np.append(first, len(pairs.detection)))
    is_contested = np.zeros(len(crowd), dtype=bool)  # of objects: one of their detections overlaps another one too
    is_contested[pairs.object[np.repeat(number > 1, number)]] = True
    rows, strongest = pairs.detection[first], pairs.object[first]
    matched = np.full((len(thresholds), len(wanted), len(rows)), -1, dtype=np.int32)
    alone = np.flatnonzero(~is_contested[strongest])
    object_ = strongest[alone]
    is_matched = _match_uncontested(object_, pairs.iou[first[alone]], crowd, thresholds)
    matched[:, :, alone] = np.where(is_matched, object_, -1)[:, None]
    rest = np.flatnonzero(is_contested[strongest])
    matched[:, :, rest] = _match_contested(
        pairs, first[rest], number[rest], competing[rows[rest]], wanted, crowd, thresholds
    )
    return rows, matched


def _match_uncontested(
    object_: NDArray[np.int64], iou: NDArray[np.float64], crowd: NDArray[np.bool_], thresholds: NDArray[np.float64]
) -> NDArray[np.bool_]:
    """Whether detections match that overlap one object alone, as all do that overlap it: bool [T, N].

    The best scored of them that overlaps enough has the object, whatever is to be found: that is each detection from
    its own IoU down to the highest of those before it.

    Args:
        object_: int64 [N], what each overlaps, the better scored before the worse.
        iou: float64 [N].
        crowd: bool [G]; all match.
        thresholds: float64 [T].
    """
    steps = np.sort(thresholds)
    order = np.argsort(object_, kind="stable")
    reached = np.searchsorted(steps, iou[order], side="right")  # how many of the thresholds
    # A running maximum for each object: the numbers of one object lie above all numbers of those before it.
    base = np.cumsum(np.append(False, np.diff(object_[order]) != 0)[: len(order)]) * (len(steps) + 1)
    highest = np.maximum.accumulate(base + reached)
    taken_to, reaches_to = np.empty_like(reached), np.empty_like(reached)
    taken_to[order] = np.maximum(np.append(0, highest[:-1])[: len(order)] - base, 0)
    reaches_to[order] = reached
    taken_to[crowd[object_]] = 0
    step = np.searchsorted(steps, thresholds)[:, None]
    return np.asarray((taken_to <= step) & (step < reaches_to))


def _match_contested(
    pairs: Overlaps,
    first: NDArray[np.int64],
    number: NDArray[np.int64],
    competing: NDArray[np.int64],
    wanted: NDArray[np.bool_],
    crowd: NDArray[np.bool_],
    thresholds: NDArray[np.float64],
) -> NDArray[np.int32]:
    """COCO's loop, the n-th detection of every group together; the object of each, int32 [T, A, N], -1 for none.

    Args:
        pairs: of all detections.
        first: int64 [N], where the pairs of each begin, by rising IoU.
        number: int64 [N], how many there are.
        competing: int64 [N], the group; in one group the better stand first.
        wanted: bool [A, G].
        crowd: bool [G].
        thresholds: float64 [T].
    """
    matched = np.full((len(thresholds), len(wanted), len(first)), -1, dtype=np.int32)
    is_taken = np.zeros((len(crowd), len(thresholds), len(wanted)), dtype=bool)
    place = places_within(competing)
    for turn in range(int(place.max(initial=-1)) + 1):
        now = np.flatnonzero(place == turn)
        count = number[now]
        whose, nth = spread(count)  # the latter is the place by IoU among the detection's pairs
        pair = first[now][whose] + nth
        object_ = pairs.object[pair]
        may_take = (~is_taken[object_] | crowd[object_, None, None]) & (pairs.iou[pair, None] >= thresholds)[:, :, None]
        # by IoU; but an object to find goes before anything that is ignored
        preference = (nth[:, None] + 1 + count[whose][:, None] * wanted[:, object_].T).astype(np.int32)
        best = np.maximum.reduceat(may_take * preference[:, None], np.cumsum(count) - count)
        which, iou, of_set = np.nonzero(best)
        winner = pairs.object[first[now][which] + (best[which, iou, of_set] - 1) % count[which]]
        is_taken[winner, iou, of_set] = True
        matched[iou, of_set, now[which]] = winner
    return matched
