"""The sections of the page: each there when its data are, the page whole without them."""

import io
import re

import numpy as np
import pytest
from evaluation_data import random_dataset, random_results
from html_page import Page
from PIL import Image
from report_data import evaluated, report, with_extras
from rich.console import Console

from finemask.evaluation.evaluator import CocoEvaluator
from finemask.evaluation.ground_truth import ground_truth_from_dict
from finemask.evaluation.numbers.pycocotools_reference import ground_truth_as_predictions
from finemask.reports.report_numbers import advice_of, operating_point_text, results_table


@pytest.fixture(scope="module")
def crowded(tmp_path_factory):
    """Images and an evaluation in which everything goes wrong that can."""
    folder = tmp_path_factory.mktemp("crowded")
    dataset = random_dataset(3, images=5)
    noise = np.random.default_rng(0)
    for image in dataset["images"]:
        pixels = noise.integers(0, 256, (image["height"], image["width"], 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / image["file_name"])
    return evaluated(dataset, random_results(dataset, 4)), folder


OPTIONAL = {
    "confidence_interval": "95 % interval",
    "thresholds": "Threshold for",
    "calibration": "Calibration",
    "errors": "What each kind of error costs",
    "confusion": "Confusion of classes",
    "slices": "Neighbours",
    "advice": "What would help most",
}


def test_all_sections_of_a_whole_evaluation(crowded, tmp_path):
    evaluator, images = crowded
    rows = [{"epoch": 0, "train/loss": 2.0}, {"epoch": 1, "train/loss": 1.0}]
    path, page = report(tmp_path, evaluator, with_extras(evaluator.compute()), images_dir=images, training_curves=rows)
    for heading in (*OPTIONAL.values(), "Objects by size", "Worst images", "False detections", "Training losses"):
        assert heading in page.words
    assert "Not computed" not in page.words
    assert len(page.ids) == len(set(page.ids))
    assert page.references
    assert set(page.references) <= set(page.ids)
    assert all(address.startswith("data:image/") for address in page.addresses)
    html = path.read_text(encoding="utf-8")
    for id_ in re.findall(r"getElementById\(\"([\w-]+)\"\)", html):
        assert id_ in page.ids
    # noise is the worst there is to compress: 500 such images make no larger page, since galleries are bounded
    assert path.stat().st_size < 15_000_000


@pytest.mark.parametrize("key", OPTIONAL)
@pytest.mark.parametrize("how", ["absent", "null"])
def test_a_section_without_data_is_left_out_and_named(dataset, tmp_path, key, how):
    evaluator = evaluated(dataset)
    metrics = with_extras(evaluator.compute())
    metrics.pop(key)
    _, page = report(tmp_path, evaluator, metrics if how == "absent" else metrics | {key: None})
    visible, _, said = page.words.partition("Not computed")
    assert OPTIONAL[key] not in visible
    assert said
    assert set(page.references) <= set(page.ids)
    others = [heading for other, heading in OPTIONAL.items() if other != key]
    assert all(heading in visible for heading in others)


def test_where_nothing_is_advised_the_page_says_why(dataset, tmp_path):
    evaluator = evaluated(dataset)
    metrics = with_extras(evaluator.compute())
    metrics["segm"] = metrics["segm"] | {"AP50": 0.8}
    said = "No kind of error costs more AP50 than 2 images can show (0.170)"
    images = {"images": 2, "detectable_gain": 0.17}
    for change, is_said in (({"advice": []}, True), ({}, False), ({"advice": [], "detectable_gain": None}, False)):
        _, page = report(tmp_path, evaluator, metrics | images | change)
        assert (said in page.words) is is_said


def test_intervals_advice_and_counts_are_those_of_the_metrics(crowded, tmp_path):
    evaluator, _ = crowded
    metrics = with_extras(evaluator.compute())
    path, page = report(tmp_path, evaluator, metrics)
    low, high = metrics["confidence_interval"]["segm"]["AP"]
    assert f"95 % interval {low:.3f} to {high:.3f}" in page.words
    low, high = metrics["confidence_interval"]["operating_point"]["recall"]
    assert f"{100 * low:.1f} to {100 * high:.1f} %" in page.words
    for entry in metrics["advice"]:
        assert entry["problem"] in page.words
    html = path.read_text(encoding="utf-8")
    assert "<code>data.tile</code> or <code>model.min_size=1200</code>, so" in html
    assert "<code>model.mask_resolution=56</code>." in html
    assert "over 512 px" not in page.words  # a group of nothing
    assert "images, drawn" not in page.words


def test_only_what_was_evaluated_has_a_column(dataset, tmp_path):
    evaluator = CocoEvaluator(ground_truth_from_dict(dataset), iou_types=["bbox"])
    evaluator.add_results(ground_truth_as_predictions(evaluator.ground_truth))
    _, page = report(tmp_path, evaluator)
    assert "Mask AP" not in page.words
    metrics = with_extras(evaluator.compute())
    metrics["boundary"] = metrics["bbox"] | {"AP": 0.123}
    _, page = report(tmp_path, evaluator, metrics)
    assert "Boundaries" in page.words
    assert "0.123" in page.words


def test_half_open_intervals_are_not_shown(dataset, tmp_path):
    evaluator = evaluated(dataset)
    metrics = with_extras(evaluator.compute())
    metrics["confidence_interval"]["segm"]["AP"] = [None, None]
    metrics["confidence_interval"]["operating_point"]["f1"] = None
    metrics["confidence_interval"]["per_class"] = {"nut": None}
    _, page = report(tmp_path, evaluator, metrics)
    assert "None" not in page.words


@pytest.mark.parametrize(
    ("remedy", "code"),
    [
        ("train longer (trainer.max_epochs), or so", ["trainer.max_epochs"]),
        ("keep empty images (data.empty_images=keep).", ["data.empty_images=keep"]),
        ("smaller model.anchors.sizes; data.scale=[0.5,2]!", ["model.anchors.sizes", "data.scale=[0.5,2]"]),
        ("finemask data suspects lists them, e.g. x < y", ["finemask data suspects"]),
        ("more labels of dining table and car", []),
    ],
)
def test_what_can_be_typed_is_marked(remedy, code):
    entry = advice_of({"advice": [{"gain": 0.1, "share": 0.2, "problem": "p", "remedy": remedy}] * 4})
    assert len(entry) == 3  # at most
    assert re.findall(r"<code>(.*?)</code>", entry[0]["remedy"]) == code
    assert Page(f"<p>{entry[0]['remedy']}</p>").words.replace(" ", "") == remedy.replace(" ", "")


def test_what_cannot_be_computed_is_not_available():
    block = dict.fromkeys(("AP", "AP50", "AP75", "APs", "APm", "APl"))
    point = dict.fromkeys(("threshold", "precision", "recall", "f1"))
    metrics = {
        "iou_types": ["bbox", "segm"],
        "detections": 0,
        "segm": {**block, "AP": 0.51234},
        "bbox": block,
        "operating_point": {**point, "true_positives": 0, "false_positives": 0, "false_negatives": 3},
    }
    stream = io.StringIO()
    Console(file=stream, width=120).print(results_table(metrics))
    text = stream.getvalue()
    assert "0.512" in text
    assert text.count("–") == 11
    assert operating_point_text(metrics) == (
        "no detection matches an object (0 detections; 0 found, 3 missed, 0 false)"
    )
    metrics["operating_point"] |= {"threshold": 0.5, "precision": 0.75, "f1": 0.6}
    assert operating_point_text(metrics) == (
        "at score 0.500: precision 0.750, recall –, F1 0.600 (0 found, 3 missed, 0 false)"
    )
