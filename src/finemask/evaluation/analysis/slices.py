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

from finemask.evaluation.analysis.class_matching import Assignment, match_own_category, mean_average_precision
from finemask.evaluation.ground_truth import GroundTruth
from finemask.evaluation.objects import Objects

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


def find_slices(assignment: Assignment, ground_truth: GroundTruth) -> list[Slice]:
    """All slices that hold an object.

    Args:
        assignment: all detections.
        ground_truth: for the sizes of the images and the slices it names.
    """
    objects = assignment.objects
    slices = [
        *_by_size(assignment),
        *_by_crowding(assignment),
        *_by_border(assignment, ground_truth),
        *_by_image(assignment, ground_truth),
    ]
    return [found for found in slices if (found.objects & ~objects.ignored).any()]


def slice_table(assignment: Assignment, slices: list[Slice], threshold: float | None) -> list[dict[str, Any]]:
    """What ``metrics.json`` holds of them: number of objects, recall at the threshold, AP50.

    Args:
        assignment: all detections, matched at the IoU of the operating point.
        slices: of it.
        threshold: score from which a detection finds an object; None: none does.
    """
    objects, candidates, found_by = assignment.objects, assignment.candidates, assignment.found_by
    score = np.append(candidates.score, -np.inf)[found_by]
    is_found = (found_by >= 0) & (threshold is not None) & (score >= (threshold or 0))
    table = []
    for found in slices:
        wanted = found.objects & ~objects.ignored
        number = int(wanted.sum())
        table.append(
            {
                "kind": found.kind,
                "name": found.name,
                "ground_truths": number,
                "recall": float(is_found[wanted].sum() / number) if number else None,
                "AP": _ap50(assignment, found),
            }
        )
    return table


def _ap50(assignment: Assignment, found: Slice) -> float | None:
    objects, candidates = assignment.objects, assignment.candidates
    ignored = objects.ignored | ~found.objects
    matched = match_own_category(objects, candidates, assignment.overlaps, ignored)
    is_true = (matched >= 0) & ~ignored[matched] if len(ignored) else matched >= 0
    rows = is_true | ((matched < 0) & found.detections)
    positives = np.bincount(objects.category[~ignored], minlength=assignment.categories)
    return mean_average_precision(candidates.category[rows], candidates.score[rows], is_true[rows], positives)


def _by_size(assignment: Assignment) -> Iterator[Slice]:
    for name, low, high in SIZES:
        inside = [(low**2 <= area) & (area < high**2) for area in (assignment.objects.area, assignment.candidates.area)]
        yield Slice("size", name, *inside)


def _by_crowding(assignment: Assignment) -> Iterator[Slice]:
    """By the largest IoU of an object's box with another's; a false detection goes with what it overlaps most."""
    crowding = _neighbour_iou(assignment.objects)
    pairs = assignment.overlaps.where(~assignment.objects.ignored[assignment.overlaps.object])
    of_detection = np.zeros(len(assignment.candidates.score))  # one that overlaps nothing stands apart too
    order = np.argsort(pairs.iou, kind="stable")
    of_detection[pairs.detection[order]] = crowding[pairs.object[order]]
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


def _by_border(assignment: Assignment, ground_truth: GroundTruth) -> Iterator[Slice]:
    """By whether the box comes within a pixel of the image's edge, where the object may go on."""
    sizes = np.array([ground_truth.images[id_][1:3] for id_ in sorted(ground_truth.images)], dtype=np.float64)
    if not sizes.all():
        return  # the file does not say how large the images are
    touches = []
    for columns in (assignment.objects, assignment.candidates):
        x, y, width, height = columns.boxes.T
        image_height, image_width = sizes[columns.image].T
        low, high = np.minimum(x, y), np.minimum(image_width - x - width, image_height - y - height)
        touches.append(np.minimum(low, high) < _BORDER_PX)
    yield Slice("border", "at the image border", *touches)
    yield Slice("border", "inside the image", *(~touch for touch in touches))


def _by_image(assignment: Assignment, ground_truth: GroundTruth) -> Iterator[Slice]:
    """By the number of objects in the image, and by what the file has under ``slice`` of its images."""
    objects, candidates = assignment.objects, assignment.candidates
    numbers = np.bincount(objects.image[~objects.ignored], minlength=len(ground_truth.images))
    for name, low, high in (*_NUMBERS, ("over 100 objects", 101, np.inf)):
        inside = (low <= numbers) & (numbers <= high)
        yield Slice("image", name, inside[objects.image], inside[candidates.image])
    named = np.array([ground_truth.images[id_].slice for id_ in sorted(ground_truth.images)])
    sizes = Counter(named[objects.image[~objects.ignored]].tolist())
    for name in sorted(name for name, _ in sizes.most_common(_MOST_NAMED) if name):
        inside = named == name
        yield Slice("image", name, inside[objects.image], inside[candidates.image])
