"""IoU of detections with the objects of their image, as pycocotools has it: of boxes, masks and boundaries.

COCO's numbers take objects of the detection's own category only, and nothing is computed of a detection whose image has
none: with many categories, of nine in ten. To say why a detection is wrong takes the other categories too.
G objects, D detections in the rows of a ranking, P pairs.

Boundary AP (Cheng et al. 2021, arXiv 2103.16562) says how well the outlines fit, of large objects too. IoU counts
pixels, and most pixels of a large object are inside, where nothing can go wrong. Boundary IoU counts only those within
a few pixels of each mask's outline; the smaller of the two takes the place of IoU in COCO's rules.
"""

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from finemask.evaluation.ground_truth import Objects
from finemask.evaluation.numbers.ranking import RankedDetections, order_by, run_starts, spread
from finemask.evaluation.result_table import ResultTable
from finemask.ops.rle import crop_to_rle, rle_to_crop
from finemask.types import Rle

LEAST_IOU = 0.1
"""What overlaps less is background to each other."""

_PAIRS_AT_ONCE = 2**18  # bounds the memory
_TOGETHER = 100  # detections of a crowded image that are looked at together, more or less
_BOUNDARY_WIDTH = 0.02  # of the image's diagonal
_SQUARE = np.ones((3, 3), dtype=np.uint8)


@dataclass(frozen=True)
class Overlaps:
    """Pairs of a detection and an object of its image that overlap by the least IoU or more; P of them.

    Args:
        detection: int64 [P], row of the ranking, ascending.
        object: int64 [P]; those of a detection by their IoU, of equal ones the later last, which COCO takes.
        iou: float64 [P].
        least: the IoU.
    """

    detection: NDArray[np.int64]
    object: NDArray[np.int64]
    iou: NDArray[np.float64]
    least: float

    def at_least(self, iou: float) -> "Overlaps":
        """The pairs of that IoU or more.

        Args:
            iou: not below the least of these pairs.
        """
        if iou < self.least:
            raise ValueError(f"pairs below an IoU of {self.least} were not looked for")
        return replace(self.where(self.iou >= iou), least=iou)

    def where(self, chosen: NDArray[np.bool_]) -> "Overlaps":
        """Some of the pairs.

        Args:
            chosen: bool [P].
        """
        return Overlaps(self.detection[chosen], self.object[chosen], self.iou[chosen], self.least)

    def renumbered(self, numbers: NDArray[np.int64]) -> "Overlaps":
        """The same pairs, with the detections in another order.

        Args:
            numbers: int64 [D], the new number of each.
        """
        return _joined([(numbers[self.detection], self.object, self.iou)], self.least)

    def largest(self, detections: int) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """The largest IoU of each detection, float64 [D], 0 for none; and with which object, int64 [D], -1 for none.

        Args:
            detections: D.
        """
        iou, partner = np.zeros(detections), np.full(detections, -1, dtype=np.int64)
        last = np.flatnonzero(np.append(np.diff(self.detection) != 0, True)[: len(self.detection)])
        iou[self.detection[last]], partner[self.detection[last]] = self.iou[last], self.object[last]
        return iou, partner


def find_overlaps(
    detections: RankedDetections, objects: Objects, results: ResultTable, iou_type: str, least: float
) -> Overlaps:
    """All pairs of one category; the "IoU" with a crowd region is the detection's part inside.

    Args:
        detections: of the results.
        objects: of the ground truth, with masks unless boxes are compared.
        results: for the masks.
        iou_type: ``"bbox"`` or ``"segm"``.
        least: the IoU, above 0.
    """
    everything = np.arange(len(objects.image))
    pairs = _joined(_pairs(detections, objects, results, everything, iou_type, least, by_category=True), least)
    return pairs.where(detections.category[pairs.detection] == objects.category[pairs.object])


def find_cross_class_overlaps(
    detections: RankedDetections, objects: Objects, results: ResultTable, iou_type: str, least: float
) -> Overlaps:
    """All pairs of two categories, without crowd regions and other objects that are ignored; arguments as before."""
    shown = np.flatnonzero(~objects.ignored)
    pairs = _joined(_pairs(detections, objects, results, shown, iou_type, least, by_category=False), least)
    return pairs.where(detections.category[pairs.detection] != objects.category[pairs.object])


