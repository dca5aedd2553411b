"""The matcher against pycocotools: its matches one by one, and AP from them."""

import numpy as np
import pytest
from evaluation_data import plain_coco_eval, random_dataset, random_results
from hypothesis import given, settings
from hypothesis import strategies as st

from finemask.evaluation.ground_truth import ground_truth_from_dict
from finemask.evaluation.numbers.coco_numbers import class_precision, summarize
from finemask.evaluation.numbers.match_table import match_tables
from finemask.evaluation.numbers.pycocotools_reference import reference_scores
from finemask.evaluation.result_table import ResultTable
from finemask.evaluation.results import check_results
from finemask.evaluation.uncertainty.weighted_ap import AREA_OF, weighted_ap

FIELDS = ("result", "image_id", "category", "score", "is_true", "positives")


def tables(dataset, results, iou_types=("bbox", "segm")):
    truth = ground_truth_from_dict(dataset)
    return truth, ResultTable(truth, check_results(results, truth, iou_types))


def assert_equal(number, expected):
    if expected is None or expected == -1:
        assert np.isnan(number)
    else:
        assert number == pytest.approx(expected, abs=1e-9)


@settings(max_examples=12, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([1, 3, 100]), st.booleans())
def test_agrees_with_pycocotools_on_random_data(seed, cap, with_boxes):
    """Crowd regions, ties, sizes, empty images, images and categories with detections only: all are in there."""
    dataset = random_dataset(seed, images=10)
    dataset["images"].append({"id": 99, "file_name": "empty.png", "height": 30, "width": 40})
    dataset["categories"].append({"id": 1000, "name": "nothing of it"})
    truth, results = tables(dataset, random_results(dataset, seed + 1, with_boxes))
    for iou_type in ("bbox", "segm"):
        expected = reference_scores(truth, results, [iou_type], cap)[iou_type]
        table = match_tables(truth, results, [iou_type], cap)[iou_type]
        for field in FIELDS:
            assert np.array_equal(getattr(table.matches(), field), getattr(expected.matches, field)), field
        found = weighted_ap(table, np.ones((len(truth.images), 2)))
        for key, value in summarize(expected).items():
            if key in AREA_OF:
                assert_equal(found.numbers[key][1], value)
        for category in range(len(table.category_ids)):
            assert_equal(found.per_class[category, 0], class_precision(expected, category))


def test_no_detections_and_no_objects():
    dataset = random_dataset(1)
    truth, nothing = tables(dataset, [])
    found = weighted_ap(match_tables(truth, nothing, ["segm"], 100)["segm"], np.ones((6, 1)))
    assert found.numbers["AP"] == [0]
    dataset["annotations"] = []
    truth, results = tables(dataset, [{"image_id": 1, "category_id": 2, "bbox": [1, 1, 5, 5], "score": 1}], ["bbox"])
    found = weighted_ap(match_tables(truth, results, ["bbox"], 100)["bbox"], np.ones((6, 1)))
    assert np.isnan(found.numbers["AP"]).all()
    assert np.isnan(found.per_class).all()


def test_a_weight_is_a_number_of_copies():
    """Weights 0 to 3 against pycocotools on a dataset in which every image is there as often."""
    dataset = random_dataset(3, images=8)
    results = random_results(dataset, 5)
    random = np.random.default_rng(0)
    for result in results:  # without ties: copies of an image are gone through one after the other
        result["score"] = float(random.random())
    weights = [1, 2, 1, 3, 0, 1, 1, 2]
    copies = {"images": [], "annotations": [], "categories": dataset["categories"]}
    copied_results = []
    for image, weight in zip(dataset["images"], weights, strict=True):
        for _ in range(weight):
            id_ = len(copies["images"]) + 1
            copies["images"].append(image | {"id": id_})
            for entry in dataset["annotations"]:
                if entry["image_id"] == image["id"]:
                    copies["annotations"].append(entry | {"image_id": id_, "id": len(copies["annotations"]) + 1})
            copied_results += [entry | {"image_id": id_} for entry in results if entry["image_id"] == image["id"]]
    truth, table = tables(dataset, results)
    for iou_type in ("bbox", "segm"):
        column = np.array(weights, dtype=float)[:, None]
        found = weighted_ap(match_tables(truth, table, [iou_type], 100)[iou_type], column).numbers
        for key, value in zip(AREA_OF, plain_coco_eval(copies, copied_results, iou_type), strict=False):
            assert_equal(found[key][0], value)


def test_another_iou_by_hand():
    """Two boxes of 100 px: one found at IoU 0.3, one at 0.6; at 0.4 and beyond the first is false."""
    dataset = {
        "images": [{"id": 5, "height": 50, "width": 50}],
        "categories": [{"id": 2, "name": "fig"}],
        "annotations": [
            {"id": 1, "image_id": 5, "category_id": 2, "bbox": [0, 0, 10, 10]},
            {"id": 2, "image_id": 5, "category_id": 2, "bbox": [30, 30, 10, 10]},
        ],
    }
    results = [
        {"image_id": 5, "category_id": 2, "bbox": [0, 0, 10, 3], "score": 0.9},
        {"image_id": 5, "category_id": 2, "bbox": [30, 30, 10, 6], "score": 0.8},
    ]
    truth, table = tables(dataset, results, ["bbox"])
    matches = match_tables(truth, table, ["bbox"], 100, ious=[0.25, 0.4, 0.7])["bbox"]
    assert [matches.is_true(iou).tolist() for iou in range(3)] == [[True, True], [False, True], [False, False]]
    assert matches.matches(0).positives.tolist() == [2]
