"""Matching at one IoU of detections with objects of any class; and the AP that comes of it."""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from finemask.evaluation.numbers.coco_numbers import RECALLS
from finemask.evaluation.numbers.overlaps import Overlaps
from finemask.evaluation.numbers.ranking import Candidates, places_within
from finemask.evaluation.objects import Objects

FOREGROUND_IOU = 0.5


@dataclass(frozen=True)
class Assignment:
    """The detections beside what they found; D detections, G objects.

    Args:
        objects: all of them.
        candidates: the detections within the cap.
        overlaps: pairs of the two.
        matched: int64 [D], the object that each found, which may be an ignored one; -1 for none.
        categories: their number, K.
    """

    objects: Objects
    candidates: Candidates
    overlaps: Overlaps
    matched: NDArray[np.int64]
    categories: int

    @property
    def is_true(self) -> NDArray[np.bool_]:
        """Bool [D], whether it found an object that nothing better scored had found."""
        return (self.matched >= 0) & ~self.on_ignored

    @property
    def on_ignored(self) -> NDArray[np.bool_]:
        """Bool [D], neither right nor wrong: on a crowd region."""
        ignored = np.append(self.objects.ignored, False)  # for -1
        return np.asarray(ignored[self.matched])

    @property
    def found_by(self) -> NDArray[np.int64]:
        """Int64 [G], the detection that found each object; -1 for none."""
        found_by = np.full(len(self.objects.image), -1, dtype=np.int64)
        rows = np.flatnonzero(self.is_true)
        found_by[self.matched[rows]] = rows
        return found_by

    def positives(self) -> NDArray[np.int64]:
        """Objects to find, int64 [K]."""
        return np.bincount(self.objects.category[~self.objects.ignored], minlength=self.categories)


def assign(
    objects: Objects, candidates: Candidates, overlaps: Overlaps, categories: int, iou: float = FOREGROUND_IOU
) -> Assignment:
    """Matches detections with objects of their own category, as COCO does.

    Args:
        objects: of all images.
        candidates: of all images.
        overlaps: of the two.
        categories: their number.
        iou: from which a detection finds an object, at least 0.1.
    """
    matched = match_own_category(objects, candidates, overlaps, objects.ignored, iou)
    return Assignment(objects, candidates, overlaps, matched, categories)


def match_own_category(
    objects: Objects,
    candidates: Candidates,
    overlaps: Overlaps,
    ignored: NDArray[np.bool_],
    iou: float = FOREGROUND_IOU,
) -> NDArray[np.int64]:
    """The same with other objects ignored, as in COCO's numbers by size.

    Args:
        objects: of all images.
        candidates: of all images.
        overlaps: of the two.
        ignored: bool [G], taken only by a detection that can have nothing else.
        iou: from which a detection finds an object, at least 0.1.

    Returns:
        int64 [D], the object of each detection, -1 for none.
    """
    own = candidates.category[overlaps.detection] == objects.category[overlaps.object]
    pairs = overlaps.where(own & (overlaps.iou >= iou))
    cells = candidates.image * (int(candidates.category.max(initial=0)) + 1) + candidates.category
    return match_greedily(pairs, cells, ignored, objects.crowd)


def match_greedily(
    pairs: Overlaps, cells: NDArray[np.int64], ignored: NDArray[np.bool_], crowd: NDArray[np.bool_]
) -> NDArray[np.int64]:
    """Gives each detection, best first, what overlaps it most of what is left: an object, or else an ignored one.

    The detections that are first in their cells go together, then those that are second, and so on: a few array
    operations for all images instead of a loop over every detection.

    Args:
        pairs: that may be matched.
        cells: int64 [D], detections that compete with one another; in one cell the better ones stand first.
        ignored: bool [G].
        crowd: bool [G], which any number of detections may have.

    Returns:
        int64 [D], the object of each detection, -1 for none.
    """
    matched = np.full(len(cells), -1, dtype=np.int64)
    taken = np.zeros(len(crowd), dtype=np.bool_)
    rivals = np.unique(pairs.detection)
    turn = np.zeros(len(cells), dtype=np.int64)
    turn[rivals] = places_within(cells[rivals])
    # of equal overlaps COCO takes the later object
    order = np.lexsort((pairs.object, pairs.iou, ~ignored[pairs.object], pairs.detection, turn[pairs.detection]))
    detection, candidate = pairs.detection[order], pairs.object[order]
    turns = np.searchsorted(turn[detection], np.arange(int(turn.max(initial=0)) + 2)).tolist()
    for start, stop in pairwise(turns):
        if start == stop:
            continue
        who, what = detection[start:stop], candidate[start:stop]
        is_free = crowd[what] | ~taken[what]
        firsts = np.flatnonzero(np.diff(who, prepend=-1))
        best = np.maximum.reduceat(np.where(is_free, np.arange(len(who)), -1), firsts)
        best = best[best >= 0]
        matched[who[best]] = what[best]
        taken[what[best]] = True
    return matched


def average_precision(is_true: NDArray[np.bool_], positives: int) -> float:
    """Precision at COCO's 101 recall levels, on average.

    Args:
        is_true: bool [D], detections of one category, best first.
        positives: objects to find. Without any, nothing is left to find: 1, or 0 if there are false detections.
    """
    if not positives:
        return float(not len(is_true))
    true = np.cumsum(is_true)
    precision = true / np.arange(1, len(true) + 1)
    precision = np.maximum.accumulate(precision[::-1])[::-1]
    places = np.searchsorted(true / positives, RECALLS, side="left")
    return float(np.append(precision, 0.0)[places].mean())


def mean_average_precision(
    category: NDArray[np.int64],
    score: NDArray[np.float64],
    is_true: NDArray[np.bool_],
    positives: NDArray[np.int64],
    counted: NDArray[np.bool_] | None = None,
) -> float | None:
    """Mean AP of the categories; None if none of them has objects.

    Args:
        category: int64 [D], by image, best first, so that equal scores are ordered as COCO does.
        score: float64 [D].
        is_true: bool [D].
        positives: int64 [K], objects to find.
        counted: bool [K], the categories of the mean; by default those with objects.
    """
    counted = positives > 0 if counted is None else counted
    if not counted.any():
        return None
    order = np.lexsort((-score, category))
    is_true = is_true[order]
    bounds = np.searchsorted(category[order], np.arange(len(positives) + 1)).tolist()
    values = [
        average_precision(is_true[bounds[number] : bounds[number + 1]], int(positives[number]))
        for number in np.flatnonzero(counted).tolist()
    ]
    return float(np.mean(values))
