"""Slices by hand, and those by size against pycocotools with other sizes set."""

from typing import Any

import pytest
from evaluation_data import random_dataset, random_results
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from finemask.evaluation.analysis.error_analysis import analyse
from finemask.evaluation.analysis.slices import SIZES
from finemask.evaluation.evaluator import CocoEvaluator
from finemask.evaluation.ground_truth import ground_truth_from_dict
from finemask.evaluation.numbers.pycocotools_reference import quiet_pycocotools


def slices_of(dataset: dict[str, Any], results: list[dict[str, Any]], **settings_: Any) -> dict[str, Any]:
    evaluator = CocoEvaluator(ground_truth_from_dict(dataset), **settings_)
    evaluator.add_results(results)
    table = analyse(evaluator)["slices"]
    assert len({(entry["kind"], entry["name"]) for entry in table}) == len(table)
    return {entry["name"]: entry for entry in table}


def boxes(*annotations: dict[str, Any], images: int = 1, **image: Any) -> dict[str, Any]:
    sizes = {"height": 300, "width": 1000} | image
    return {
        "images": [{"id": number} | sizes for number in range(1, images + 1)],
        "categories": [{"id": 1, "name": "a"}, {"id": 2, "name": "b"}],
        "annotations": [{"image_id": 1, "category_id": 1} | annotation for annotation in annotations],
    }


def detection(box: list[float], score: float, image_id: int = 1) -> dict[str, Any]:
    return {"image_id": image_id, "category_id": 1, "bbox": box, "score": score}


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 2**31), st.sampled_from(["bbox", "segm"]))
def test_ap_by_size_is_that_of_pycocotools(seed, iou_type):
    dataset = random_dataset(seed, images=4, objects=12)
    results = random_results(dataset, seed + 1)
    if not results:
        return
    mine = slices_of(dataset, results, iou_types=[iou_type], max_detections=100, backend="pycocotools")
    with quiet_pycocotools():
        truth = COCO()
        truth.dataset = dataset
        truth.createIndex()
        reference = COCOeval(truth, truth.loadRes([dict(result) for result in results]), iou_type)
        # both of COCO's bounds are inside; areas are whole numbers here
        reference.params.areaRng = [[low**2, min(high**2, 1e10) - 0.5] for _, low, high in SIZES]
        reference.params.areaRngLbl = [name for name, _, _ in SIZES]
        reference.evaluate()
        reference.accumulate()
    for number, (name, _, _) in enumerate(SIZES):
        precision = reference.eval["precision"][0, :, :, number, -1]
        if (precision > -1).any():
            assert mine[name]["AP"] == pytest.approx(precision[precision > -1].mean(), abs=1e-9)
        else:
            assert name not in mine


def test_sizes_by_hand():
    dataset = boxes(
        {"bbox": [10, 10, 15, 15]},
        {"bbox": [110, 10, 16, 16]},
        {"bbox": [210, 10, 31, 31]},
        {"bbox": [310, 10, 96, 96]},
    )
    results = [detection([110, 10, 16, 16], 0.9), detection([310, 10, 96, 96], 0.4), detection([500, 50, 20, 20], 0.95)]
    found = slices_of(dataset, results, iou_types=["bbox"], threshold=0.5)
    sizes = {name: (found[name]["ground_truths"], found[name]["recall"]) for name, _, _ in SIZES if name in found}
    assert sizes == {"under 16 px": (1, 0), "16 to 32 px": (2, 0.5), "over 96 px": (1, 0)}
    # of 16 to 32 px: a false one, then a right one, and one missed; the false one is of that size only
    assert found["16 to 32 px"]["AP"] == pytest.approx(0.5 * 51 / 101)
    assert found["over 96 px"]["AP"] == 1  # AP looks at all scores
    assert {found[name]["kind"] for name in sizes} == {"size"}


