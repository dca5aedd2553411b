"""The fast backend against the reference: every table, every match, all 24 numbers."""

import json

import numpy as np
import pytest
from evaluation_data import plain_coco_eval, random_dataset, random_results, tangled_dataset
from hypothesis import given, settings
from hypothesis import strategies as st

from finemask.evaluation.evaluator import CocoEvaluator
from finemask.evaluation.ground_truth import ground_truth_from_dict, load_ground_truth
from finemask.evaluation.numbers.coco_numbers import COCO_KEYS, fast_scores, summarize
from finemask.evaluation.numbers.pycocotools_reference import ground_truth_as_predictions, reference_scores
from finemask.evaluation.result_table import ResultTable
from finemask.evaluation.results import read_results
from finemask.ops.rle import mask_to_rle


def assert_same(truth, results, cap=100, iou_types=("bbox", "segm")):
    table = ResultTable(truth, results)
    for iou_type in iou_types:
        mine = fast_scores(truth, table, [iou_type], cap)[iou_type]
        expected = reference_scores(truth, table, [iou_type], cap)[iou_type]
        assert (mine.category_ids, mine.max_dets) == (expected.category_ids, expected.max_dets)
        np.testing.assert_allclose(mine.precision, expected.precision, rtol=0, atol=1e-9)
        np.testing.assert_allclose(mine.recall, expected.recall, rtol=0, atol=1e-9)
        for name, column in vars(expected.matches).items():
            np.testing.assert_array_equal(getattr(mine.matches, name), column, err_msg=f"{iou_type} {name}")


def metrics_of(truth, results, backend, **arguments):
    evaluator = CocoEvaluator(truth, backend=backend, **arguments)
    evaluator.add_results(results)
    return evaluator.compute()


def equal(mine, expected):
    """The same content, numbers to 1e-9, None only where None is."""
    if isinstance(expected, dict):
        return mine.keys() == expected.keys() and all(
            equal(mine[key], expected[key]) for key in expected if key != "backend"
        )
    if isinstance(expected, float) and mine is not None:
        return mine == pytest.approx(expected, rel=0, abs=1e-9)
    return mine == expected


@settings(max_examples=120, deadline=None)
@given(st.integers(0, 2**31), st.booleans())
def test_24_numbers_equal_plain_pycocotools(seed, with_boxes):
    dataset = random_dataset(seed, images=4)
    results = random_results(dataset, seed + 1, with_boxes)
    if not results:
        return
    truth = ground_truth_from_dict(dataset)
    scores = fast_scores(truth, ResultTable(truth, results), ("bbox", "segm"), 100)
    for iou_type in ("bbox", "segm"):
        expected = plain_coco_eval(dataset, results, iou_type)
        found = summarize(scores[iou_type])
        numbers = [-1.0 if found[key] is None else found[key] for key in COCO_KEYS]
        assert numbers == pytest.approx(expected, rel=0, abs=1e-9)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**31), st.booleans(), st.sampled_from([1, 3, 100, 250]))
def test_tables_and_matches_equal_the_references(seed, with_boxes, cap):
    dataset = random_dataset(seed)
    results = random_results(dataset, seed + 1, with_boxes)
    np.random.default_rng(seed).shuffle(results)  # an image's detections need not stand together
    assert_same(ground_truth_from_dict(dataset), results, cap)


@settings(max_examples=80, deadline=None)
@given(st.integers(0, 2**31), st.booleans(), st.sampled_from([1, 2, 5, 100]))
def test_where_every_detection_has_a_choice(seed, with_boxes, cap):
    """On top of one another, so that matches depend on those before them; the tables are the same to the bit."""
    dataset, results = tangled_dataset(seed)
    if not with_boxes:
        results = [{key: value for key, value in result.items() if key != "bbox"} for result in results]
    truth = ground_truth_from_dict(dataset)
    assert_same(truth, results, cap)
    table = ResultTable(truth, results)
    mine, expected = (run(truth, table, ["segm"], cap)["segm"] for run in (fast_scores, reference_scores))
    assert np.array_equal(mine.precision, expected.precision)
    assert np.array_equal(mine.recall, expected.recall)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**31))
