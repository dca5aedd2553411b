"""The ground truth as columns, images and categories numbered as in ``ResultTable``."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from finemask.evaluation.ground_truth import GroundTruth

LARGEST_AREA = 1e10
"""px². COCO's size "all" ends here, and what is larger is ignored."""


@dataclass(frozen=True)
class Objects:
    """The annotations in the order of the file; G of them.

    Args:
        image: int64 [G].
        category: int64 [G].
        boxes: float64 [G, 4], xywh px.
        area: float64 [G], px².
        crowd: bool [G].
        ignored: bool [G], not to be found: crowd regions, and areas that are none.
        masks: G RLEs; None where an annotation has no segmentation.
    """

    image: NDArray[np.int64]
    category: NDArray[np.int64]
    boxes: NDArray[np.float64]
    area: NDArray[np.float64]
    crowd: NDArray[np.bool_]
    ignored: NDArray[np.bool_]
    masks: list[Any]


def object_columns(ground_truth: GroundTruth) -> Objects:
    """The annotations as columns."""
    images = {id_: position for position, id_ in enumerate(sorted(ground_truth.images))}
    categories = {id_: position for position, id_ in enumerate(sorted(c.id for c in ground_truth.categories))}
    annotations = ground_truth.annotations
    area = np.array([a["area"] for a in annotations], dtype=np.float64)
    crowd = np.array([a["iscrowd"] for a in annotations], dtype=np.bool_)
    return Objects(
        image=np.array([images[a["image_id"]] for a in annotations], dtype=np.int64),
        category=np.array([categories[a["category_id"]] for a in annotations], dtype=np.int64),
        boxes=np.array([a["bbox"] for a in annotations], dtype=np.float64).reshape(-1, 4),
        area=area,
        crowd=crowd,
        ignored=crowd | (area < 0) | (area > LARGEST_AREA),
        masks=[a.get("segmentation") for a in annotations],
    )
