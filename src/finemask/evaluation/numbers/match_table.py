"""The match table: which detections match at every IoU and for every size, and which count.

COCO's numbers (``coco_numbers``), the curves, and the resampling of images (``weighted_ap``) are all made from it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from finemask.evaluation.ground_truth import GroundTruth
from finemask.evaluation.numbers.greedy_matching import outcomes
from finemask.evaluation.numbers.overlaps import find_pairs
from finemask.evaluation.numbers.ranking import order_by, rank
from finemask.evaluation.objects import LARGEST_AREA, object_columns
from finemask.evaluation.result_table import ResultTable

IOUS = np.linspace(0.5, 0.95, 10)  # to the bit those of pycocotools
# in the order of ``scores.AREAS``
_AREAS_PX2 = np.array([[0, LARGEST_AREA], [0, 32**2], [32**2, 96**2], [96**2, LARGEST_AREA]])
_ALMOST_ONE = 1 - 1e-10  # COCOeval asks for no more than this


@dataclass(frozen=True)
class Matches:
    """Every detection that counts at IoU 0.5, over objects of all sizes; one on a crowd region does not.

    D detections, grouped by category, then image, best score first; K categories in the order of
    ``CocoScores.category_ids``.

    Args:
        result: int64 [D], position in the results.
        image_id: int64 [D].
        category: int64 [D], 0..K-1.
        score: float64 [D].
        is_true: bool [D], whether it found an object that nothing better scored had found.
        positives: int64 [K], objects to find.
    """

    result: NDArray[np.int64]
    image_id: NDArray[np.int64]
    category: NDArray[np.int64]
    score: NDArray[np.float64]
    is_true: NDArray[np.bool_]
    positives: NDArray[np.int64]


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
        rows, found, ignored = outcomes(ranking, pairs, objects.crowd, wanted, thresholds)
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


def _within(area: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Of which sizes something is, bool [A, N]."""
    return (area >= _AREAS_PX2[:, :1]) & (area <= _AREAS_PX2[:, 1:])