def test_crowding_by_hand():
    dataset = boxes(
        {"bbox": [10, 10, 100, 100]},
        {"bbox": [60, 10, 100, 100], "category_id": 2},  # 50 columns of 150: IoU 1/3 with the first
        {"bbox": [300, 10, 100, 100]},  # alone
        {"bbox": [300, 10, 100, 90], "iscrowd": 1},  # crowd regions are no neighbours
        {"bbox": [600, 10, 100, 100]},
        {"bbox": [610, 10, 100, 100]},  # 90/110
        {"bbox": [800, 10, 100, 100]},
        {"bbox": [890, 10, 100, 100]},  # 10/190
    )
    results = [detection([10, 10, 100, 100], 0.9), detection([600, 10, 100, 100], 0.8)]
    found = slices_of(dataset, results, iou_types=["bbox"], threshold=0.5)
    crowding = {name: entry for name, entry in found.items() if entry["kind"] == "crowding"}
    assert {name: (entry["ground_truths"], entry["recall"]) for name, entry in crowding.items()} == {
        "apart": (1, 0),
        "boxes overlap, IoU under 0.2": (2, 0),
        "boxes overlap, IoU 0.2 to 0.5": (2, 0.5),
        "boxes overlap, IoU over 0.5": (2, 0.5),
    }
    assert crowding["boxes overlap, IoU 0.2 to 0.5"]["AP"] == 0.5  # class a found, class b not
    # a false detection goes with what it overlaps most, or stands apart
    for box, slice_ in (([70, 10, 20, 200], "boxes overlap, IoU 0.2 to 0.5"), ([450, 10, 50, 50], "apart")):
        right = [*results, detection([300, 10, 100, 100], 0.7)]
        before = slices_of(dataset, right, iou_types=["bbox"])
        worse = slices_of(dataset, [*right, detection(box, 0.95)], iou_types=["bbox"])
        changed = [n for n in before if before[n]["kind"] == "crowding" and before[n]["AP"] != worse[n]["AP"]]
        assert changed == [slice_]


def test_neighbours_are_looked_for_in_parts_of_a_full_image(monkeypatch):
    dataset = boxes(*({"bbox": [i * (i + 12), 10, 40, 40]} for i in range(12)))
    whole = slices_of(dataset, [], iou_types=["bbox"])
    monkeypatch.setattr("finemask.evaluation.analysis.slices._PAIRS_AT_ONCE", 30)  # two rows at a time
    assert slices_of(dataset, [], iou_types=["bbox"]) == whole
    assert len({name for name, entry in whole.items() if entry["kind"] == "crowding"}) > 2


def test_truncation_at_the_border_by_hand():
    dataset = boxes(
        {"bbox": [0, 50, 20, 20]},
        {"bbox": [50, 279.5, 20, 20]},
        {"bbox": [1.5, 1, 20, 20]},
        {"bbox": [979, 50, 20, 20]},
    )
    found = slices_of(dataset, [detection([0, 50, 20, 20], 0.9)], iou_types=["bbox"], threshold=0.5)
    border = [(name, e["ground_truths"], e["recall"]) for name, e in found.items() if e["kind"] == "border"]
    assert border == [("at the image border", 2, 0.5), ("inside the image", 2, 0)]
    unknown = slices_of(boxes({"bbox": [0, 50, 20, 20]}, height=None, width=None), [], iou_types=["bbox"])
    assert not [name for name, entry in unknown.items() if entry["kind"] == "border"]


def test_images_by_their_number_of_objects_and_by_the_slices_of_the_file():
    few, many = ([{"bbox": [20 * i, 0, 10, 10], "image_id": image} for i in range(n)] for image, n in ((1, 2), (2, 7)))
    dataset = boxes(*few, *many, {"bbox": [0, 100, 50, 50], "image_id": 2, "iscrowd": 1}, images=3)
    for image, name in zip(dataset["images"], ("night", "day", "day"), strict=True):
        image["slice"] = name
    results = [detection([0, 0, 10, 10], 0.9), detection([0, 200, 10, 10], 0.95, image_id=3)]
    found = slices_of(dataset, results, iou_types=["bbox"], threshold=0.5)
    images = {name: (e["ground_truths"], e["recall"], e["AP"]) for name, e in found.items() if e["kind"] == "image"}
    assert images == {
        "1 to 5 objects": (2, 0.5, pytest.approx(51 / 101)),
        "6 to 20 objects": (7, 0, 0),
        "night": (2, 0.5, pytest.approx(51 / 101)),
        "day": (7, 0, 0),
    }


def test_without_objects_or_detections():
    assert slices_of(boxes(), [detection([1, 1, 5, 5], 0.5)], iou_types=["bbox"]) == {}
    nothing = slices_of(boxes({"bbox": [10, 10, 20, 20]}), [], iou_types=["bbox"])
    assert {(entry["recall"], entry["AP"]) for entry in nothing.values()} == {(0, 0)}
