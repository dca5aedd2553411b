"""The reference backend: COCOeval, with its tables and matches read off instead of its printed summary."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from pycocotools.cocoeval import COCOeval

from finemask.evaluation.ground_truth import GroundTruth, coco_object
from finemask.evaluation.quiet import quiet_pycocotools
from finemask.evaluation.result_table import ResultTable
from finemask.evaluation.scores import AREAS, CocoScores, Matches, detection_caps
from finemask.ops.rle import rle_area, rle_box_xywh
from finemask.types import CocoResult

# one row of Matches, in the order of its fields
_DETECTION = np.dtype(
    [
        ("result", np.int64),
        ("image_id", np.int64),
        ("category", np.int64),
        ("score", np.float64),
        ("is_true", np.bool_),
    ]
)


def evaluate(
    ground_truth: GroundTruth, results: ResultTable, iou_types: Sequence[str], max_detections: int
) -> dict[str, CocoScores]:
    """Runs COCOeval.

    Args:
        ground_truth: with masks if ``"segm"`` is among the types.
        results: may be empty.
        iou_types: any of ``"bbox"`` and ``"segm"``.
        max_detections: cap on the detections of one image and category.
    """
    return {
        iou_type: _evaluate(ground_truth, results, iou_type, max_detections, with_matches=iou_type == iou_types[-1])
        for iou_type in iou_types
    }


def _evaluate(
    ground_truth: GroundTruth, results: ResultTable, iou_type: str, max_detections: int, *, with_matches: bool
) -> CocoScores:
    detections = [as_loaded(result, number) for number, result in enumerate(results, start=1)]
    coco_eval: Any = COCOeval(
        ground_truth.to_coco(),
        coco_object(ground_truth, detections),
        "segm" if iou_type == "segm" else "bbox",
    )
    coco_eval.params.maxDets = detection_caps(max_detections)
    with quiet_pycocotools():
        coco_eval.evaluate()
        coco_eval.accumulate()
    return read_scores(coco_eval, with_matches=with_matches)


def read_scores(coco_eval: Any, *, with_matches: bool) -> CocoScores:
    """The tables of a COCOeval that has accumulated.

    Args:
        coco_eval: of detections with the ids 1, 2, ….
        with_matches: reads these too.
    """
    return CocoScores(
        category_ids=[int(id_) for id_ in coco_eval.params.catIds],
        max_dets=[int(cap) for cap in coco_eval.params.maxDets],
        precision=coco_eval.eval["precision"][..., -1],
        recall=coco_eval.eval["recall"],
        matches=_matches(coco_eval) if with_matches else None,
    )


def as_loaded(result: CocoResult, number: int) -> dict[str, Any]:
    """What ``COCO.loadRes`` makes of an entry, which decides which sizes it counts for.

    Args:
        result: an entry of a results file.
        number: the id it gets, from 1.
    """
    detection: dict[str, Any] = {**result, "id": number, "iscrowd": 0}
    if "bbox" in detection:
        detection["area"] = detection["bbox"][2] * detection["bbox"][3]
    else:
        detection["area"] = rle_area(result["segmentation"])
        detection["bbox"] = rle_box_xywh(result["segmentation"])
    return detection


def _matches(coco_eval: Any) -> Matches:
    images, categories = len(coco_eval.params.imgIds), len(coco_eval.params.catIds)
    parts = []
    positives = np.zeros(categories, dtype=np.int64)
    for category in range(categories):
        # evalImgs runs over categories, then areas ("all" first), then images
        start = category * len(AREAS) * images
        for image in coco_eval.evalImgs[start : start + images]:
            if image is None:  # neither objects nor detections of this category
                continue
            positives[category] += np.count_nonzero(np.asarray(image["gtIgnore"]) == 0)
            counts = ~image["dtIgnore"][0]
            ids = np.asarray(image["dtIds"], dtype=np.int64)[counts]
            part = np.zeros(len(ids), dtype=_DETECTION)
            part["result"] = ids - 1
            part["image_id"] = image["image_id"]
            part["category"] = category
            part["score"] = np.asarray(image["dtScores"], dtype=np.float64)[counts]
            part["is_true"] = image["dtMatches"][0][counts] > 0
            parts.append(part)
    table = np.concatenate([np.zeros(0, dtype=_DETECTION), *parts])
    return Matches(**{name: table[name].copy() for name in _DETECTION.names or ()}, positives=positives)
