"""The match table: the object of every detection at every IoU and for every set of objects to find.

Everything is read off it: COCO's numbers (``coco_numbers``), curves, error types, confusion, slices, and the resampling
of images (``weighted_ap``). ``docs/how_matching_works.md`` shows one.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from finemask.evaluation.ground_truth import LARGEST_AREA, GroundTruth, Objects
from finemask.evaluation.numbers.greedy_matching import match_greedily
from finemask.evaluation.numbers.overlaps import LEAST_IOU, Overlaps, boundary_overlaps, find_overlaps
from finemask.evaluation.numbers.ranking import RankedDetections, order_by, rank
from finemask.evaluation.result_table import ResultTable

IOUS = np.linspace(0.5, 0.95, 10)  # to the bit those of pycocotools
AREAS = ("all", "small", "medium", "large")
_AREAS_PX2 = np.array([[0, LARGEST_AREA], [0, 32**2], [32**2, 96**2], [96**2, LARGEST_AREA]])


@dataclass(frozen=True)
class Matches:
    """Every detection that counts at one IoU, over objects of all sizes; one on a crowd region does not.

    D detections, grouped by category, then image, best score first; K categories in the order of their ids.

    Args:
        result: int64 [D], position in the results.
        image_id: int64 [D].
        category: int64 [D], 0..K-1.
        score: float64 [D].
        is_true: bool [D], whether it found an object that nothing better scored had found.
        object: int64 [D], position of that object in the ground truth; -1 for none.
        positives: int64 [K], objects to find.
    """

    result: NDArray[np.int64]
    image_id: NDArray[np.int64]
    category: NDArray[np.int64]
    score: NDArray[np.float64]
    is_true: NDArray[np.bool_]
    object: NDArray[np.int64]
    positives: NDArray[np.int64]


@dataclass(frozen=True)
class MatchTable:
    """What each detection is matched with at T IoUs, for A sets of objects: COCO's sizes (``AREAS``), or slices.

    D detections within the cap, of which N overlap an object of their category by the least of the IoUs: the others
    find nothing at any of them. G objects and crowd regions, I images, K categories. A detection that finds an object
    is true. One that has an ignored object (a crowd region, or one that is not of the set) does not count, nor does
    one that has none and is not of the set itself. All others are false.

    Args:
        image_ids: I ids, ascending.
        category_ids: K ids, ascending.
        detections: in COCO's order.
        objects: in the order of the ground truth.
        overlaps: of the two, of one category; also some by less than the IoUs.
        ious: float64 [T].
        wanted: bool [A, G], objects to find: no crowd, and of that set.
        within: bool [A, D], detections of that set.
        rows: int64 [N], ascending, the detections that overlap an object.
        object: int32 [T, A, N], what each of those is matched with, to be found or ignored; -1 for nothing.
    """

    image_ids: list[int]
    category_ids: list[int]
    detections: RankedDetections
    objects: Objects
    overlaps: Overlaps
    ious: NDArray[np.float64]
    wanted: NDArray[np.bool_]
    within: NDArray[np.bool_]
    rows: NDArray[np.int64]
    object: NDArray[np.int32]

    def found(self, area: int = 0) -> NDArray[np.bool_]:
        """Whether each of the N found an object that nothing better scored had found: bool [T, N].

        Args:
            area: position among the A sets, by default objects of all sizes; the same below.
        """
        wanted: NDArray[np.bool_] = np.append(self.wanted[area], False)  # for -1
        found: NDArray[np.bool_] = wanted[self.object[:, area]]
        return found

    def counted(self, area: int = 0) -> NDArray[np.bool_]:
        """Whether each of the N counts: bool [T, N]. One that counts and found nothing is false."""
        return np.asarray(self.found(area) | (self.within[area, self.rows] & (self.object[:, area] < 0)))

    def counts(self, iou: int = 0, area: int = 0) -> NDArray[np.bool_]:
        """Whether each detection counts, bool [D].

        Args:
            iou: position among the T IoUs.
            area: position among the A sets.
        """
        return self._of_all(self.within[area], self.counted(area)[iou])

    def is_true(self, iou: int = 0, area: int = 0) -> NDArray[np.bool_]:
        """Whether each detection found an object, bool [D]; arguments as of ``counts``."""
        return self._of_all(np.zeros(len(self.detections.result), dtype=bool), self.found(area)[iou])

    def matched(self, iou: int = 0, area: int = 0) -> NDArray[np.int64]:
        """The object of each detection, one that is ignored too, int64 [D]; -1 for none. Arguments as of ``counts``."""
        return self._of_all(np.full(len(self.detections.result), -1, dtype=np.int64), self.object[iou, area])

    def _of_all(self, otherwise: NDArray[Any], values: NDArray[Any]) -> NDArray[Any]:
        of_all = otherwise.copy()  # what is said of detections that overlap nothing
        of_all[self.rows] = values
        return of_all

    def found_by(self, iou: int = 0) -> NDArray[np.int64]:
        """The detection that found each object, int64 [G]; -1 for none.

        Args:
            iou: position among the T IoUs.
        """
        found_by = np.full(len(self.objects.image), -1, dtype=np.int64)
        found = self.found()[iou]
        found_by[self.object[iou, 0, found]] = self.rows[found]
        return found_by

    def positives(self, area: int = 0) -> NDArray[np.int64]:
        """Objects to find, int64 [K]."""
        return np.bincount(self.objects.category[self.wanted[area]], minlength=len(self.category_ids))

    def matches(self, iou: int = 0) -> Matches:
        """What the backends hand over at IoU 0.5, at any of the IoUs.

        Args:
            iou: position among the T IoUs.
        """
        detections = self.detections
        kept = np.flatnonzero(self.counts(iou))
        kept = kept[order_by(detections.category[kept], detections.image[kept])]  # the best score stays first
        is_true = self.is_true(iou)[kept]
        return Matches(
            detections.result[kept],
            np.array(self.image_ids, dtype=np.int64)[detections.image[kept]],
            detections.category[kept],
            detections.score[kept],
            is_true,
            np.where(is_true, self.matched(iou)[kept], -1),
            self.positives(),
        )

    def at(self, iou: float) -> "MatchTable":
        """The same at one IoU; matched anew where it is not among those of the table.

        Args:
            iou: not below the least of the overlaps.
        """
        (position,) = np.nonzero(self.ious == iou)
        if len(position):
            return replace(self, ious=self.ious[position], object=self.object[position])
        return self._again(np.array([iou]), self.wanted, self.within)

    def for_sets(self, wanted: NDArray[np.bool_], within: NDArray[np.bool_]) -> "MatchTable":
        """The same with other objects to find, matched anew.

        Args:
            wanted: bool [A, G].
            within: bool [A, D].
        """
        return self._again(self.ious, wanted, within)

    def _again(self, ious: NDArray[np.float64], wanted: NDArray[np.bool_], within: NDArray[np.bool_]) -> "MatchTable":
        groups = self.detections.image_category
        rows, object_ = match_greedily(self.overlaps, groups, wanted, self.objects.crowd, ious)
        return replace(self, ious=ious, wanted=wanted, within=within, rows=rows, object=object_)

    def of_boundaries(self, results: ResultTable) -> "MatchTable":
        """The same by boundary IoU, of a table by mask IoU.

        Args:
            results: for the masks.
        """
        near = self.overlaps.at_least(float(self.ious.min()))  # boundaries overlap no more than their masks
        overlaps = boundary_overlaps(near, self.detections, self.objects, results)
        return replace(self, overlaps=overlaps)._again(self.ious, self.wanted, self.within)

    def of_images(self, kept: NDArray[np.bool_]) -> "MatchTable":
        """What it would be without some of the images, whose objects and detections stay, and do not count.

        Args:
            kept: bool [I].
        """
        of_detections = kept[self.detections.image]
        return replace(
            self,
            wanted=self.wanted & kept[self.objects.image],
            within=self.within & of_detections,
            object=np.where(of_detections[self.rows], self.object, -1).astype(np.int32),
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
    objects, detections = ground_truth.objects, rank(results, max_detections)
    thresholds = np.asarray(ious, dtype=np.float64)
    least = min(LEAST_IOU, float(thresholds.min()))
    tables: dict[str, MatchTable] = {}
    for kind in iou_types:
        of = "segm" if kind == "boundary" else kind
        table = tables.get(of)
        if table is None:
            overlaps = find_overlaps(detections, objects, results, of, least)
            table = match_table(ground_truth, detections, overlaps, thresholds)
        tables[kind] = table.of_boundaries(results) if kind == "boundary" else table
    return tables


def match_table(
    ground_truth: GroundTruth,
    detections: RankedDetections,
    overlaps: Overlaps,
    ious: Sequence[float] | NDArray[np.float64],
) -> MatchTable:
    """The table of known overlaps, for COCO's sizes.

    Args:
        ground_truth: of G objects.
        detections: D, in COCO's order.
        overlaps: of the two.
        ious: T thresholds, none below the least of the overlaps.
    """
    objects = ground_truth.objects
    low, high = _AREAS_PX2[:, :1], _AREAS_PX2[:, 1:]
    wanted = (objects.area >= low) & (objects.area <= high) & ~objects.crowd
    within = (detections.area >= low) & (detections.area <= high)
    thresholds = np.asarray(ious, dtype=np.float64)
    rows, object_ = match_greedily(overlaps, detections.image_category, wanted, objects.crowd, thresholds)
    images, categories = sorted(ground_truth.images), sorted(category.id for category in ground_truth.categories)
    return MatchTable(images, categories, detections, objects, overlaps, thresholds, wanted, within, rows, object_)
