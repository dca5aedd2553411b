"""Detections beside objects: which pairs are looked at, and what is said of them."""

from itertools import pairwise

import numpy as np
import pytest
from evaluation_data import random_dataset, random_results, tangled_dataset
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco_mask

from finemask.evaluation.ground_truth import ground_truth_from_dict
from finemask.evaluation.numbers import overlaps
from finemask.evaluation.numbers.overlaps import boundary_overlaps, find_overlaps
from finemask.evaluation.numbers.ranking import rank
from finemask.evaluation.result_table import ResultTable

LEAST = 0.3


def listed(dataset, results, iou_type, cap=100):
    """Of each pair the position in the results, the annotation, and the IoU."""
    truth = ground_truth_from_dict(dataset)
    table = ResultTable(truth, results)
    ranking = rank(table, cap)
    objects = truth.objects
    found = find_overlaps(ranking, objects, table, "bbox" if iou_type == "bbox" else "segm", LEAST)
    if iou_type == "boundary":
        found = boundary_overlaps(found, ranking, objects, table)
    return list(zip(ranking.result[found.detection].tolist(), found.object.tolist(), found.iou.tolist(), strict=True))


def one_by_one(dataset, results, iou_type):
    """The same from pycocotools, a pair at a time."""
    key = "bbox" if iou_type == "bbox" else "segmentation"
    expected = {}
    for row, result in enumerate(results):
        for column, annotation in enumerate(dataset["annotations"]):
            if all(result[name] == annotation[name] for name in ("image_id", "category_id")):
                iou = coco_mask.iou([result[key]], [annotation[key]], [annotation["iscrowd"]])[0, 0]
                if iou >= LEAST:
                    expected[row, column] = iou
    return expected


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**31), st.sampled_from(["bbox", "segm"]), st.sampled_from([1, 3, 2**18]))
def test_pairs_are_those_of_pycocotools_to_the_bit(seed, iou_type, at_once):
    dataset, results = tangled_dataset(seed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(overlaps, "_PAIRS_AT_ONCE", at_once)  # in one go or in pieces
        patch.setattr(overlaps, "_TOGETHER", 2)
        found = listed(dataset, results, iou_type)
    assert {(result, object_): iou for result, object_, iou in found} == one_by_one(dataset, results, iou_type)
    for before, after in pairwise(found):
        if before[0] == after[0]:
            assert (before[2], before[1]) < (after[2], after[1]), "by IoU, of equal ones the later last"
    starts = [result for number, (result, _, _) in enumerate(found) if not number or found[number - 1][0] != result]
    assert len(set(starts)) == len(starts), "the pairs of a detection stand together"


def test_boundaries_are_made_of_overlapping_masks_alone(monkeypatch):
    dataset = random_dataset(3)
    results = random_results(dataset, 4)
    of_masks = listed(dataset, results, "segm")
    made = []
    monkeypatch.setattr(overlaps, "boundary_rle", lambda rle: made.append(rle) or rle)
    assert listed(dataset, results, "boundary") == of_masks, "a boundary that is the mask changes nothing"
    assert sorted(rle["counts"] for rle in made) == sorted(
        [results[position]["segmentation"]["counts"] for position in {result for result, _, _ in of_masks}]
        + [dataset["annotations"][position]["segmentation"]["counts"] for position in {o for _, o, _ in of_masks}]
    )
    assert len(made) < len(results) + len(dataset["annotations"])


def test_a_mask_far_from_all_objects_is_never_read():
    dataset, results = tangled_dataset(1)
    lone = {"id": 10_000, "height": 40, "width": 50}
    far = [
        result | {"image_id": lone["id"], "segmentation": {"size": [40, 50], "counts": "no mask at all"}}
        for result in results
    ]
    whole = dataset | {"images": [*dataset["images"], lone]}
    assert listed(whole, results + far, "segm") == listed(dataset, results, "segm")


@pytest.mark.parametrize("iou_type", ["bbox", "segm", "boundary"])
def test_nothing_to_compare(iou_type):
    dataset, results = tangled_dataset(2)
    assert listed(dataset, [], iou_type) == []
    assert listed(dataset | {"annotations": []}, results, iou_type) == []


def test_boxes_that_only_touch_do_not_overlap():
    found = np.array([[0.0, 0, 10, 10], [10, 0, 10, 10], [0, 0, 0, 0]])
    iou = overlaps.box_iou(found, np.array([[0.0, 0, 10, 20]] * 3), np.zeros(3, dtype=bool))
    assert iou.tolist() == [0.5, 0, 0]
    inside_a_crowd = overlaps.box_iou(found[:1], np.array([[5.0, 0, 100, 100]]), np.ones(1, dtype=bool))
    assert inside_a_crowd.tolist() == [0.5]
