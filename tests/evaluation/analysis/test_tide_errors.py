"""Error types and what they cost: hand-made cases, planted errors, and the numbers of pycocotools beneath."""

import json
from typing import Any

import numpy as np
import pytest
from evaluation_data import random_dataset, random_results
from hypothesis import given, settings
from hypothesis import strategies as st

from finemask.evaluation.analysis.tide_errors import (
    DETECTION_ERRORS,
    ERROR_TYPES,
    Errors,
    ap50,
    error_table,
    find_errors,
    repaired_ap50,
)
from finemask.evaluation.ground_truth import ground_truth_from_dict
from finemask.evaluation.numbers.coco_numbers import average_precision
from finemask.evaluation.numbers.match_table import match_tables
from finemask.evaluation.numbers.overlaps import LEAST_IOU, Overlaps, find_cross_class_overlaps
from finemask.evaluation.numbers.pycocotools_reference import reference_scores
from finemask.evaluation.numbers.ranking import rank
from finemask.evaluation.result_table import ResultTable
from finemask.evaluation.results import check_results
from finemask.ops.rle import mask_to_rle


def errors_of(dataset: dict[str, Any], results: list[dict[str, Any]], iou_type: str = "bbox", cap: int = 100) -> Errors:
    truth = ground_truth_from_dict(dataset)
    found = ResultTable(truth, results)
    table = match_tables(truth, found, [iou_type], cap)[iou_type].at(0.5)
    cross_class = find_cross_class_overlaps(table.detections, table.objects, found, iou_type, LEAST_IOU)
    return find_errors(table, cross_class)


def scene(*objects: tuple[int, list[float]], crowd: tuple[int, list[float]] | None = None, categories: int = 2) -> Any:
    """One image with boxes (category, xywh)."""
    annotations = [{"image_id": 1, "category_id": c, "bbox": box, "iscrowd": 0} for c, box in objects]
    if crowd:
        annotations.append({"image_id": 1, "category_id": crowd[0], "bbox": crowd[1], "iscrowd": 1})
    return {
        "images": [{"id": 1, "height": 500, "width": 1000}],
        "categories": [{"id": number, "name": f"class {number}"} for number in range(1, categories + 1)],
        "annotations": annotations,
    }


def detection(category: int, box: list[float], score: float) -> dict[str, Any]:
    return {"image_id": 1, "category_id": category, "bbox": box, "score": score}


def types_of(errors: Errors) -> list[str]:
    """The type of each detection in the order in which they were listed."""
    of_result = dict(zip(errors.table.detections.result.tolist(), errors.type.tolist(), strict=True))
    names = [*DETECTION_ERRORS, ""]  # -1 is the last
    return [names[of_result[number]] for number in sorted(of_result)]


def gains(errors: Errors) -> dict[str, float]:
    table = error_table(errors)
    return {name: entry["gain"] for name, entry in table["types"].items()}


A, B = [0, 0, 100, 100], [300, 0, 100, 100]  # two objects, far apart


@pytest.mark.parametrize(
    ("category", "box", "expected"),
    [
        (1, [0, 0, 100, 100], ""),
        (1, [0, 0, 100, 50], ""),  # IoU 0.5 is a match
        (1, [0, 0, 100, 49], "localisation"),
        (1, [0, 0, 100, 10], "localisation"),  # IoU 0.1 is no background
        (1, [0, 0, 100, 9], "background"),
        (2, [0, 0, 100, 100], "classification"),
        (2, [0, 0, 100, 50], "classification"),
        (2, [0, 0, 100, 49], "both"),
        (2, [0, 0, 100, 10], "both"),
        (2, [0, 0, 100, 9], "background"),
        (1, [500, 0, 100, 100], "background"),
    ],
)
def test_one_detection_of_one_object_has_the_type_of_the_paper(category, box, expected):
    errors = errors_of(scene((1, A)), [detection(category, box, 0.5)])
    assert types_of(errors) == [expected]
    # missed: found by nothing, and no localisation or classification error aims at it
    assert errors.count("missed") == (expected in ("both", "background"))


def test_the_second_detection_of_an_object_is_a_duplicate():
    results = [detection(1, A, 0.5), detection(1, A, 0.9), detection(2, A, 0.7)]
    assert types_of(errors_of(scene((1, A)), results)) == ["duplicate", "", "classification"]


