"""What is advised, with the numbers behind it, and that every remedy is something finemask has."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from evaluation_data import random_dataset, random_results
from omegaconf import OmegaConf

from finemask.cli import VERBS
from finemask.config import compose
from finemask.evaluation.analysis import improvement_advice
from finemask.evaluation.analysis.error_analysis import analyse
from finemask.evaluation.evaluator import CocoEvaluator
from finemask.evaluation.ground_truth import ground_truth_from_dict
from finemask.evaluation.numbers.pycocotools_reference import ground_truth_as_predictions
from finemask.reports.evaluation_report import write_evaluation

NAMES = ("ant", "bee")


PRECISE = (0.5, 0.5)  # an interval under which every gain shows


def analysis_of(
    objects: list[tuple[int, list[float]]],
    found: list[tuple[int, list[float], float]],
    interval: tuple[float, float] | None = PRECISE,
    cap: int | str = "auto",
    settings: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """One wide image; class and box of objects, class, box and score of detections."""
    dataset = {
        "images": [{"id": 1, "height": 1000, "width": 4000}],
        "categories": [{"id": number, "name": name} for number, name in enumerate(NAMES, start=1)],
        "annotations": [{"image_id": 1, "category_id": kind, "bbox": box} for kind, box in objects],
    }
    evaluator = CocoEvaluator(ground_truth_from_dict(dataset), iou_types=["bbox"], max_detections=cap)
    results = [{"image_id": 1, "category_id": kind, "bbox": box, "score": score} for kind, box, score in found]
    evaluator.add_results(results)
    return analyse(evaluator, interval, settings)


def row(number: int, side: float, top: float = 0, step: float = 200) -> list[list[float]]:
    return [[step * place, top, side, side] for place in range(number)]


def right(boxes: list[list[float]], kind: int = 1) -> list[tuple[int, list[float], float]]:
    return [(kind, box, 0.9) for box in boxes]


def test_missed_small_objects_with_their_numbers():
    large, small = row(5, 100), row(5, 10, top=500)
    found = analysis_of([(1, box) for box in (*large, *small)], right([*large, small[0]]))
    (entry,) = found["advice"]
    # 6 of 10 found: recall levels 0, .01 … .60, all with precision 1
    assert found["errors"]["bbox"]["AP50"] == pytest.approx(61 / 101)
    assert entry["gain"] == pytest.approx(40 / 101)
    assert entry["share"] == pytest.approx(1)
    assert entry["problem"] == (
        "100 % of the missing AP50 is missed objects under 16 px (4 of 5 such objects); put right, they would make it "
        "1.000, not 0.604"
    )
    assert "finemask data tile" in entry["remedy"]
    assert "model.min_size" in entry["remedy"]


def test_the_part_of_a_cause_is_computed_and_not_guessed():
    """Four small objects and one large are missed: the advice is about the small, and counts these alone."""
    large, small = row(5, 100), row(5, 25, top=500)
    found = analysis_of([(1, box) for box in (*large, *small)], right([*large[1:], small[0]]))
    (entry,) = found["advice"]
    assert "missed objects under 32 px (4 of 5 such objects)" in entry["problem"]
    assert found["errors"]["bbox"]["AP50"] == pytest.approx(51 / 101)
    assert entry["gain"] == pytest.approx((84 - 51) / 101)  # 5 of 6 found
    assert entry["share"] == pytest.approx((84 - 51) / (101 - 51))


def test_missed_neighbours_and_missed_classes():
    crowded = [box for left in range(0, 2000, 400) for box in ([left, 0, 100, 100], [left + 20, 0, 100, 100])]
    (entry,) = analysis_of([(1, box) for box in crowded], right(crowded[::2]))["advice"]
    assert "whose box overlaps a neighbour's by an IoU over 0.5 (5 of 10 such objects)" in entry["problem"]
    assert "a higher model.roi_heads.nms_thresh" in entry["remedy"]

    ants, bees = row(5, 100), row(5, 100, top=500)
    objects = [(1, box) for box in ants] + [(2, box) for box in bees]
    (entry,) = analysis_of(objects, [*right(ants[1:]), *right(bees[:1], 2)])["advice"]
    assert "missed objects of the class bee (4 of 5 such objects)" in entry["problem"]
    assert "more labels of bee" in entry["remedy"]
    assert entry["gain"] == pytest.approx((101 - 21) / 101 / 2)

    (entry,) = analysis_of([(1, box) for box in ants], right(ants[1:]))["advice"]
    assert "missed objects (1 of 5)" in entry["problem"]


def test_confused_classes_are_named():
    boxes = row(6, 100)
    found = [*right(boxes[:3]), *((2, box, 0.95) for box in boxes[3:])]
    bees = row(2, 100, top=500)
    advised = analysis_of([(1, box) for box in boxes] + [(2, box) for box in bees], [*found, *right(bees, 2)])["advice"]
    assert "3 detections of the wrong class, most often ant taken for bee (3)" in advised[0]["problem"]
    assert "more labels of ant and bee" in advised[0]["remedy"]


def test_confusion_of_many_classes_names_none():
    names = [f"class {number}" for number in range(13)]
    boxes = row(13, 100, step=300)
    dataset = {
        "images": [{"id": 1, "height": 1000, "width": 4000}],
        "categories": [{"id": number, "name": name} for number, name in enumerate(names)],
        "annotations": [{"image_id": 1, "category_id": k, "bbox": box} for k, box in enumerate(boxes)],
    }
    evaluator = CocoEvaluator(ground_truth_from_dict(dataset), iou_types=["bbox"])
    evaluator.add_results(
        [{"image_id": 1, "category_id": (k + 1) % 13, "bbox": box, "score": 0.9} for k, box in enumerate(boxes)]
    )
    (entry,) = analyse(evaluator, PRECISE)["advice"]
    assert "13 detections of the wrong class, spread over 13 pairs of classes;" in entry["problem"]


def test_at_most_three_the_best_first_and_none_without_a_gain():
    boxes = row(12, 100)
    found = [
        *right(boxes[:4]),
        *((1, [x, y, w, 45], 0.95) for x, y, w, _ in boxes[4:7]),  # too little overlap
        *((2, box, 0.95) for box in boxes[7:9]),  # of the wrong class
        (1, [0, 700, 100, 100], 0.96),  # nothing there; the least of the four
        *((1, box, 0.89) for box in boxes[:1]),  # behind all others: costs next to nothing
    ]
    bees = row(2, 100, top=400)
    analysis = analysis_of([(1, box) for box in boxes] + [(2, box) for box in bees], [*found, *right(bees, 2)])
    advised, types = analysis["advice"], analysis["errors"]["bbox"]["types"]
    assert len(advised) == 3
    assert 0.005 < types["background"]["gain"] < min(types[name]["gain"] for name in ("classification", "missed"))
    gains = [entry["gain"] for entry in advised]
    assert gains == sorted(gains, reverse=True)
    assert gains == pytest.approx(sorted((entry["gain"] for entry in types.values()), reverse=True)[:3])
    perfect = analysis_of([(1, box) for box in boxes], right(boxes))
    assert perfect["advice"] == []
    late = analysis_of([(1, box) for box in boxes], [*right(boxes), (1, boxes[0], 0.1)])
    assert late["errors"]["bbox"]["types"]["duplicate"]["count"] == 1
    assert late["advice"] == []  # it costs nothing
    assert analysis_of([], [(1, boxes[0], 0.5)])["advice"] == []
    assert len(analysis_of([(1, box) for box in boxes], [])["advice"]) == 1


def crowd_of(number: int) -> list[list[float]]:
    return [[20 * (place % 50), 20 * (place // 50), 15, 15] for place in range(number)]


def test_a_cap_is_named_as_the_cause_and_nothing_else():
    """150 perfect detections, of which 100 are counted: no picture and no label would mend that."""
    boxes = crowd_of(150)
    objects = [(1, box) for box in boxes]
    (entry,) = analysis_of(objects, right(boxes), cap=100)["advice"]
    assert entry["remedy"] == "max_detections=auto"
    assert entry["problem"] == (
        "100 % of the missing AP50 is 50 objects cut off by max_detections=100: of one class in one image no more are "
        "counted; put right, they would make it 1.000, not 0.663"
    )
    assert entry["gain"] == pytest.approx(1 - 67 / 101)  # found: 2/3, recall levels 0 to .66
    # where auto is the cap, asking for auto is no advice: a number is
    first, last = boxes[:9], boxes[9]
    found = [*((1, box, 0.99) for box in first), *[(1, [2000, 900, 9, 9], 0.95)] * 100, (1, last, 0.9)]
    (entry,) = analysis_of([(1, box) for box in boxes[:10]], found)["advice"]
    assert entry["problem"].startswith("100 % of the missing AP50 is 1 object cut off by max_detections=100")
    assert entry["remedy"] == "max_detections=110"


def test_objects_that_a_cap_did_not_cut_off_are_advised_on_apart():
    boxes = crowd_of(150)
    large = row(10, 100, top=600)
    objects = [(1, box) for box in (*boxes, *large)]
    advised = analysis_of(objects, right(boxes), cap=100)["advice"]
    assert [entry["remedy"] for entry in advised if "max_detections" in entry["remedy"]] == ["max_detections=auto"]
    (missed,) = (entry for entry in advised if "missed objects" in entry["problem"])
    assert "missed objects (10 of 110)" in missed["problem"]  # 160, less the 50 that were cut off


def test_the_cap_of_the_detector_is_named_where_it_can_be_known():
    boxes = crowd_of(150)
    objects, hundred = [(1, box) for box in boxes], right(boxes[:100])
    for found, settings in ((hundred, None), (right(boxes[:37]), {"model.roi_heads.detections_per_img": 37})):
        (entry,) = analysis_of(objects, found, settings=settings)["advice"]
        assert f"more objects than the {len(found)} detections which are kept of an image" in entry["problem"]
        assert "detections_per_img=225" in entry["remedy"]
    for settings in (None, {"model.roi_heads.detections_per_img": 200}):  # just so many were found
        (entry,) = analysis_of(objects, right(boxes[:37]), settings=settings)["advice"]
        assert "missed objects" in entry["problem"]


def test_no_gain_is_advised_that_the_images_cannot_show():
    """Missed: 4 of 40 objects, a gain of 0.099."""
    boxes = row(40, 100, step=100)
    objects, found = [(1, box) for box in boxes], right(boxes[4:])
    (entry,) = analysis_of(objects, found)["advice"]
    assert entry["gain"] == pytest.approx(10 / 101)
    assert analysis_of(objects, found, interval=(0.8, 0.99))["advice"] != []  # it shows 0.095
    assert analysis_of(objects, found, interval=(0.78, 0.99))["advice"] == []
    # without an interval: 1.96 √(0.9 · 0.1 / 40) is 0.093, and with 20 objects 0.131
    assert len(analysis_of(objects, found, interval=None)["advice"]) == 1
    assert analysis_of(objects[:20], right(boxes[2:20]), interval=None)["advice"] == []


def test_a_value_in_use_is_said_and_not_asked_for():
    crowded = [box for left in range(0, 2000, 400) for box in ([left, 0, 100, 100], [left + 20, 0, 100, 100])]
    settings = {"model.roi_heads.nms_thresh": 0.5}
    (entry,) = analysis_of([(1, box) for box in crowded], right(crowded[::2]), settings=settings)["advice"]
    assert "model.roi_heads.nms_thresh (now 0.5)" in entry["remedy"]
    large, small = row(5, 100), row(5, 10, top=500)
    found, settings = right([*large, small[0]]), {"model.min_size": [640, 800]}
    (entry,) = analysis_of([(1, box) for box in (*large, *small)], found, settings=settings)["advice"]
    assert "above its present value (now 800)" in entry["remedy"]
    boxes = row(5, 100)
    (entry,) = analysis_of([(1, boxes[0])], [*right(boxes[:1]), *((1, box, 0.95) for box in boxes[1:])])["advice"]
    assert "where no object is labelled" in entry["problem"]
    assert "data.empty_images" not in entry["remedy"]  # keep is what it is


def test_every_remedy_names_what_there_is():
    source = Path(improvement_advice.__file__).read_text(encoding="utf-8")
    keys = set(re.findall(r"\b((?:model|data|trainer)\.[a-z_.]*[a-z_])\b", source))
    assert {"model.min_size", "model.roi_heads.nms_thresh", "data.repeat_threshold"} <= keys
    cfg = compose("train", ["data.root=x"])
    for key in keys:
        assert OmegaConf.select(cfg, key, throw_on_missing=False, default="absent") != "absent", key
    verbs = set(re.findall(r"finemask ((?:data )?[a-z]+)", source)) - {"evaluation"}
    assert {"data tile", "data suspects"} <= verbs <= VERBS.keys()


def test_it_is_written_and_only_then(tmp_path):
    dataset = random_dataset(3, objects=12)
    evaluator = CocoEvaluator(ground_truth_from_dict(dataset))
    evaluator.add_results(random_results(dataset, 4))
    keys = {"errors", "confusion", "slices", "advice"}
    assert not keys & evaluator.compute().keys()  # a validation in training does without
    write_evaluation(tmp_path, evaluator)
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert keys <= metrics.keys()
    assert (metrics["errors"]["iou"], metrics["errors"]["background_iou"]) == (0.5, 0.1)
    for kind in ("bbox", "segm"):
        assert metrics["errors"][kind]["AP50"] == pytest.approx(metrics[kind]["AP50"], abs=1e-9)
    assert metrics["confusion"]["iou_type"] == "segm"
    assert metrics["confusion"]["threshold"] == metrics["operating_point"]["threshold"]
    sizes = [entry["ground_truths"] for entry in metrics["slices"] if entry["kind"] == "size"]
    assert sum(sizes) == metrics["ground_truths"]
    found = sum(entry["ground_truths"] * entry["recall"] for entry in metrics["slices"] if entry["kind"] == "size")
    assert found == pytest.approx(metrics["operating_point"]["true_positives"])


def test_nothing_found_nothing_to_find_and_all_right(dataset, tmp_path):
    truth = ground_truth_from_dict(dataset)
    evaluator = CocoEvaluator(truth)
    nothing = analyse(evaluator)
    assert nothing["errors"]["segm"]["types"]["missed"] == {"count": 4, "gain": 1}
    (entry,) = nothing["advice"]  # all are missed, whatever their size or class
    assert (entry["share"], "missed objects (4 of 4)" in entry["problem"]) == (1, True)
    evaluator.add_results(ground_truth_as_predictions(truth))
    perfect = analyse(evaluator)
    assert perfect["errors"]["bbox"]["AP50"] == 1
    assert sum(entry["count"] for entry in perfect["errors"]["segm"]["types"].values()) == 0
    assert np.array_equal(perfect["confusion"]["counts"], [[1, 0, 0], [0, 3, 0], [0, 0, 0]])
    empty = CocoEvaluator(ground_truth_from_dict(dataset | {"annotations": []}))
    written = write_evaluation(tmp_path, empty)
    assert written.metrics["errors"]["segm"]["AP50"] is None
    assert written.metrics["slices"] == written.metrics["advice"] == []
