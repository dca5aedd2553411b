from typing import Any

import numpy as np
import pytest
from evaluation_data import random_dataset, random_results
from hypothesis import given, settings
from hypothesis import strategies as st

from finemask.evaluation.analysis.confusion_matrix import confusion_matrix
from finemask.evaluation.analysis.error_analysis import analyse
from finemask.evaluation.evaluator import CocoEvaluator
from finemask.evaluation.ground_truth import ground_truth_from_dict
from finemask.evaluation.numbers.match_table import match_tables
from finemask.evaluation.numbers.overlaps import LEAST_IOU, find_cross_class_overlaps
from finemask.evaluation.result_table import ResultTable

FAR = [[10 + 100 * place, 10, 50, 50] for place in range(5)]


def confusion_of(annotations: list[dict[str, Any]], results: list[dict[str, Any]], threshold: Any = 0.5) -> Any:
    dataset = {
        "images": [{"id": 1, "height": 100, "width": 600}],
        "categories": [{"id": 9, "name": "nut"}, {"id": 4, "name": "fig"}],  # the file's order is not that of the ids
        "annotations": [{"image_id": 1} | annotation for annotation in annotations],
    }
    evaluator = CocoEvaluator(ground_truth_from_dict(dataset), iou_types=["bbox"], threshold=threshold)
    evaluator.add_results([{"image_id": 1} | result for result in results])
    return analyse(evaluator)["confusion"]


def test_every_kind_of_cell_by_hand():
    annotations = [
        {"category_id": 9, "bbox": FAR[0]},  # found
        {"category_id": 9, "bbox": FAR[1]},  # taken for a fig
        {"category_id": 4, "bbox": FAR[2]},  # found with a score that is too low
        {"category_id": 4, "bbox": FAR[4], "iscrowd": 1},
    ]
    results = [
        {"category_id": 9, "bbox": FAR[0], "score": 0.9},
        {"category_id": 4, "bbox": FAR[1], "score": 0.5},
        {"category_id": 4, "bbox": FAR[2], "score": 0.49},
        {"category_id": 4, "bbox": FAR[3], "score": 0.8},  # nothing is there
        {"category_id": 9, "bbox": FAR[0], "score": 0.7},  # found already
        {"category_id": 4, "bbox": FAR[4], "score": 0.99},  # on the crowd
    ]
    assert confusion_of(annotations, results) == {
        "iou": 0.5,
        "iou_type": "bbox",
        "threshold": 0.5,
        "names": ["nut", "fig", "background"],
        "counts": [[1, 1, 0], [0, 0, 1], [1, 1, 0]],
    }


def test_an_object_is_confused_once_and_only_if_nothing_of_its_class_found_it():
    annotations = [{"category_id": 9, "bbox": FAR[0]}]
    wrong = [{"category_id": 4, "bbox": FAR[0], "score": score} for score in (0.9, 0.8)]
    assert confusion_of(annotations, wrong)["counts"] == [[0, 1, 0], [0, 0, 0], [0, 1, 0]]
    right = [{"category_id": 9, "bbox": FAR[0], "score": 0.6}]
    assert confusion_of(annotations, wrong + right)["counts"] == [[1, 0, 0], [0, 0, 0], [0, 2, 0]]
    little = [{"category_id": 4, "bbox": [10, 10, 50, 24], "score": 0.9}]
    assert confusion_of(annotations, little)["counts"] == [[0, 0, 1], [0, 0, 0], [0, 1, 0]]


def test_the_best_detection_takes_what_it_overlaps_most():
    annotations = [{"category_id": 9, "bbox": [0, 0, 100, 50]}, {"category_id": 9, "bbox": [0, 10, 100, 50]}]
    results = [
        {"category_id": 4, "bbox": [0, 10, 100, 50], "score": 0.9},  # takes the second, wholly
        {"category_id": 4, "bbox": [0, 12, 100, 50], "score": 0.8},  # is left with the first, IoU 38/62
    ]
    assert confusion_of(annotations, results)["counts"] == [[0, 2, 0], [0, 0, 0], [0, 0, 0]]


def test_another_iou_of_the_operating_point():
    """Two thirds of an object found is enough at IoU 0.5, not at 0.75."""
    dataset = {
        "images": [{"id": 1, "height": 100, "width": 600}],
        "categories": [{"id": 1, "name": "nut"}],
        "annotations": [{"image_id": 1, "category_id": 1, "bbox": [0, 0, 90, 90]}],
    }
    truth = ground_truth_from_dict(dataset)
    table = ResultTable(truth, [{"image_id": 1, "category_id": 1, "bbox": [0, 0, 60, 90], "score": 0.5}])
    for iou, counts in ((0.5, [[1, 0], [0, 0]]), (0.75, [[0, 1], [1, 0]])):
        matched = match_tables(truth, table, ["bbox"], 100)["bbox"].at(iou)
        cross_class = find_cross_class_overlaps(matched.detections, matched.objects, table, "bbox", LEAST_IOU)
        assert confusion_matrix(matched, cross_class, 0.1).tolist() == counts


def test_nothing_found_and_nothing_to_find():
    annotations = [{"category_id": 9, "bbox": FAR[0]}]
    result = {"category_id": 4, "bbox": FAR[3], "score": 0.8}
    nothing = confusion_of(annotations, [result], "auto")  # no threshold is worth working at
    assert nothing["threshold"] is None
    assert nothing["counts"] == [[0, 0, 1], [0, 0, 0], [0, 0, 0]]
    assert confusion_of([], [result])["counts"] == [[0, 0, 0], [0, 0, 0], [0, 1, 0]]
    assert confusion_of(annotations, [])["counts"] == [[0, 0, 1], [0, 0, 0], [0, 0, 0]]


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 2**31), st.sampled_from([0.2, 0.7, "auto"]), st.sampled_from([0.5, 0.75, 0.05]))
def test_its_sums_are_the_counts_of_the_operating_point(seed, threshold, iou):
    dataset = random_dataset(seed, images=4, objects=10)
    evaluator = CocoEvaluator(
        ground_truth_from_dict(dataset), threshold=threshold, backend="pycocotools", operating_iou=iou
    )
    evaluator.add_results(random_results(dataset, seed + 1))
    metrics = evaluator.compute() | analyse(evaluator)
    counts, point = np.array(metrics["confusion"]["counts"]), metrics["operating_point"]
    assert np.trace(counts[:-1, :-1]) == point["true_positives"]
    assert counts[:, :-1].sum() == point["true_positives"] + point["false_positives"]
    objects = [values["ground_truths"] for values in metrics["per_class"].values()]
    assert counts[:-1].sum(axis=1).tolist() == objects
    assert metrics["confusion"]["names"] == [*metrics["per_class"], "background"]


def test_it_stands_at_the_operating_threshold(dataset):
    evaluator = CocoEvaluator(ground_truth_from_dict(dataset), threshold=0.25)
    assert analyse(evaluator)["confusion"]["threshold"] == pytest.approx(0.25)
