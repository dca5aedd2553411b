"""Which detections match at every IoU and for every size: COCO's greedy matching, all images and thresholds at once.

The backends hand over tables of precision, which cannot be taken apart into images. Resampling images needs the matches
themselves. COCOeval goes through image, category, size, IoU and detection one at a time; here the loop is over the
place of a detection within its image and category alone. Only pairs that overlap enough to match are ever looked at.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from finemask.evaluation.ground_truth import GroundTruth
from finemask.evaluation.objects import LARGEST_AREA, Objects, object_columns, places_in_runs
from finemask.evaluation.result_table import ResultTable
from finemask.evaluation.scores import Matches

IOUS = np.linspace(0.5, 0.95, 10)  # to the bit those of pycocotools
# in the order of ``scores.AREAS``
_AREAS_PX2 = np.array([[0, LARGEST_AREA], [0, 32**2], [32**2, 96**2], [96**2, LARGEST_AREA]])
_ALMOST_ONE = 1 - 1e-10  # COCOeval asks for no more than this


@dataclass(frozen=True)
class MatchTable:
    """The outcome for every detection that the cap keeps, at T IoUs and for A = 4 sizes (``scores.AREAS``).

    D detections, grouped by category, best score first; equal scores in COCO's order. G objects and crowd regions in
    the order of the ground truth. Images and categories are positions among the ascending ids.

    Args:
        image_ids: I ids, ascending.
        category_ids: K ids, ascending.
        result: int64 [D], position in the results.
        image: int64 [D].
        category: int64 [D].
        score: float64 [D].
        is_true: bool [T, A, D], found an object that nothing better scored had found.
        counts: bool [T, A, D]; a detection that counts and is not true is false, one that does not count is neither.
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
    is_true: NDArray[np.bool_]
    counts: NDArray[np.bool_]
    object_image: NDArray[np.int64]
    object_category: NDArray[np.int64]
    wanted: NDArray[np.bool_]

    def matches(self, iou: int = 0) -> Matches:
        """What the backends hand over at IoU 0.5, at any of the IoUs.

        Args:
            iou: position among the T IoUs.
        """
        kept = np.flatnonzero(self.counts[iou, 0])
        kept = kept[np.lexsort((self.image[kept], self.category[kept]))]  # stable: the best score stays first
        ids = np.array(self.image_ids, dtype=np.int64)
        positives = np.bincount(self.object_category[self.wanted[0]], minlength=len(self.category_ids))
        return Matches(
            self.result[kept],
            ids[self.image[kept]],
            self.category[kept],
            self.score[kept],
            self.is_true[iou, 0, kept],
            positives,
        )


def match_table(
    ground_truth: GroundTruth,
    results: ResultTable,
    iou_type: str,
    max_detections: int,
    ious: Sequence[float] | NDArray[np.float64] = IOUS,
) -> MatchTable:
    """Matches detections with objects by the rules of COCOeval: crowd regions, sizes, caps and ties included.

    Args:
        ground_truth: with masks if ``iou_type`` is ``"segm"``.
        results: checked against this ground truth.
        iou_type: ``"bbox"`` or ``"segm"``.
        max_detections: cap on the detections of one image and category.
        ious: T thresholds, each above 0.
    """
    image_ids, category_ids = sorted(ground_truth.images), sorted(c.id for c in ground_truth.categories)
    objects = object_columns(ground_truth)
    boxes, areas = results.boxes_and_areas()
    image, category, score = results.image, results.category, results.score
    cells, object_cells = category * len(image_ids) + image, objects.category * len(image_ids) + objects.image
    by_cell = np.lexsort((-score, cells))  # stable, so equal scores stay as listed
    by_cell = by_cell[places_in_runs(cells[by_cell]) < max_detections]
    order = by_cell[np.lexsort((image[by_cell], -score[by_cell], category[by_cell]))]
    position = np.empty(len(results), dtype=np.int64)  # in the final order
    position[order] = np.arange(len(order))

    thresholds = np.minimum(np.asarray(ious, dtype=np.float64), _ALMOST_ONE)
    wanted = _within(objects.area) & ~objects.crowd
    is_true = np.zeros((len(thresholds), len(_AREAS_PX2), len(order)), dtype=bool)
    counts = np.broadcast_to(_within(areas[order]), is_true.shape).copy()  # so it stays where nothing matches
    pairs = _Pairs(by_cell, cells, objects, object_cells, results, boxes, iou_type, thresholds.min())
    for detection, found, ignored in _rounds(pairs, objects.crowd, wanted, thresholds):
        where = position[detection]
        is_true[:, :, where] = found
        counts[:, :, where] = np.where(ignored, False, counts[:, :, where] | found)
    return MatchTable(
        image_ids,
        category_ids,
        order,
        image[order],
        category[order],
        score[order],
        is_true,
        counts,
        objects.image,
        objects.category,
        wanted,
    )