def boundary_overlaps(
    overlaps: Overlaps, detections: RankedDetections, objects: Objects, results: ResultTable
) -> Overlaps:
    """Pairs of masks with the smaller of mask IoU and boundary IoU. No other mask's boundary is ever made.

    Args:
        overlaps: of the masks.
        detections: of the results.
        objects: of the ground truth.
        results: for the masks.
    """
    order = np.argsort(detections.image[overlaps.detection], kind="stable")
    detection, object_, iou = overlaps.detection[order], overlaps.object[order], overlaps.iou[order]
    for start, stop in pairwise([*run_starts(detections.image[detection]).tolist(), len(order)]):
        rows, row = np.unique(detection[start:stop], return_inverse=True)
        theirs, column = np.unique(object_[start:stop], return_inverse=True)
        of_boundaries = _mask_iou(detections.result[rows], theirs, objects, results, boundary_rle)
        iou[start:stop] = np.minimum(iou[start:stop], of_boundaries[row, column])
    kept = iou >= overlaps.least
    return _joined([(detection[kept], object_[kept], iou[kept])], overlaps.least)


_Pairs = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]  # detections, objects, IoU


def _joined(parts: Iterable[_Pairs], least: float) -> Overlaps:
    nothing = np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64), np.zeros(0)
    detection, object_, iou = (np.concatenate(column) for column in zip(nothing, *parts, strict=True))
    order = np.lexsort((object_, iou, detection))
    return Overlaps(detection[order], object_[order], iou[order], least)


def _pairs(
    detections: RankedDetections,
    objects: Objects,
    results: ResultTable,
    shown: NDArray[np.int64],
    iou_type: str,
    least: float,
    *,
    by_category: bool,
) -> Iterator[_Pairs]:
    """Pairs of one image, a bounded number at a time, in any order; of one category all, of two perhaps some.

    ``shown``, int64, are the objects that are looked at; ``by_category`` leaves out detections without any object of
    their category in the image.
    """
    by_image = shown[order_by(objects.image[shown], objects.category[shown])]
    of_objects, of_detections = objects.image[by_image], detections.image[detections.by_image]
    if by_category:
        categories = 1 + int(max(detections.category.max(initial=0), objects.category.max(initial=0)))
        of_objects = of_objects * categories + objects.category[by_image]
        of_detections = of_detections * categories + detections.category[detections.by_image]
    group, first, number = np.unique(of_objects, return_index=True, return_counts=True)
    which = np.searchsorted(group, of_detections)
    has_objects = np.append(group, -1)[which] == of_detections
    row, which = detections.by_image[has_objects], which[has_objects]
    if iou_type == "bbox":
        is_crowded = number[which] * np.bincount(which, minlength=len(group))[which] > _PAIRS_AT_ONCE
        few, of_few = row[~is_crowded], which[~is_crowded]
        for chunk in _chunks(number[of_few]):
            place, inside = spread(number[of_few[chunk]])
            detection, object_ = few[chunk][place], by_image[first[of_few[chunk]][place] + inside]
            iou = box_iou(detections.boxes[detection], objects.boxes[object_], objects.crowd[object_])
            kept = iou >= least
            yield detection[kept], object_[kept], iou[kept]
        for crowded in np.unique(which[is_crowded]).tolist():
            mine, theirs = row[which == crowded], by_image[first[crowded] : first[crowded] + number[crowded]]
            for some, near in _neighbours(detections.boxes[mine], objects.boxes[theirs]):
                detection, object_ = np.repeat(mine[some], len(near)), np.tile(theirs[near], len(some))
                iou = box_iou(detections.boxes[detection], objects.boxes[object_], objects.crowd[object_])
                kept = iou >= least
                yield detection[kept], object_[kept], iou[kept]
        return
    # a call for each category would take longer than the pairs it saves
    for mine, theirs in _by_image(row, detections.image[row], by_image, objects.image[by_image]):
        blocks: Iterable[tuple[NDArray[np.int64], NDArray[np.int64]]] = [(mine, theirs)]
        if len(mine) * len(theirs) > _PAIRS_AT_ONCE:
            # Of the masks, whatever a file says the boxes are.
            of_results: Any = results.masks(detections.result[mine].tolist())
            found = coco_mask.toBbox(of_results)
            masks: Any = [objects.masks[number] for number in theirs.tolist()]
            truth = coco_mask.toBbox(masks)
            blocks = ((mine[some], theirs[near]) for some, near in _neighbours(found, truth))
        for some, near in blocks:
            ious = _mask_iou(detections.result[some], near, objects, results)
            one, other = np.nonzero(ious >= least)
            yield some[one], near[other], ious[one, other]


