import base64
import io
import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from evaluation_data import random_dataset, random_results
from PIL import Image
from report_data import with_extras

from finemask.evaluation.coco import CocoEvaluator
from finemask.evaluation.ground_truth import ground_truth_from_dict
from finemask.evaluation.report.page import write_report
from finemask.evaluation.run import write_evaluation
from finemask.evaluation.self_check import ground_truth_as_predictions

VOID = {"meta", "img", "br", "hr", "link", "input"}


class Page(HTMLParser):
    """Checks that tags are balanced, and collects what a browser would fetch and what it would show."""

    def __init__(self, html):
        super().__init__()
        self.open, self.addresses, self.tags, self.text = [], [], [], []
        self.ids, self.references = [], []
        self.feed(html)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        for name, value in attrs:
            if name == "href" and value.startswith("#"):
                self.references.append(value[1:])
            elif name in ("src", "href", "srcset", "data", "action", "poster"):
                self.addresses.append(value)
            elif name == "id":
                self.ids.append(value)
            elif name in ("aria-labelledby", "aria-describedby", "for"):
                self.references += value.split()
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if not set(self.open) & {"style", "script"}:
            self.text.append(data)

    @property
    def words(self):
        return " ".join(" ".join(self.text).split())


def evaluated(dataset, results=None):
    truth = ground_truth_from_dict(dataset)
    evaluator = CocoEvaluator(truth)
    evaluator.add_results(ground_truth_as_predictions(truth) if results is None else results)
    return evaluator


def report(tmp_path, evaluator, metrics=None, **options):
    evaluation = evaluator.evaluate()
    path = write_report(
        tmp_path / "report",
        metrics=metrics or evaluation.metrics,
        curves=evaluation.curves,
        ground_truth=evaluator.ground_truth,
        results=evaluator.results,
        **options,
    )
    return path, Page(path.read_text(encoding="utf-8"))


