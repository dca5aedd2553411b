"""Ground truth and results as arrays: what a backend without a Python loop over detections works on.

G annotations, D detections. Images and categories are numbered 0, 1, … in the ascending order of their ids, which is
the order in which pycocotools goes through them.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from operator import itemgetter

import numpy as np
from numpy.typing import NDArray

from finemask.evaluation.ground_truth import GroundTruth
from finemask.ops.rle import rle_area, rle_box_xywh
from finemask.types import CocoResult, Rle


@dataclass(frozen=True)
class Columns:
    """Annotations or detections, one entry a row.

    Args:
        image: int64 [N], position among the ascending image ids.
        category: int64 [N], position among the ascending category ids.
        boxes: float64 [N, 4], xywh px.
        area: float64 [N], px², by which pycocotools sorts them into small, medium and large.
        segmentation: of each row; None where there is none.
    """

    image: NDArray[np.int64]
    category: NDArray[np.int64]
    boxes: NDArray[np.float64]
    area: NDArray[np.float64]
    segmentation: list[Rle | None]

    def cells(self, categories: int) -> NDArray[np.int64]:
        """int64 [N], one number for each pair of image and category: only within it can anything match."""
        return self.image * categories + self.category


def ground_truth_columns(ground_truth: GroundTruth) -> Columns:
    """The annotations as columns, in their order."""
    annotations = ground_truth.annotations
    return Columns(
        image=_positions([a["image_id"] for a in annotations], sorted(ground_truth.images)),
        category=_positions([a["category_id"] for a in annotations], _category_ids(ground_truth)),
        boxes=_boxes([a["bbox"] for a in annotations]),
        area=np.array([a["area"] for a in annotations], dtype=np.float64),
        segmentation=[a.get("segmentation") for a in annotations],
    )


def result_columns(ground_truth: GroundTruth, results: Sequence[CocoResult]) -> Columns:
    """The detections as columns, in their order.

    An entry without a box has that of its mask, and its area is the mask's; with a box, its area is the box's, whatever
    is evaluated. That is what ``COCO.loadRes`` makes of them.
    """
    boxless = [number for number, result in enumerate(results) if "bbox" not in result]
    rles = {number: results[number]["segmentation"] for number in boxless}
    boxes = _boxes(
        [rle_box_xywh(rles[number]) if number in rles else result["bbox"] for number, result in enumerate(results)]
        if rles
        else map(itemgetter("bbox"), results)
    )
    area = boxes[:, 2] * boxes[:, 3]
    for number, rle in rles.items():
        area[number] = rle_area(rle)
    return Columns(
        image=_positions(map(itemgetter("image_id"), results), sorted(ground_truth.images)),
        category=_positions(map(itemgetter("category_id"), results), _category_ids(ground_truth)),
        boxes=boxes,
        area=area,
        segmentation=[result.get("segmentation") for result in results],
    )


def _category_ids(ground_truth: GroundTruth) -> list[int]:
    return sorted(category.id for category in ground_truth.categories)


def _positions(ids: Iterable[int], known: Sequence[int]) -> NDArray[np.int64]:
    # through a dict: an id of the file may be any whole number, beyond what an int64 holds too
    return np.fromiter(map({id_: position for position, id_ in enumerate(known)}.__getitem__, ids), dtype=np.int64)


def _boxes(boxes: Iterable[Sequence[float]]) -> NDArray[np.float64]:
    return np.fromiter(chain.from_iterable(boxes), dtype=np.float64).reshape(-1, 4)