def _by_image(
    row: NDArray[np.int64],
    of_detections: NDArray[np.int64],
    object_: NDArray[np.int64],
    of_objects: NDArray[np.int64],
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """The detections of an image beside its objects.

    Args:
        row: int64 [N], of the ranking.
        of_detections: int64 [N], the image of each, ascending.
        object_: int64 [M].
        of_objects: int64 [M], the image of each, ascending; every image of a detection has objects.
    """
    begins = run_starts(of_detections)
    images = of_detections[begins]
    starts, stops = np.searchsorted(of_objects, images), np.searchsorted(of_objects, images, side="right")
    bounds = pairwise([*begins.tolist(), len(of_detections)])
    for (begin, end), start, stop in zip(bounds, starts.tolist(), stops.tolist(), strict=True):
        yield row[begin:end], object_[start:stop]


def _neighbours(
    found: NDArray[np.float64], truth: NDArray[np.float64]
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Detections that stand together, beside all objects that one of them could touch: what a crowded image needs.

    A mosaic of 10,000 objects has 10,000 times as many pairs, and in nearly all of them the two lie far apart.

    Args:
        found: boxes xywh float64 [D, 4], px, of one image.
        truth: boxes xywh float64 [G, 4], px.

    Yields:
        int64, int64: numbers of detections, a bounded number of pairs at a time, and of objects.
    """
    begin, end = truth[:, :2], truth[:, :2] + truth[:, 2:]
    middle = found[:, :2] + found[:, 2:] / 2
    extent = np.ptp(middle, axis=0)
    cells = np.floor((middle - middle.min(axis=0)) / max(1.0, math.sqrt(extent.prod() * _TOGETHER / len(found))))
    order = np.lexsort((cells[:, 0], cells[:, 1]))
    cell = cells[order, 1] * (cells[:, 0].max() + 1) + cells[order, 0]
    for start, stop in pairwise([*run_starts(cell.astype(np.int64)).tolist(), len(order)]):
        together = order[start:stop]
        lowest, highest = found[together, :2].min(axis=0), (found[together, :2] + found[together, 2:]).max(axis=0)
        near = np.flatnonzero(((begin < highest) & (end > lowest)).all(axis=1))
        step = max(1, _PAIRS_AT_ONCE // max(1, len(near)))
        for at in range(0, len(together) if len(near) else 0, step):
            yield together[at : at + step], near


def _chunks(sizes: NDArray[np.int64]) -> Iterator[slice]:
    """Runs of things that hold a bounded number of pairs together, if each of them does.

    Args:
        sizes: int64 [N], pairs of each.
    """
    ends = np.cumsum(sizes)
    cuts = np.searchsorted(ends, np.arange(_PAIRS_AT_ONCE, int(sizes.sum()), _PAIRS_AT_ONCE), side="right")
    yield from (slice(start, stop) for start, stop in pairwise(np.unique([0, *cuts.tolist(), len(sizes)]).tolist()))


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


def _mask_iou(
    result: NDArray[np.int64],
    object_: NDArray[np.int64],
    objects: Objects,
    results: ResultTable,
    change: Callable[[Rle], Rle] | None = None,
) -> NDArray[np.float64]:
    """Of masks of one image, each with each, after a change; float64 [detections, objects]."""
    found: Any = results.masks(result.tolist())
    truth: Any = [objects.masks[number] for number in object_.tolist()]
    if change is not None:
        found, truth = [change(rle) for rle in found], [change(rle) for rle in truth]
    return np.asarray(coco_mask.iou(found, truth, objects.crowd[object_].tolist()))


def boundary_width(height: int, width: int) -> int:
    """How far into a mask its boundary reaches: 2 % of the image's diagonal, at least 1 px.

    Args:
        height: of the image, px.
        width: of the image, px.
    """
    return max(1, round(_BOUNDARY_WIDTH * math.hypot(height, width)))


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