def test_everything_in_the_metrics_file_is_the_same(seed):
    dataset = random_dataset(seed)
    truth, results = ground_truth_from_dict(dataset), random_results(dataset, seed)
    assert equal(metrics_of(truth, results, "fast"), metrics_of(truth, results, "pycocotools"))


@pytest.mark.parametrize("iou_type", ["bbox", "segm"])
def test_the_shared_oracle(shared_dir, iou_type):
    oracle = shared_dir / "oracle"
    truth = load_ground_truth(oracle / "instances_val2014_100.json")
    results = read_results(oracle / f"instances_val2014_fake{iou_type}100_results.json")
    expected = json.loads((oracle / "expected.json").read_text())["pycocotools_2_0_11"][iou_type]
    metrics = metrics_of(truth, results, "fast", iou_types=[iou_type], max_detections=100)
    assert [metrics[iou_type][key] for key in COCO_KEYS] == pytest.approx(expected, rel=0, abs=1e-9)
    assert equal(metrics, metrics_of(truth, results, "pycocotools", iou_types=[iou_type], max_detections=100))


@pytest.mark.parametrize("file", ["nuclei/annotations/val_small.json", "fruits_nuts/annotations/val.json"])
def test_real_objects_moved_about(shared_dir, file):
    truth = load_ground_truth(shared_dir / "datasets" / file)
    random = np.random.default_rng(0)
    results = ground_truth_as_predictions(truth)
    for result in results:
        result["score"] = float(random.random())
        result["bbox"] = [value + float(random.normal()) for value in result["bbox"][:2]] + result["bbox"][2:]
    assert_same(truth, results + results[::3], 100)


def boxes(annotations, categories=2, **image):
    """One image (and an empty one); each annotation is (category, x, y, side, extra keys)."""
    return ground_truth_from_dict(
        {
            "images": [{"id": 7, "height": 60, "width": 60, **image}, {"id": 3, "height": 60, "width": 60}],
            "categories": [{"id": k, "name": f"class {k}"} for k in range(1, categories + 1)],
            "annotations": [
                {"id": n, "image_id": 7, "category_id": k, "bbox": [x, y, side, side], **extra}
                for n, (k, x, y, side, extra) in enumerate(annotations)
            ],
        }
    )


def found(category, x, y, side, score, image_id=7):
    return {"image_id": image_id, "category_id": category, "bbox": [x, y, side, side], "score": score}


