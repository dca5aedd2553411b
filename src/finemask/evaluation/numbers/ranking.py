"""The detections within the cap, in the order in which COCO goes through them; and sorting and counting in groups."""

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from finemask.evaluation.result_table import ResultTable

_LARGEST_KEY = 2**62


@dataclass(frozen=True)
class RankedDetections:
    """Detections as columns, grouped by category, best score first; equal scores by image, then as listed.

    D detections; images and categories are numbered as in ``ResultTable``.

    Args:
        result: int64 [D], position in the results.
        image: int64 [D].
        category: int64 [D].
        score: float64 [D].
        boxes: float64 [D, 4], xywh px.
        area: float64 [D], px², by which COCO sorts detections by size.
        place: int64 [D], how many of the same image and category are better.
        by_image: int64 [D], the rows by image, then category, best first.
    """

    result: NDArray[np.int64]
    image: NDArray[np.int64]
    category: NDArray[np.int64]
    score: NDArray[np.float64]
    boxes: NDArray[np.float64]
    area: NDArray[np.float64]
    place: NDArray[np.int64]
    by_image: NDArray[np.int64]

    @property
    def image_category(self) -> NDArray[np.int64]:
        """One number for image and category together, int64 [D]."""
        return self.image * (int(self.category.max(initial=0)) + 1) + self.category

    def where(self, kept: NDArray[np.bool_]) -> "RankedDetections":
        """Some of them, with the places that they had.

        Args:
            kept: bool [D].
        """
        columns: list[Any] = [getattr(self, field.name)[kept] for field in fields(self)]
        columns[-1] = (np.cumsum(kept) - 1)[self.by_image[kept[self.by_image]]]
        return RankedDetections(*columns)

    def best_first_by_image(self) -> NDArray[np.int64]:
        """The rows by image, best score first whatever the category; equal scores as listed, int64 [D]."""
        return order_by(self.image, falling_levels(self.score), self.result)


def rank(results: ResultTable, max_detections: int) -> RankedDetections:
    """Puts the results in order.

    Args:
        results: may be empty.
        max_detections: cap on the detections of one image and category.
    """
    image, category, score = results.image, results.category, results.score
    boxes, areas = results.boxes_and_areas()
    order = order_by(category, falling_levels(score), image)
    image, category, place = image[order], category[order], np.empty(len(order), dtype=np.int64)
    by_image = order_by(image, category)  # within both the order stays
    ranked = RankedDetections(order, image, category, score[order], boxes[order], areas[order], place, by_image)
    place[by_image] = places_in_runs(ranked.image_category[by_image])
    return ranked if place.max(initial=0) < max_detections else ranked.where(place < max_detections)


def order_by(*columns: NDArray[np.int64]) -> NDArray[np.int64]:
    """Positions in the order of the first column, equal ones by the next, and at last as they were listed, int64 [N].

    Args:
        columns: int64 [N] each, none negative.
    """
    number = len(columns[0])
    largest = [int(column.max(initial=0)) + 1 for column in columns]
    if np.prod(largest, dtype=object) * max(number, 1) >= _LARGEST_KEY:
        return np.lexsort(columns[::-1])
    key = columns[0].copy()
    for column, size in zip(columns[1:], largest[1:], strict=True):
        key *= size
        key += column
    # Numbers that hold the position as well are all different: they need no stable sort, which takes ten times as long.
    key *= max(number, 1)
    key += np.arange(number)
    key.sort()
    key %= max(number, 1)
    return key


def falling_levels(score: NDArray[np.float64]) -> NDArray[np.int64]:
    """The place of each score among the different ones, 0 for the highest, int64 [N]."""
    order = np.argsort(-score)
    ranked = score[order]
    levels = np.empty(len(score), dtype=np.int64)
    levels[order] = np.cumsum(np.append(False, ranked[1:] != ranked[:-1])[: len(score)])
    return levels


def run_starts(groups: NDArray[np.int64]) -> NDArray[np.int64]:
    """Where runs of equal numbers begin, int64 [R]."""
    return np.flatnonzero(np.append(True, groups[1:] != groups[:-1])[: len(groups)])


def places_in_runs(groups: NDArray[np.int64]) -> NDArray[np.int64]:
    """How many stand before each element in its run of equal numbers, int64 [N]."""
    starts = run_starts(groups)
    return spread(np.diff(np.append(starts, len(groups))))[1]


def places_within(groups: NDArray[np.int64]) -> NDArray[np.int64]:
    """How many of the same group stand before each element, wherever, int64 [N]."""
    order = np.argsort(groups, kind="stable")
    places = np.empty(len(groups), dtype=np.int64)
    places[order] = places_in_runs(groups[order])
    return places


def spread(counts: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows that stand for several each: ``[2, 0, 3]`` gives ``[0, 0, 2, 2, 2]`` and ``[0, 1, 0, 1, 2]``.

    Args:
        counts: int64 [N], how many each stands for.
    """
    row = np.repeat(np.arange(len(counts)), counts)
    return row, np.arange(len(row)) - np.repeat(np.cumsum(counts) - counts, counts)
