"""How far an AP would be another on other images: a standard error from leaving out groups of images."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from finemask.evaluation import fast_backend
from finemask.evaluation.ground_truth import GroundTruth
from finemask.evaluation.result_table import ResultTable
from finemask.evaluation.results import check_results
from finemask.evaluation.scores import summarize
from finemask.types import CocoResult

GROUPS = 10


def jackknife_error(
    ground_truth: GroundTruth,
    results: Sequence[CocoResult],
    iou_type: str,
    key: str,
    max_detections: int,
    *,
    groups: int = GROUPS,
    seed: int = 0,
) -> float | None:
    """Standard error of one of COCO's numbers over the choice of images.

    The delete-a-group jackknife (Kott 2001): the images are split at random into groups, the number is computed
    without each of them, and the variance is (g - 1) / g times the sum of squares around their mean.

    Args:
        ground_truth: of the split.
        results: of a model on all of its images.
        iou_type: ``"bbox"`` or ``"segm"``.
        key: ``"AP"``, ``"AP50"``, …
        max_detections: as in the evaluation itself.
        groups: g; as many as images where there are fewer.
        seed: of the split.

    Returns:
        None where there are fewer than two images, or where the number cannot be computed without some group.
    """
    ids = np.array(list(ground_truth.images))
    groups = min(groups, len(ids))
    if groups < 2:
        return None
    shuffled = np.random.default_rng(seed).permutation(ids)
    by_image: dict[int, list[CocoResult]] = defaultdict(list)
    for result in check_results(results, ground_truth, (iou_type,)):
        by_image[result["image_id"]].append(result)
    values: list[float | None] = []
    for group in range(groups):
        left_out = set(shuffled[group::groups].tolist())
        kept = _without(ground_truth, left_out)
        table = ResultTable(kept, [result for image_id in kept.images for result in by_image[image_id]])
        scores = fast_backend.evaluate(kept, table, (iou_type,), max_detections)  # the run has cross-checked it
        values.append(summarize(scores[iou_type])[key])
    if any(value is None for value in values):
        return None
    known = np.array(values, dtype=np.float64)
    return float(np.sqrt((groups - 1) / groups * ((known - known.mean()) ** 2).sum()))


def _without(ground_truth: GroundTruth, left_out: set[int]) -> GroundTruth:
    rows: list[tuple[dict[str, Any], Any]] = [
        pair
        for pair in zip(ground_truth.annotations, ground_truth.annotation_ids, strict=True)
        if pair[0]["image_id"] not in left_out
    ]
    return replace(
        ground_truth,
        images={image_id: image for image_id, image in ground_truth.images.items() if image_id not in left_out},
        annotations=[{**annotation, "id": number} for number, (annotation, _) in enumerate(rows, start=1)],
        annotation_ids=[annotation_id for _, annotation_id in rows],
    )
