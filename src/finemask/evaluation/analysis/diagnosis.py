"""Where the loss is: error types, confusion, slices and advice of an evaluation, for ``metrics.json``."""

from collections.abc import Mapping, Sequence
from typing import Any

from finemask.evaluation.analysis.class_matching import FOREGROUND_IOU, assign
from finemask.evaluation.analysis.confusion_matrix import confusion_table
from finemask.evaluation.analysis.improvement_advice import Findings, detectable_gain, find_caps, give_advice
from finemask.evaluation.analysis.slices import find_slices, slice_table
from finemask.evaluation.analysis.tide_errors import error_table, find_errors
from finemask.evaluation.evaluator import CocoEvaluator
from finemask.evaluation.numbers.overlaps import LEAST_IOU, find_overlaps
from finemask.evaluation.numbers.ranking import capped_candidates
from finemask.evaluation.objects import object_columns


def analyse(
    evaluator: CocoEvaluator, ap50_interval: Sequence[float] | None = None, settings: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Looks at every detection beside every object of its image.

    Args:
        evaluator: with all detections added.
        ap50_interval: of the AP50 that the advice is about, if it is known.
        settings: values in use by their keys, such as ``model.min_size``, for the advice; those that are known.

    Returns:
        The keys ``errors``, ``confusion``, ``slices`` and ``advice`` of the metrics. All but the errors are of masks
        if they were evaluated, else of boxes; confusion and recall are at the operating point.
    """
    ground_truth, results = evaluator.ground_truth, evaluator.result_table
    point = evaluator.evaluate().metrics["operating_point"]
    categories = sorted(category.id for category in ground_truth.categories)
    names = [category.name for category in ground_truth.categories]
    order = [categories.index(category.id) for category in ground_truth.categories]
    objects = object_columns(ground_truth)
    candidates = capped_candidates(results, evaluator.max_detections)
    errors: dict[str, Any] = {"iou": FOREGROUND_IOU, "background_iou": LEAST_IOU}
    for iou_type in evaluator.iou_types:  # masks come last, and what is found stays for the rest
        overlaps = find_overlaps(ground_truth, results, objects, candidates, iou_type)
        assignment = assign(objects, candidates, overlaps, len(categories))
        found = find_errors(assignment)
        errors[iou_type] = error_table(assignment, found)
    slices = find_slices(assignment, ground_truth)
    at_point = assign(objects, candidates, overlaps, len(categories), point["iou"])
    confusion = confusion_table(at_point, point["threshold"], point["iou"], names, order)
    by_id = [category.name for category in sorted(ground_truth.categories, key=lambda category: category.id)]
    caps = find_caps(evaluator, assignment, iou_type, settings or {})
    findings = Findings(assignment, found, errors[iou_type], slices, by_id, caps, ap50_interval, settings or {})
    return {
        "errors": errors,
        "confusion": confusion | {"iou_type": iou_type},
        "slices": slice_table(at_point, slices, point["threshold"]),
        "advice": give_advice(findings),
        "detectable_gain": detectable_gain(findings),
    }
