"""Error analysis of an evaluation, for ``metrics.json``: TIDE's error types, confusion, slices and advice."""

from collections.abc import Mapping, Sequence
from typing import Any

from finemask.evaluation.analysis.confusion_matrix import confusion_table
from finemask.evaluation.analysis.improvement_advice import Findings, detectable_gain, find_caps, give_advice
from finemask.evaluation.analysis.slices import find_slices, slice_table
from finemask.evaluation.analysis.tide_errors import FOREGROUND_IOU, error_table, find_errors
from finemask.evaluation.evaluator import CocoEvaluator
from finemask.evaluation.numbers.overlaps import LEAST_IOU, find_cross_class_overlaps


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
    ground_truth, results, evaluation = evaluator.ground_truth, evaluator.result_table, evaluator.evaluate()
    point, at_point = evaluation.metrics["operating_point"], evaluation.operating_table
    categories = sorted(category.id for category in ground_truth.categories)
    names = [category.name for category in ground_truth.categories]
    order = [categories.index(category.id) for category in ground_truth.categories]
    least = min(LEAST_IOU, point["iou"])
    errors: dict[str, Any] = {"iou": FOREGROUND_IOU, "background_iou": LEAST_IOU}
    for iou_type in evaluator.iou_types:  # masks come last, and what is found stays for the rest
        table = evaluation.tables[iou_type].at(FOREGROUND_IOU)
        cross_class = find_cross_class_overlaps(table.detections, table.objects, results, iou_type, least)
        found = find_errors(table, cross_class)
        errors[iou_type] = error_table(found)
    slices = find_slices(table, cross_class, ground_truth)
    confusion = confusion_table(at_point, cross_class, point["threshold"], names, order)
    by_id = [category.name for category in sorted(ground_truth.categories, key=lambda category: category.id)]
    caps = find_caps(evaluator, table, iou_type, settings or {})
    findings = Findings(found, errors[iou_type], slices, by_id, caps, ap50_interval, settings or {})
    return {
        "errors": errors,
        "confusion": confusion | {"iou_type": iou_type},
        "slices": slice_table(table, at_point, slices, point["threshold"]),
        "advice": give_advice(findings),
        "detectable_gain": detectable_gain(findings),
    }
