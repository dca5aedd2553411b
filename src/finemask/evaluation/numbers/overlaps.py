"""IoU of detections with the objects of their image: of boxes, masks and boundaries.

COCO's numbers take objects of the detection's own category only, and nothing is computed of a detection whose image has
none: with many categories, of nine in ten. To say why a detection is wrong takes the other categories too.
G objects, D detections in the rows of a ranking, P pairs.

Boundary AP (Cheng et al. 2021, arXiv 2103.16562) says how well the outlines fit, of large objects too. IoU counts
pixels, and most pixels of a large object are inside, where nothing can go wrong. Boundary IoU counts only those within
a few pixels of each mask's outline; the smaller of the two takes the place of IoU in COCO's rules.
"""

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from finemask.evaluation.ground_truth import GroundTruth
from finemask.evaluation.numbers.ranking import Candidates, Ranking, order_by, run_starts, spread
from finemask.evaluation.objects import Objects
from finemask.evaluation.result_table import ResultTable
from finemask.ops.rle import crop_to_rle, rle_to_crop
from finemask.types import Rle

_WIDTH = 0.02  # of the image's diagonal
_SQUARE = np.ones((3, 3), dtype=np.uint8)


def boundary_width(height: int, width: int) -> int:
    """How far into a mask its boundary reaches: 2 % of the image's diagonal, at least 1 px.

    Args:
        height: of the image, px.
        width: of the image, px.
    """
    return max(1, round(_WIDTH * math.hypot(height, width)))


def boundary_rle(rle: Rle) -> Rle:
    """The pixels of a mask that are within the boundary's width of its outline.

    The image's edge is part of the outline. Only the mask's own box is ever decoded.
    """
    height, width = rle["size"]
    crop, x0, y0 = rle_to_crop(rle)
    reach = boundary_width(height, width)
    if min(crop.shape) <= 2 * reach:
        return rle  # too thin to have an inside
    pixels = np.ascontiguousarray(crop, dtype=np.uint8)
    inner = cv2.erode(
        pixels,
        _SQUARE,
        iterations=reach,
        borderType=cv2.BORDER_CONSTANT,
        borderValue=(0,),  # a tight crop has nothing but zeros around it, whether there is image or not
    )
    return crop_to_rle((pixels != inner), x0, y0, height, width)


_PAIRS_AT_ONCE = 2**18  # bounds the memory
_Part = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]


@dataclass(frozen=True)
class Pairs:
    """What overlaps by the least IoU or more; the pairs of a row stand together.

    Args:
        row: int64 [P], of the ranking, by image and category, best first.
        object: int64 [P]; those of a row by their IoU, of equal ones the later last.
        iou: float64 [P].
    """

    row: NDArray[np.int64]
    object: NDArray[np.int64]
    iou: NDArray[np.float64]


def find_pairs(ranking: Ranking, objects: Objects, results: ResultTable, iou_type: str, least: float) -> Pairs:
    """All pairs with an IoU as pycocotools has it; with a crowd region it is the detection's part inside.

    Args:
        ranking: of the results.
        objects: of the ground truth, with masks unless boxes are compared.
        results: for the masks.
        iou_type: ``"bbox"``, ``"segm"``, or ``"boundary"`` for the smaller of mask IoU and boundary IoU.
        least: the IoU, above 0.
    """
    near = _Neighbours(ranking, objects)
    parts = _boxes(near, objects, least) if iou_type == "bbox" else _masks(near, objects, results, least)
    if iou_type == "boundary":
        parts = _boundaries(parts, near, objects, results, least)
    place, object_, iou = (np.concatenate(column) for column in zip(_NOTHING, *parts, strict=True))
    order = np.lexsort((object_, iou, place))  # of equal IoUs COCO takes the last object
    return Pairs(near.row[place[order]], object_[order], iou[order])


