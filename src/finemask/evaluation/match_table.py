"""Which detections match at every IoU and for every size: COCO's greedy matching, all images and thresholds at once.

COCOeval goes through image, category, size, IoU and detection one at a time; here the loop is over the place of a
detection within its image and category alone, and it only sees pairs that overlap enough to match. The numbers
(``precision_table``) and the resampling of images (``weighted_ap``) are both made from this.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from finemask.evaluation.ground_truth import GroundTruth
from finemask.evaluation.groups import order_by, places_within, spread
from finemask.evaluation.objects import LARGEST_AREA, object_columns
from finemask.evaluation.pairs import Pairs, find_pairs
from finemask.evaluation.ranking import Ranking, rank
from finemask.evaluation.result_table import ResultTable
from finemask.evaluation.scores import Matches

IOUS = np.linspace(0.5, 0.95, 10)  # to the bit those of pycocotools
# in the order of ``scores.AREAS``
_AREAS_PX2 = np.array([[0, LARGEST_AREA], [0, 32**2], [32**2, 96**2], [96**2, LARGEST_AREA]])
_ALMOST_ONE = 1 - 1e-10  # COCOeval asks for no more than this


@dataclass(frozen=True)
class MatchTable:
    """The outcome for every detection that the cap keeps, at T IoUs and for A = 4 sizes (``scores.AREAS``).

    D detections, grouped by category, best score first; equal scores in COCO's order. Most of them overlap nothing and
    have the same outcome at every IoU; the N that do overlap something are told apart. G objects and crowd regions
    in the order of the ground truth. Images and categories are positions among the ascending ids.

    Args:
        image_ids: I ids, ascending.
        category_ids: K ids, ascending.
        result: int64 [D], position in the results.
        image: int64 [D].
        category: int64 [D].
        score: float64 [D].
        place: int64 [D], how many of the same image and category are better.
        within: bool [A, D], of that size: what finds nothing is then false, and otherwise does not count.
        rows: int64 [N], ascending, the detections that overlap an object by the least IoU or more.
        found: bool [T, A, N], whether each of those found an object that nothing better scored had found.
        ignored: bool [T, A, N], whether it fell to a crowd region or an object of another size, so does not count.
        object_image: int64 [G].
        object_category: int64 [G].
        wanted: bool [A, G], objects to find: no crowd, and of that size.
    """

    image_ids: list[int]
    category_ids: list[int]
    result: NDArray[np.int64]
    image: NDArray[np.int64]
    category: NDArray[np.int64]
    score: NDArray[np.float64]
    place: NDArray[np.int64]
    within: NDArray[np.bool_]
    rows: NDArray[np.int64]
    found: NDArray[np.bool_]
    ignored: NDArray[np.bool_]
    object_image: NDArray[np.int64]
    object_category: NDArray[np.int64]
    wanted: NDArray[np.bool_]

    def counted(self, area: int) -> NDArray[np.bool_]:
        """Whether each of the N counts: bool [T, N]. One that counts and found nothing is false.

        Args:
            area: position among ``scores.AREAS``.
        """
        return np.asarray(self.found[:, area] | (self.within[area, self.rows] & ~self.ignored[:, area]))

    def counts(self, iou: int, area: int = 0) -> NDArray[np.bool_]:
        """Whether each detection counts, bool [D].

        Args:
            iou: position among the T IoUs.
            area: position among ``scores.AREAS``.
        """
        counts: NDArray[np.bool_] = self.within[area].copy()
        counts[self.rows] = self.counted(area)[iou]
        return counts

    def is_true(self, iou: int, area: int = 0) -> NDArray[np.bool_]:
        """Whether each detection found an object, bool [D].

        Args:
            iou: position among the T IoUs.
            area: position among ``scores.AREAS``.
        """
        is_true = np.zeros(len(self.result), dtype=bool)
        is_true[self.rows] = self.found[iou, area]
        return is_true

    def positives(self, area: int = 0) -> NDArray[np.int64]:
        """Objects to find, int64 [K].

        Args:
            area: position among ``scores.AREAS``.
        """
        return np.bincount(self.object_category[self.wanted[area]], minlength=len(self.category_ids))

    def matches(self, iou: int = 0) -> Matches:
        """What the backends hand over at IoU 0.5, at any of the IoUs.

        Args:
            iou: position among the T IoUs.
        """
        kept = np.flatnonzero(self.counts(iou))
        kept = kept[order_by(self.category[kept], self.image[kept])]  # the best score stays first
        ids = np.array(self.image_ids, dtype=np.int64)
        return Matches(
            self.result[kept],
            ids[self.image[kept]],
            self.category[kept],
            self.score[kept],
            self.is_true(iou)[kept],
            self.positives(),
        )


def match_tables(
    ground_truth: GroundTruth,
    results: ResultTable,
    iou_types: Sequence[str],
    max_detections: int,
    ious: Sequence[float] | NDArray[np.float64] = IOUS,
) -> dict[str, MatchTable]:
    """Matches detections with objects by the rules of COCOeval: crowd regions, sizes, caps and ties included.

    Args:
        ground_truth: with masks unless boxes alone are compared.
        results: checked against this ground truth.
        iou_types: any of ``"bbox"``, ``"segm"`` and ``"boundary"``.
        max_detections: cap on the detections of one image and category.
        ious: T thresholds, each above 0.

    Returns:
        A table for each of the types.
    """
    image_ids, category_ids = sorted(ground_truth.images), sorted(c.id for c in ground_truth.categories)
    objects, ranking = object_columns(ground_truth), rank(results, max_detections)
    thresholds = np.minimum(np.asarray(ious, dtype=np.float64), _ALMOST_ONE)
    within, wanted = _within(ranking.area), _within(objects.area) & ~objects.crowd
    tables = {}
    for iou_type in iou_types:
        pairs = find_pairs(ranking, objects, results, iou_type, float(thresholds.min()))
        rows, found, ignored = _outcomes(ranking, pairs, objects.crowd, wanted, thresholds)
        tables[iou_type] = MatchTable(
            image_ids,
            category_ids,
            ranking.result,
            ranking.image,
            ranking.category,
            ranking.score,
            ranking.place,
            within,
            rows,
            found,
            ignored,
            objects.image,
            objects.category,
            wanted,
        )
    return tables


def _outcomes(
    ranking: Ranking, pairs: Pairs, crowd: NDArray[np.bool_], wanted: NDArray[np.bool_], thresholds: NDArray[np.float64]
) -> tuple[NDArray[np.int64], NDArray[np.bool_], NDArray[np.bool_]]:
    """``rows``, ``found`` and ``ignored`` of a table."""
    starts = np.flatnonzero(np.append(True, np.diff(pairs.row) != 0)[: len(pairs.row)])
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


def _within(area: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Of which sizes something is, bool [A, N]."""
    return (area >= _AREAS_PX2[:, :1]) & (area <= _AREAS_PX2[:, 1:])
