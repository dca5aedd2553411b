"""Recall and AP50 of some of the objects or images: by size, crowding, truncation, images.

The AP of a slice follows COCO's rule for sizes: objects outside are ignored, and so is a detection that found one, or
found nothing and does not itself belong to the slice.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from finemask.evaluation.ground_truth import GroundTruth, Objects
from finemask.evaluation.numbers.coco_numbers import mean_average_precision
from finemask.evaluation.numbers.match_table import MatchTable
from finemask.evaluation.numbers.overlaps import LEAST_IOU, Overlaps

SIZES = (("under 16 px", 0, 16), ("16 to 32 px", 16, 32), ("32 to 96 px", 32, 96), ("over 96 px", 96, np.inf))
CROWDINGS = (
    ("apart", 0.0, 0.0),
    ("boxes overlap, IoU under 0.2", 0.0, 0.2),
    ("boxes overlap, IoU 0.2 to 0.5", 0.2, 0.5),
    ("boxes overlap, IoU over 0.5", 0.5, np.inf),
)
_NUMBERS = (("1 to 5 objects", 1, 5), ("6 to 20 objects", 6, 20), ("21 to 100 objects", 21, 100))
_BORDER_PX = 1.0
_MOST_NAMED = 20  # slices that the file names: beyond, the ones with the fewest objects are left out
_PAIRS_AT_ONCE = 2**20


@dataclass(frozen=True)
class Slice:
    """Some of the objects, and the false detections that go with them.

    Args:
        kind: ``"size"``, ``"crowding"``, ``"border"`` or ``"image"``.
        name: in words.
        objects: bool [G]; crowd regions do not matter.
        detections: bool [D], which count if they found nothing.
    """

    kind: str
    name: str
    objects: NDArray[np.bool_]
    detections: NDArray[np.bool_]


def find_slices(table: MatchTable, cross_class: Overlaps, ground_truth: GroundTruth) -> list[Slice]:
    """All slices that hold an object.

    Args:
        table: at IoU 0.5.
        cross_class: overlaps of its detections with objects of other classes.
        ground_truth: for the sizes of the images and the slices it names.
    """
    slices = [
        *_by_size(table),
        *_by_crowding(table, cross_class),
        *_by_border(table, ground_truth),
        *_by_image(table, ground_truth),
    ]
    return [found for found in slices if (found.objects & ~table.objects.ignored).any()]


def slice_table(
    table: MatchTable, at_point: MatchTable, slices: list[Slice], threshold: float | None
) -> list[dict[str, Any]]:
    """What ``metrics.json`` holds of them: number of objects, recall at the threshold, AP50.

    Args:
        table: at IoU 0.5.
        at_point: at the IoU of the operating point.
        slices: of the table.
        threshold: score from which a detection finds an object; None: none does.
    """
    score = np.append(table.detections.score, -np.inf)[at_point.found_by()]
    is_found = score >= (np.inf if threshold is None else threshold)
    wanted = [found.objects & table.wanted[0] for found in slices]
    within = [found.detections & table.within[0] for found in slices]
    matched = table.for_sets(np.array(wanted), np.array(within)) if slices else table
    rows = []
    for number, found in enumerate(slices):
        counts, objects = matched.counts(area=number), int(wanted[number].sum())
        category, is_true = table.detections.category[counts], matched.is_true(area=number)[counts]
        rows.append(
            {
                "kind": found.kind,
                "name": found.name,
                "ground_truths": objects,
                "recall": float(is_found[wanted[number]].sum() / objects),
                "AP": mean_average_precision(category, is_true, matched.positives(number)),
            }
        )
    return rows


def _by_size(table: MatchTable) -> Iterator[Slice]:
    for name, low, high in SIZES:
        inside = [(low**2 <= area) & (area < high**2) for area in (table.objects.area, table.detections.area)]
        yield Slice("size", name, *inside)


def _by_crowding(table: MatchTable, cross_class: Overlaps) -> Iterator[Slice]:
    """By the largest IoU of an object's box with another's; a false detection goes with what it overlaps most."""
    crowding = _neighbour_iou(table.objects)
    number, own = len(table.detections.score), table.overlaps.at_least(LEAST_IOU)
    iou, object_ = own.where(~table.objects.ignored[own.object]).largest(number)
    other_iou, other = cross_class.at_least(LEAST_IOU).largest(number)
    is_other = (other_iou > iou) | ((other_iou == iou) & (other > object_))
    # one that overlaps nothing stands apart too
    of_detection = np.append(crowding, 0.0)[np.where(is_other, other, object_)]
    for name, low, high in CROWDINGS:
        inside = [
            value == 0 if high == 0 else (value >= low) & (value > 0) & (value < high)
            for value in (crowding, of_detection)
        ]
        yield Slice("crowding", name, *inside)


def _neighbour_iou(objects: Objects) -> NDArray[np.float64]:
    """The largest IoU of each object's box with that of another in the image, crowd regions left out, float64 [G]."""
    largest = np.zeros(len(objects.image))
    shown = np.flatnonzero(~objects.crowd)
    shown = shown[np.argsort(objects.image[shown], kind="stable")]
    for mine in np.split(shown, np.flatnonzero(np.diff(objects.image[shown])) + 1):
        boxes: Any = objects.boxes[mine]
        step = max(1, _PAIRS_AT_ONCE // max(len(mine), 1))
        for start in range(0, len(mine), step) if len(mine) > 1 else ():
            rows = boxes[start : start + step]
            ious = np.array(coco_mask.iou(rows, boxes, [0] * len(mine)), dtype=np.float64)
            own = np.arange(len(rows))
            ious[own, own + start] = 0
            largest[mine[start : start + step]] = ious.max(axis=1)
    return largest


def _by_border(table: MatchTable, ground_truth: GroundTruth) -> Iterator[Slice]:
    """By whether the box comes within a pixel of the image's edge, where the object may go on."""
    sizes = np.array([ground_truth.images[id_][1:3] for id_ in sorted(ground_truth.images)], dtype=np.float64)
    if not sizes.all():
        return  # the file does not say how large the images are
    touches = []
    for columns in (table.objects, table.detections):
        x, y, width, height = columns.boxes.T
        image_height, image_width = sizes[columns.image].T
        low, high = np.minimum(x, y), np.minimum(image_width - x - width, image_height - y - height)
        touches.append(np.minimum(low, high) < _BORDER_PX)
    yield Slice("border", "at the image border", *touches)
    yield Slice("border", "inside the image", *(~touch for touch in touches))


def _by_image(table: MatchTable, ground_truth: GroundTruth) -> Iterator[Slice]:
    """By the number of objects in the image, and by what the file has under ``slice`` of its images."""
    objects, detections = table.objects, table.detections
    numbers = np.bincount(objects.image[~objects.ignored], minlength=len(ground_truth.images))
    for name, low, high in (*_NUMBERS, ("over 100 objects", 101, np.inf)):
        inside = (low <= numbers) & (numbers <= high)
        yield Slice("image", name, inside[objects.image], inside[detections.image])
    named = np.array([ground_truth.images[id_].slice for id_ in sorted(ground_truth.images)])
    sizes = Counter(named[objects.image[~objects.ignored]].tolist())
    for name in sorted(name for name, _ in sizes.most_common(_MOST_NAMED) if name):
        inside = named == name
        yield Slice("image", name, inside[objects.image], inside[detections.image])