class _Neighbours:
    """Detections that have objects of their category in their image; N of them, by image and category, best first.

    Attributes:
        row: int64 [N], of the ranking.
        result: int64 [N], position in the results.
        image: int64 [N].
        category: int64 [N].
        boxes: float64 [N, 4], xywh px.
        first: int64 [N], where their objects begin in ``by_image``.
        number: int64 [N], how many there are.
        by_image: int64 [G], the objects by image, then category.
    """

    def __init__(self, ranking: Ranking, objects: Objects) -> None:
        self.by_image = order_by(objects.image, objects.category)
        categories = 1 + int(max(ranking.category.max(initial=0), objects.category.max(initial=0)))
        cells = objects.image[self.by_image] * categories + objects.category[self.by_image]
        cell, first, number = np.unique(cells, return_index=True, return_counts=True)
        wanted = ranking.image[ranking.by_image] * categories + ranking.category[ranking.by_image]
        which = np.searchsorted(cell, wanted)
        is_near = np.append(cell, -1)[which] == wanted
        self.row, which = ranking.by_image[is_near], which[is_near]
        self.result, self.boxes = ranking.result[self.row], ranking.boxes[self.row]
        self.image, self.category = ranking.image[self.row], ranking.category[self.row]
        self.first, self.number = first[which], number[which]


def _boxes(near: _Neighbours, objects: Objects, least: float) -> Iterator[_Part]:
    """Places among the neighbours, objects, and IoU: many pairs at a time."""
    for chunk in _chunks(near.number):
        place, inside = spread(near.number[chunk])
        place += chunk.start
        object_ = near.by_image[near.first[place] + inside]
        iou = box_iou(near.boxes[place], objects.boxes[object_], objects.crowd[object_])
        kept = iou >= least
        yield place[kept], object_[kept], iou[kept]


def box_iou(found: NDArray[np.float64], truth: NDArray[np.float64], crowd: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Of boxes xywh beside each other, in the order of operations of pycocotools, so that the last bit is the same."""
    x, y, width, height = found.T
    x0, y0, width0, height0 = truth.T
    across = np.minimum(width + x, width0 + x0) - np.maximum(x, x0)
    down = np.minimum(height + y, height0 + y0) - np.maximum(y, y0)
    shared, area = across * down, width * height
    whole = np.where(crowd, area, area + width0 * height0 - shared)
    overlaps = (across > 0) & (down > 0)
    iou = np.zeros(len(shared))
    np.divide(shared, whole, out=iou, where=overlaps)
    return iou


def _masks(near: _Neighbours, objects: Objects, results: ResultTable, least: float) -> Iterator[_Part]:
    """The same of masks, with a call for each image: one for each category would take longer than the pairs it saves.

    A block is the detections of an image, or some of them, and all of its objects.
    """
    begins = run_starts(near.image)
    ends = np.append(begins[1:], len(near.image))[: len(begins)]
    starts, stops = (np.searchsorted(objects.image[near.by_image], near.image[begins], side) for side in _SIDES)
    step = np.maximum(_PAIRS_AT_ONCE // np.maximum(stops - starts, 1), 1)
    block, inside = spread(-((begins - ends) // step))
    begins = begins[block] + inside * step[block]
    ends, starts, stops = np.minimum(begins + step[block], ends[block]), starts[block], stops[block]
    for chunk in _chunks((ends - begins) * (stops - starts)):
        columns = (column[chunk].tolist() for column in (begins, ends, starts, stops))
        ious = [
            _mask_iou(near.result[begin:end], near.by_image[start:stop], objects, results)
            for begin, end, start, stop in zip(*columns, strict=True)
        ]
        height = (ends - begins)[chunk]
        block, inside = spread(height * (stops - starts)[chunk])
        iou = np.concatenate([iou.ravel(order="F") for iou in ious])
        place, object_ = begins[chunk][block] + inside % height[block], starts[chunk][block] + inside // height[block]
        object_ = near.by_image[object_]
        kept = (iou >= least) & (near.category[place] == objects.category[object_])
        yield place[kept], object_[kept], iou[kept]


def _boundaries(
    parts: Iterable[_Part], near: _Neighbours, objects: Objects, results: ResultTable, least: float
) -> Iterator[_Part]:
    """Of pairs of masks those whose boundaries overlap as well. No other mask's boundary is ever made."""
    for place, object_, iou in parts:
        for start, stop in pairwise([*run_starts(objects.image[object_]).tolist(), len(object_)]):
            rows, row = np.unique(place[start:stop], return_inverse=True)
            theirs, column = np.unique(object_[start:stop], return_inverse=True)
            of_boundaries = _mask_iou(near.result[rows], theirs, objects, results, boundary_rle)
            iou[start:stop] = np.minimum(iou[start:stop], of_boundaries[row, column])
        kept = iou >= least
        yield place[kept], object_[kept], iou[kept]


def _mask_iou(
    result: NDArray[np.int64],
    object_: NDArray[np.int64],
    objects: Objects,
    results: ResultTable,
    change: Callable[[Rle], Rle] = lambda rle: rle,
) -> NDArray[np.float64]:
    """Of masks of one image, each with each, after a change; float64 [detections, objects]."""
    found: Any = [change(rle) for rle in results.masks(result.tolist())]
    truth: Any = [change(objects.masks[number]) for number in object_.tolist()]
    return np.asarray(coco_mask.iou(found, truth, objects.crowd[object_].tolist()))


def _chunks(sizes: NDArray[np.int64]) -> Iterator[slice]:
    """Runs of things that hold a bounded number of pairs together, if each of them does.

    Args:
        sizes: int64 [N], pairs of each.
    """
    ends = np.cumsum(sizes)
    cuts = np.searchsorted(ends, np.arange(_PAIRS_AT_ONCE, int(sizes.sum()), _PAIRS_AT_ONCE), side="right")
    yield from (slice(start, stop) for start, stop in pairwise(np.unique([0, *cuts.tolist(), len(sizes)]).tolist()))


_SIDES: tuple[Literal["left", "right"], ...] = ("left", "right")
_NOTHING = (np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64), np.zeros(0))  # so that there is something to join


