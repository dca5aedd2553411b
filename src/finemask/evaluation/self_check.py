"""Ground truth as predictions: it must score 1.0, or the evaluation itself is at fault."""

from finemask.evaluation.ground_truth import GroundTruth
from finemask.types import CocoResult


def ground_truth_as_predictions(ground_truth: GroundTruth) -> list[CocoResult]:
    """A perfect detector's results: every object's own box and mask, score 1; crowd regions left out.

    Fed to a ``CocoEvaluator`` they give AP 1.0 for boxes and masks, unless an object has no pixel or a box
    without area, which nothing can find.
    """
    results = []
    for annotation in ground_truth.annotations:
        if annotation["iscrowd"]:
            continue
        result = CocoResult(
            image_id=annotation["image_id"],
            category_id=annotation["category_id"],
            bbox=list(annotation["bbox"]),
            score=1.0,
        )
        if "segmentation" in annotation:
            result["segmentation"] = annotation["segmentation"]
        results.append(result)
    return results