class _Pairs:
    """Detections and objects of one image and category that overlap by the least IoU or more; P pairs.

    Args:
        by_cell: int64 [D], detections grouped by cell (category and image), best first.
        cells: int64, of every result.
        objects: the ground truth.
        object_cells: int64 [G].
        results: for the masks.
        boxes: float64 [results, 4], xywh px.
        iou_type: what overlaps.
        least: IoU.
    """

    def __init__(
        self,
        by_cell: NDArray[np.int64],
        cells: NDArray[np.int64],
        objects: Objects,
        object_cells: NDArray[np.int64],
        results: ResultTable,
        boxes: NDArray[np.float64],
        iou_type: str,
        least: float,
    ) -> None:
        by_object_cell = np.argsort(object_cells, kind="stable")
        detection_cell, object_cell = cells[by_cell], object_cells[by_object_cell]
        parts: list[tuple[NDArray[Any], ...]] = []
        for cell in np.intersect1d(detection_cell, object_cell).tolist():
            first, last = np.searchsorted(detection_cell, [cell, cell + 1])
            start, end = np.searchsorted(object_cell, [cell, cell + 1])
            mine, theirs = by_cell[first:last], by_object_cell[start:end]
            if iou_type == "segm":
                found: Any = [results.mask(number) for number in mine.tolist()]
                truth: Any = [objects.masks[number] for number in theirs.tolist()]
            else:
                found, truth = boxes[mine], objects.boxes[theirs]
            iou = np.asarray(coco_mask.iou(found, truth, objects.crowd[theirs].tolist()))
            row, column = np.nonzero(iou >= least)
            parts.append((first + row, theirs[column], iou[row, column], np.full(len(row), cell)))
        none = np.zeros(0, dtype=np.int64)  # so that there is something to join
        place, object_, iou, cell_ = (
            np.concatenate(column) for column in zip((none, none, np.zeros(0), none), *parts, strict=True)
        )
        order = np.lexsort((object_, iou, place))  # of equal IoUs COCO takes the last object
        self.place, self.object, self.iou, self.cell = place[order], object_[order], iou[order], cell_[order]
        self.detection = by_cell[self.place]


def _rounds(
    pairs: _Pairs, crowd: NDArray[np.bool_], wanted: NDArray[np.bool_], thresholds: NDArray[np.float64]
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.bool_], NDArray[np.bool_]]]:
    """Goes through the detections that have pairs, the n-th of every cell together.

    Yields:
        The detections, int64 [N]; whether each found an object, bool [T, A, N]; whether it fell to something that
        is ignored, bool [T, A, N].
    """
    taken = np.zeros((len(crowd), len(thresholds), len(wanted)), dtype=bool)
    is_first = np.append(True, np.diff(pairs.place) != 0)[: len(pairs.place)]
    starts = np.flatnonzero(is_first)
    lengths = np.diff(np.append(starts, len(pairs.place)))
    turn = places_in_runs(pairs.cell[starts])
    for which in range(int(turn.max(initial=-1)) + 1):
        chosen = np.flatnonzero(turn == which)
        begins, length = starts[chosen], lengths[chosen]
        offsets = np.cumsum(length) - length
        inside = np.arange(length.sum()) - np.repeat(offsets, length)  # rank by IoU among the detection's pairs
        pair = np.repeat(begins, length) + inside
        object_ = pairs.object[pair]
        allowed = (~taken[object_] | crowd[object_, None, None]) & (pairs.iou[pair, None] >= thresholds)[:, :, None]
        # an object to find goes before anything that is ignored, however well that overlaps
        value = inside[:, None] + 1 + np.repeat(length, length)[:, None] * wanted[:, object_].T
        best = np.maximum.reduceat(np.where(allowed, value[:, None], 0), offsets)
        found, ignored = best > length[:, None, None], (best > 0) & (best <= length[:, None, None])
        row, iou, area = np.nonzero(best)
        winner = pairs.object[begins[row] + (best[row, iou, area] - 1) % length[row]]
        taken[winner, iou, area] = True
        yield pairs.detection[begins], np.moveaxis(found, 0, -1), np.moveaxis(ignored, 0, -1)


def _within(area: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Of which sizes something is, bool [A, N]."""
    return (area >= _AREAS_PX2[:, :1]) & (area <= _AREAS_PX2[:, 1:])