LEAST_IOU = 0.1  # what overlaps less is background to each other
_PAIRS_OF_AN_IMAGE = 2**20  # bounds the memory of one image


@dataclass(frozen=True)
class Overlaps:
    """Pairs of a detection and an object with an IoU of at least 0.1, in the order of the detections.

    A crowd region is paired with detections of its own category only, and its "IoU" is COCO's: the part of the
    detection that lies in it.

    Args:
        detection: int64 [P], row of ``Candidates``.
        object: int64 [P], row of ``Objects``.
        iou: float64 [P].
    """

    detection: NDArray[np.int64]
    object: NDArray[np.int64]
    iou: NDArray[np.float64]

    def where(self, chosen: NDArray[np.bool_]) -> "Overlaps":
        """Some of the pairs.

        Args:
            chosen: bool [P].
        """
        return Overlaps(self.detection[chosen], self.object[chosen], self.iou[chosen])


def find_overlaps(
    ground_truth: GroundTruth, results: ResultTable, objects: Objects, candidates: Candidates, iou_type: str
) -> Overlaps:
    """IoU as pycocotools has it.

    Args:
        ground_truth: with masks for ``"segm"``.
        results: the masks of the candidates.
        objects: of the ground truth.
        candidates: of the results.
        iou_type: ``"bbox"`` or ``"segm"``.
    """
    by_image = np.argsort(objects.image, kind="stable")
    images = len(ground_truth.images)
    first_object = np.searchsorted(objects.image[by_image], np.arange(images + 1)).tolist()
    first_row = np.searchsorted(candidates.image, np.arange(images + 1)).tolist()
    parts = []
    for image in range(images):
        mine = by_image[first_object[image] : first_object[image + 1]]
        if not len(mine):
            continue
        truth: Any = objects.boxes[mine]
        if iou_type == "segm":
            truth = [objects.masks[position] for position in mine.tolist()]
        crowd = objects.crowd[mine].tolist()
        step = max(1, _PAIRS_OF_AN_IMAGE // len(mine))
        for start in range(first_row[image], first_row[image + 1], step):
            rows = slice(start, min(start + step, first_row[image + 1]))
            found: Any = candidates.boxes[rows]
            if iou_type == "segm":
                found = [results.mask(position) for position in candidates.result[rows].tolist()]
            ious = np.asarray(coco_mask.iou(found, truth, crowd), dtype=np.float64)
            detection, number = np.nonzero(ious >= LEAST_IOU)
            parts.append((detection + start, mine[number], ious[detection, number]))
    detection, number, iou = (np.concatenate(column) for column in zip(*parts, strict=True)) if parts else _NO_OVERLAPS
    overlaps = Overlaps(detection, number, iou)
    same = candidates.category[detection] == objects.category[number]
    return overlaps.where(same | ~objects.ignored[number])


_NO_OVERLAPS = (np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.float64))