def test_the_order_of_the_tests_where_several_fit():
    """An own object with IoU 0.2 beside another with IoU 0.8: the authors' tool says localisation, and so do we."""
    dataset = scene((1, [80, 0, 100, 100]), (2, [0, 0, 100, 100]))
    found = [0, 0, 120, 100]  # 40/180 with the first, 100/120 with the second
    assert types_of(errors_of(dataset, [detection(1, found, 0.5)])) == ["localisation"]
    # its own object found already, at IoU 0.5 or more, and another as well: classification
    dataset = scene((1, A), (2, A))
    results = [detection(1, A, 0.9), detection(1, A, 0.5)]
    assert types_of(errors_of(dataset, results)) == ["", "classification"]


def test_classification_repaired_by_hand():
    # of class 1 one object, found; of class 2 one, which is taken for class 1 with a better score
    results = [detection(1, A, 0.5), detection(1, B, 0.9)]
    errors = errors_of(scene((1, A), (2, B)), results)
    assert ap50(errors.table) == pytest.approx((0.5 + 0) / 2)  # class 1: wrong, right: precision 1/2 at all recalls
    assert gains(errors) == pytest.approx(
        {"classification": 0.75, "localisation": 0, "both": 0, "duplicate": 0, "background": 0, "missed": 0}
    )


def test_localisation_repaired_by_hand():
    results = [detection(1, A, 0.5), detection(1, [300, 0, 100, 40], 0.9)]
    errors = errors_of(scene((1, A), (1, B)), results)
    # wrong, right: recall 1/2 with precision 1/2; 51 of the recall levels 0, .01 … 1 are up to .5
    assert ap50(errors.table) == pytest.approx(0.5 * 51 / 101)
    assert gains(errors)["localisation"] == pytest.approx(1 - 0.5 * 51 / 101)
    assert gains(errors)["missed"] == 0  # something aims at it


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("both", detection(2, [300, 0, 100, 40], 0.9)),
        ("background", detection(2, [600, 0, 100, 100], 0.9)),
        ("duplicate", detection(2, [600, 300, 100, 90], 0.6)),
    ],
)
def test_false_detections_are_taken_away(name, wrong):
    truth = scene((1, A), (1, B), (2, [600, 300, 100, 100]))
    results = [detection(1, A, 0.5), detection(1, B, 0.5), detection(2, [600, 300, 100, 100], 0.8), wrong]
    if name == "duplicate":  # behind the first, it costs something only if another object is to be found
        truth["annotations"].append({"image_id": 1, "category_id": 2, "bbox": [0, 300, 50, 50], "iscrowd": 0})
        results.append(detection(2, [0, 300, 50, 50], 0.1))
    errors = errors_of(truth, results)
    assert ap50(errors.table) < 1
    found = gains(errors)
    assert found.pop(name) == pytest.approx(1 - ap50(errors.table))
    assert set(found.values()) == {0}


def test_missed_objects_are_left_out_of_the_count():
    results = [detection(1, A, 0.5), detection(1, [700, 0, 50, 50], 0.9)]
    errors = errors_of(scene((1, A), (1, B), (1, [300, 300, 50, 50])), results)
    assert errors.count("missed") == 2
    # precision 1/2 up to recall 1/3, which is 34 of 101 levels; then up to recall 1
    assert ap50(errors.table) == pytest.approx(0.5 * 34 / 101)
    assert gains(errors)["missed"] == pytest.approx(0.5 - 0.5 * 34 / 101)
    table = error_table(errors)
    assert table["false_negative"] == gains(errors)["missed"]
    assert table["false_positive"] == pytest.approx(34 / 101 - 0.5 * 34 / 101)
    only_first = np.array([True, True, False])
    part = repaired_ap50(errors, ["missed"], only_first)
    assert part == pytest.approx(0.5 * 51 / 101)  # one of two objects is found