CROWD = {"iscrowd": 1}
CORNERS = {
    "nothing found": (boxes([(1, 5, 5, 20, {})]), []),
    "nothing to find": (boxes([]), [found(1, 5, 5, 20, 0.5)]),
    "nothing at all": (boxes([]), []),
    "only a crowd": (boxes([(1, 5, 5, 20, CROWD)]), [found(1, 6, 6, 9, 0.9), found(1, 40, 40, 9, 0.8)]),
    "several in one crowd": (
        boxes([(1, 5, 5, 30, CROWD), (1, 5, 5, 10, {})]),
        [found(1, 5, 5, 10, 0.9), found(1, 5, 5, 10, 0.8), found(1, 20, 20, 9, 0.8), found(1, 50, 50, 9, 0.7)],
    ),
    "one score for all": (
        boxes([(1, 5, 5, 20, {}), (1, 30, 30, 20, {}), (2, 5, 5, 20, {})]),
        [found(1, 40, 5, 9, 0.5), found(1, 5, 5, 20, 0.5), found(1, 30, 30, 20, 0.5), found(2, 5, 5, 20, 0.5)],
    ),
    "equal scores across images": (
        boxes([(1, 5, 5, 20, {})]),
        [found(1, 5, 5, 20, 0.5), found(1, 5, 5, 20, 0.5, image_id=3), found(1, 30, 30, 9, 0.5)],
    ),
    "two equally good objects": (boxes([(1, 5, 5, 20, {}), (1, 5, 5, 20, {})]), [found(1, 5, 5, 20, 0.5)] * 3),
    "an exact threshold": (boxes([(1, 0, 0, 20, {})]), [found(1, 0, 0, 10, 0.5) | {"bbox": [0, 0, 20, 10]}]),
    "a category without objects": (
        boxes([(1, 5, 5, 20, {})], categories=4),
        [found(3, 5, 5, 20, 0.9), found(1, 5, 5, 20, 0.1)],
    ),
    "a box without area": (boxes([(1, 5, 5, 0, {})]), [found(1, 5, 5, 0, 0.9), found(1, 5, 5, 4, 0.8)]),
    "an area beyond all sizes": (
        boxes([(1, 5, 5, 20, {"area": 2e10}), (1, 30, 30, 20, {"area": -1})]),
        [found(1, 5, 5, 20, 0.9), found(1, 0, 0, 2e5, 0.8), found(2, 0, 0, 2e5, 0.8)],
    ),
    "scores beyond 0 to 1": (
        boxes([(1, 5, 5, 20, {})]),
        [found(1, 5, 5, 20, -3.0), found(1, 5, 5, 20, 17.0), found(1, 40, 5, 9, 1e300)],
    ),
}


@pytest.mark.parametrize("corner", CORNERS)
@pytest.mark.parametrize("cap", [1, 2, 100])
def test_corners(corner, cap):
    truth, results = CORNERS[corner]
    assert_same(truth, results, cap, ["bbox"])


@pytest.mark.parametrize("cap", [100, 101, 180, 400])
def test_more_than_100_detections(cap):
    random = np.random.default_rng(1)
    truth = boxes([(1, *random.uniform(0, 50, 2).tolist(), 8, {}) for _ in range(120)])
    spots = random.uniform(0, 50, (300, 2)).tolist()
    assert_same(truth, [found(1, x, y, 8, round(float(random.random()), 2)) for x, y in spots], cap, ["bbox"])


def test_ids_of_any_kind():
    truth = ground_truth_from_dict(
        {
            "images": [{"id": id_, "height": 40, "width": 40} for id_ in (2**53 + 1, -5, 0)],
            "categories": [{"id": id_, "name": str(id_)} for id_ in (2**40, 0, -2)],
            "annotations": [
                {"id": n, "image_id": image, "category_id": category, "bbox": [1, 1, 20, 20]}
                for n, (image, category) in enumerate([(2**53 + 1, 2**40), (-5, -2), (0, 0)])
            ],
        }
    )
    assert_same(truth, ground_truth_as_predictions(truth), 100, ["bbox"])


def test_masks_of_every_kind_without_pixels():
    empty, full = (dict(mask_to_rle(np.full((30, 40), value))) for value in (False, True))
    dataset = {
        "images": [{"id": 1, "height": 30, "width": 40}],
        "categories": [{"id": 1, "name": "a"}],
        "annotations": [
            {"id": n, "image_id": 1, "category_id": 1, "segmentation": rle} for n, rle in enumerate([empty, full])
        ],
    }
    results = [
        {"image_id": 1, "category_id": 1, "segmentation": rle, "score": score}
        for rle, score in [(empty, 0.9), (full, 0.8), (full, 0.8)]
    ]
    assert_same(ground_truth_from_dict(dataset), results)


def test_results_come_back_as_they_were_added():
    dataset = random_dataset(4)
    results = random_results(dataset, 5) + random_results(dataset, 6, with_boxes=False)
    table = ResultTable(ground_truth_from_dict(dataset), results)
    assert list(table) == results
    assert table[-1] == results[-1]
    assert table[2:4] == results[2:4]
    assert len(table) == len(results)