@pytest.fixture
def images_dir(dataset, tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    for image in dataset["images"]:
        Image.new("RGB", (image["width"], image["height"]), (90, 120, 160)).save(folder / image["file_name"])
    return folder


def test_the_page_is_one_file_that_fetches_nothing(dataset, images_dir, tmp_path):
    path, page = report(tmp_path, evaluated(dataset), images_dir=images_dir, title="nuts")
    assert [p.name for p in path.parent.iterdir()] == ["index.html"]
    assert page.addresses
    assert all(address.startswith("data:image/jpeg;base64,") for address in page.addresses)
    html = path.read_text(encoding="utf-8")
    assert not re.search(r"url\(|@import|https?://", html)


def test_the_pictures_show_labels_and_predictions(dataset, images_dir, tmp_path):
    results = ground_truth_as_predictions(ground_truth_from_dict(dataset))[:1]  # the rest is missed
    _, page = report(tmp_path, evaluated(dataset, results), images_dir=images_dir)
    pictures = [
        np.asarray(Image.open(io.BytesIO(base64.b64decode(address.partition(",")[2]))), dtype=int)
        for address in page.addresses
    ]
    # three images, and large the three objects that are missed; each twice
    assert len(pictures) == 12
    pictures = pictures[:6]
    assert "could be read" not in page.words
    plain = (90, 120, 160)
    changed = [int((abs(picture - plain).max(axis=-1) > 24).sum()) for picture in pictures]
    by_image = {(truth, prediction) for truth, prediction in zip(changed[::2], changed[1::2], strict=True)}
    assert (0, 0) in by_image  # the image without objects
    assert any(truth and not prediction for truth, prediction in by_image)  # all missed
    assert any(truth > prediction > 0 for truth, prediction in by_image)


def test_class_names_and_titles_are_escaped(dataset, tmp_path):
    html = report(
        tmp_path,
        evaluated(dataset),
        title="<script>alert(1)</script>",
        provenance={"Model": "<b>x</b>"},
    )[0].read_text(encoding="utf-8")
    assert "<fig>" not in html
    assert "&lt;fig&gt; &amp; co" in html
    assert "<script>alert" not in html
    assert "<b>x</b>" not in html


def test_the_numbers_on_the_page_are_those_of_the_metrics(tmp_path):
    dataset = random_dataset(5)
    evaluator = evaluated(dataset, random_results(dataset, 6))
    metrics = evaluator.compute()
    _, page = report(tmp_path, evaluator, provenance={"Model": "model.safetensors"})
    assert f"{metrics['segm']['AP']:.3f}" in page.words
    for key in ("precision", "recall", "f1"):
        assert f"{100 * metrics['operating_point'][key]:.1f} %" in page.words
    for name, row in metrics["per_class"].items():
        assert name in page.words
        assert f"{row['bbox_AP']:.3f}" in page.words
    assert "model.safetensors" in page.words
    assert f"finemask {metrics['version']}" in page.words


def test_without_images_the_page_says_so(dataset, tmp_path):
    _, page = report(tmp_path, evaluated(dataset))
    assert "No folder of images was given" in page.words
    assert page.addresses == []


def test_images_that_cannot_be_read_are_named(dataset, images_dir, tmp_path):
    (images_dir / "b.png").unlink()
    _, page = report(tmp_path, evaluated(dataset), images_dir=images_dir)
    assert "1 of the images for example pictures could not be read" in page.words
    assert "(b.png)" in page.words
    assert len(page.addresses) == 4
    _, page = report(tmp_path, evaluated(dataset), images_dir=tmp_path / "nowhere")
    assert "The images for example pictures could not be read" in page.words


def test_a_page_of_nothing_found_and_of_nothing_to_find(dataset, tmp_path, images_dir):
    _, page = report(tmp_path, evaluated(dataset, []), images_dir=images_dir)
    assert "nothing was detected" in page.words
    assert "Scores and threshold" not in page.words
    dataset["annotations"] = []
    results = [{"image_id": 5, "category_id": 3, "bbox": [1, 1, 5, 5], "score": 0.5}]
    evaluator = CocoEvaluator(ground_truth_from_dict(dataset), iou_types=["bbox"])
    evaluator.add_results(results)
    _, page = report(tmp_path, evaluator, images_dir=images_dir)
    assert "0 objects" in page.words
    assert "Box AP –" in page.words


def test_classes_without_objects_and_detections_are_only_counted(dataset, tmp_path):
    dataset["categories"].append({"id": 4, "name": "walnut"})
    _, page = report(tmp_path, evaluated(dataset))
    assert "walnut" not in page.words
    assert "1 of 3 classes are not listed" in page.words


def test_everything_is_written_beside_each_other(dataset, tmp_path):
    evaluator = evaluated(dataset)
    written = write_evaluation(tmp_path / "out", evaluator)
    names = ["metrics.json", "predictions.json", "per_class.csv", "index.html"]
    assert [path.name for path in written.paths] == names
    assert written.paths[-1].parent == tmp_path / "out" / "report"
    assert json.loads(written.paths[0].read_text()) == written.metrics == evaluator.compute()
    predictions = json.loads(written.paths[1].read_text())
    assert predictions == evaluator.results
    assert predictions[0].keys() == {"image_id", "category_id", "bbox", "segmentation", "score"}
    header, *rows = written.paths[2].read_text().splitlines()
    assert header.split(",") == ["class", *written.metrics["per_class"]["nut"]]
    assert len(rows) == 2


def test_a_suffix_keeps_splits_apart(dataset, tmp_path):
    write_evaluation(tmp_path, evaluated(dataset))
    written = write_evaluation(tmp_path, evaluated(dataset), suffix="_test")
    assert [path.relative_to(tmp_path).as_posix() for path in written.paths] == [
        "metrics_test.json",
        "predictions_test.json",
        "per_class_test.csv",
        "report_test/index.html",
    ]
    assert (tmp_path / "metrics.json").is_file()
    assert not list(tmp_path.rglob(".*"))  # nothing temporary stays


def test_predictions_read_back_give_the_same_numbers(tmp_path):
    dataset = random_dataset(21)
    written = write_evaluation(tmp_path, evaluated(dataset, random_results(dataset, 22)))
    again = evaluated(dataset, json.loads((tmp_path / "predictions.json").read_text()))
    assert again.compute() == written.metrics


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
    metrics["iou_types"] = ["bbox", "boundary"]
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