def test_of_two_detections_made_right_the_better_stays():
    """The paper: where a duplicate would be made, the lower scoring detection is suppressed."""
    # class 2's object is found at .3, and taken for class 1 at .9: repaired, the .3 goes, and so does the false .6
    results = [detection(2, B, 0.3), detection(1, B, 0.9), detection(2, [700, 0, 50, 50], 0.6)]
    errors = errors_of(scene((2, B)), results)
    assert ap50(errors.table) == 0.5
    assert gains(errors)["classification"] == 0.5  # now the right one comes first
    # two that aim at one object: one becomes right, the other goes
    results = [detection(1, B, 0.9), detection(1, B, 0.8)]
    errors = errors_of(scene((2, B)), results)
    assert types_of(errors) == ["classification"] * 2
    assert (ap50(errors.table), gains(errors)["classification"]) == (0, 1)


def test_a_class_with_nothing_left_to_find():
    missed = errors_of(scene((1, A)), [])
    assert (ap50(missed.table), gains(missed)["missed"]) == (0, 1)
    false = errors_of(scene((1, A)), [detection(1, B, 0.5)])
    assert gains(false)["missed"] == gains(false)["background"] == 0
    assert average_precision(np.zeros(0, dtype=bool), 0) == 1
    assert average_precision(np.zeros(2, dtype=bool), 0) == 0


def test_detections_on_crowd_regions_are_no_errors():
    crowd = (1, [500, 0, 400, 400])
    results = [detection(1, A, 0.5), *(detection(1, [520 + 50 * i, 20, 40, 40], 0.9) for i in range(3))]
    errors = errors_of(scene((1, A), crowd=crowd), results)
    assert types_of(errors) == [""] * 4
    assert ap50(errors.table) == 1
    # of another class it is no excuse
    assert types_of(errors_of(scene((1, A), crowd=crowd), [detection(2, [520, 20, 40, 40], 0.9)])) == ["background"]


def test_without_objects_there_is_no_ap_but_there_are_errors():
    errors = errors_of(scene(), [detection(1, A, 0.5)])
    table = error_table(errors)
    assert table["AP50"] is None
    assert table["types"]["background"] == {"count": 1, "gain": None}
    assert table["false_positive"] is table["false_negative"] is None
    empty = error_table(errors_of(scene(), []))
    assert {entry["count"] for entry in empty["types"].values()} == {0}


@pytest.mark.parametrize("iou_type", ["bbox", "segm"])
def test_real_results_have_the_published_ap50(shared_dir, iou_type):
    oracle = shared_dir / "oracle"
    dataset = json.loads((oracle / "instances_val2014_100.json").read_text())
    results = json.loads((oracle / f"instances_val2014_fake{iou_type}100_results.json").read_text())
    expected = json.loads((oracle / "expected.json").read_text())
    if iou_type == "segm":
        results = check_results(results, ground_truth_from_dict(dataset), ["segm"])
    errors = errors_of(dataset, results, iou_type)
    published = expected["pycocotools_2_0_11"][iou_type][expected["order"].index("AP50")]
    assert ap50(errors.table) == pytest.approx(published, abs=1e-12)
    assert repaired_ap50(errors, ERROR_TYPES) == pytest.approx(1)


def test_large_images_are_gone_through_in_parts(monkeypatch):
    def everything(dataset: dict[str, Any], results: list[dict[str, Any]], kind: str) -> Overlaps:
        truth = ground_truth_from_dict(dataset)
        found = ResultTable(truth, results)
        return find_cross_class_overlaps(rank(found, 100), truth.objects, found, kind, LEAST_IOU)

    dataset = random_dataset(5, objects=20)
    results = random_results(dataset, 6)
    whole = [everything(dataset, results, kind) for kind in ("bbox", "segm")]
    monkeypatch.setattr("finemask.evaluation.numbers.overlaps._PAIRS_AT_ONCE", 1)
    parts = [everything(dataset, results, kind) for kind in ("bbox", "segm")]
    for one, other in zip(whole, parts, strict=True):
        assert len(one.iou) > 20
        for name, column in vars(one).items():
            assert np.array_equal(column, getattr(other, name))


PLANTED = ["right", "classification", "localisation", "both", "duplicate", "background", "missed"]


