"""The detections within the cap, in the order in which they are gone through: COCO's, or image by image."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from finemask.evaluation.groups import falling_levels, order_by, places_in_runs
from finemask.evaluation.objects import LARGEST_AREA
from finemask.evaluation.result_table import ResultTable


@dataclass(frozen=True)
class Candidates:
    """Detections as columns, D of them; images and categories are numbered as in ``ResultTable``.

    Args:
        result: int64 [D], position in the results.
        image: int64 [D].
        category: int64 [D].
        score: float64 [D].
        boxes: float64 [D, 4], xywh px.
        area: float64 [D], px², by which COCO sorts detections by size.
    """

    result: NDArray[np.int64]
    image: NDArray[np.int64]
    category: NDArray[np.int64]
    score: NDArray[np.float64]
    boxes: NDArray[np.float64]
    area: NDArray[np.float64]


@dataclass(frozen=True)
class Ranking(Candidates):
    """All that the cap keeps, grouped by category, best score first; equal ones by image, then as listed.

    Args:
        place: int64 [D], how many of the same image and category are better.
        by_image: int64 [D], the rows by image, then category, best first.
    """

    place: NDArray[np.int64]
    by_image: NDArray[np.int64]


def rank(results: ResultTable, max_detections: int) -> Ranking:
    """Puts the results in order.

    Args:
        results: may be empty.
        max_detections: cap on the detections of one image and category.
    """
    image, category, score = results.image, results.category, results.score
    boxes, areas = results.boxes_and_areas()
    order = order_by(category, falling_levels(score), image)
    image, category = image[order], category[order]
    by_image = order_by(image, category)  # within both the order stays
    cells = image[by_image] * (int(category.max(initial=0)) + 1) + category[by_image]
    place = np.empty(len(order), dtype=np.int64)
    place[by_image] = places_in_runs(cells)
    if place.max(initial=0) >= max_detections:
        kept = place < max_detections
        by_image = (np.cumsum(kept) - 1)[by_image[kept[by_image]]]
        order, image, category, place = order[kept], image[kept], category[kept], place[kept]
    return Ranking(order, image, category, score[order], boxes[order], areas[order], place, by_image)


def capped_candidates(results: ResultTable, max_detections: int) -> Candidates:
    """The same by image, best first; equal scores as they were listed. What COCO ignores for its size is left out.

    Args:
        results: all detections.
        max_detections: cap for one image and category.
    """
    ranking = rank(results, max_detections)
    order = order_by(ranking.image, falling_levels(ranking.score), ranking.result)
    rows = order[ranking.area[order] <= LARGEST_AREA]
    return Candidates(
        ranking.result[rows],
        ranking.image[rows],
        ranking.category[rows],
        ranking.score[rows],
        ranking.boxes[rows],
        ranking.area[rows],
    )