@st.composite
def planted(draw: Any) -> tuple[dict[str, Any], list[dict[str, Any]], list[str], str]:
    """Objects on a grid that nothing else reaches into, each with an error of a known type; masks or boxes."""
    kinds = draw(st.lists(st.sampled_from(PLANTED), min_size=1, max_size=12))
    side = draw(st.integers(20, 60))
    annotations: list[dict[str, Any]] = []
    results: list[dict[str, Any]] = []
    expected: list[str] = []

    def add(category: int, x: int, width: int, kind: str) -> None:
        results.append({"category_id": category, "x": x, "width": width, "score": draw(st.floats(0.01, 1))})
        expected.append(kind)

    for place, kind in enumerate(kinds):
        category, x = draw(st.integers(1, 3)), 100 * place
        other = category % 3 + 1
        few = draw(st.integers(-(-side // 10), -(-side // 2) - 1))  # columns: 0.1 <= IoU < 0.5
        many = draw(st.integers(-(-side // 2), side))
        if kind == "background":
            add(category, x, many, kind)
            continue
        annotations.append({"category_id": category, "x": x, "width": side})
        if kind == "right":
            add(category, x, many, "")
        elif kind == "classification":
            add(other, x, many, kind)
        elif kind == "localisation":
            add(category, x, few, kind)
        elif kind == "both":
            add(other, x, few, kind)
            expected.append("missed")
        elif kind == "duplicate":
            add(category, x, side, "")
            results[-1]["score"] += 1
            add(category, x, many, kind)
        else:
            expected.append(kind)
    width = 100 * len(kinds)

    def finished(entry: dict[str, Any]) -> dict[str, Any]:
        mask = np.zeros((side, width), dtype=bool)
        mask[:, entry["x"] : entry["x"] + entry["width"]] = True
        rest = {key: value for key, value in entry.items() if key not in ("x", "width")}
        box = [entry["x"], 0, entry["width"], side]
        return rest | {"image_id": 1, "bbox": box, "segmentation": mask_to_rle(mask)}

    dataset = {
        "images": [{"id": 1, "height": side, "width": width}],
        "categories": [{"id": number, "name": f"class {number}"} for number in (1, 2, 3)],
        "annotations": [finished(entry) for entry in annotations],
    }
    return dataset, [finished(entry) for entry in results], expected, draw(st.sampled_from(["bbox", "segm"]))


@settings(max_examples=40, deadline=None)
@given(planted())
def test_planted_errors_are_recovered(case):
    dataset, results, expected, iou_type = case
    errors = errors_of(dataset, results, iou_type)
    assert types_of(errors) == [kind for kind in expected if kind != "missed"]
    assert {name: errors.count(name) for name in ERROR_TYPES} == {name: expected.count(name) for name in ERROR_TYPES}
    base = ap50(errors.table)
    if base is None:
        return
    found = gains(errors)
    for name in ERROR_TYPES:  # what is not there costs nothing, and no repair makes it worse
        assert found[name] == 0 if not expected.count(name) else found[name] >= -1e-12
    there = {name for name in ERROR_TYPES if expected.count(name)}
    assert repaired_ap50(errors, there) == pytest.approx(1)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**31), st.sampled_from(["bbox", "segm"]), st.sampled_from([100, 2]), st.booleans())
def test_matches_and_ap50_are_those_of_pycocotools_and_all_repaired_is_1(seed, iou_type, cap, with_boxes):
    dataset = random_dataset(seed, objects=10)
    results = random_results(dataset, seed + 1, with_boxes)
    truth = ground_truth_from_dict(dataset)
    scores = reference_scores(truth, ResultTable(truth, results), [iou_type], cap)[iou_type]
    errors = errors_of(dataset, results, iou_type, cap)
    counts = errors.table.counts()
    mine = zip(errors.table.detections.result[counts].tolist(), errors.table.is_true()[counts].tolist(), strict=True)
    assert scores.matches is not None
    expected = zip(scores.matches.result.tolist(), scores.matches.is_true.tolist(), strict=True)
    assert sorted(mine) == sorted(expected)
    precision = scores.precision[0, :, :, 0]
    if not (precision > -1).any():
        assert ap50(errors.table) is None
        return
    assert ap50(errors.table) == pytest.approx(precision[precision > -1].mean(), abs=1e-9)
    table = error_table(errors)
    assert repaired_ap50(errors, ERROR_TYPES) == pytest.approx(1)
    wrong = [name for name in ERROR_TYPES if name != "missed"]
    assert sum(errors.count(name) for name in wrong) == int((counts & ~errors.table.is_true()).sum())
    assert min(entry["gain"] for entry in table["types"].values()) > -1e-12
    assert table["false_negative"] >= table["types"]["missed"]["gain"] - 1e-12
