import base64
import io
import json
import re

import numpy as np
import pytest
from evaluation_data import random_dataset, random_results
from PIL import Image
from report_data import evaluated, report

from finemask.evaluation.analysis.operating_points import build_curve
from finemask.evaluation.evaluator import CocoEvaluator
from finemask.evaluation.ground_truth import ground_truth_from_dict
from finemask.evaluation.numbers.pycocotools_reference import ground_truth_as_predictions
from finemask.reports.curve_figures import _settled
from finemask.reports.evaluation_report import write_evaluation


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
    assert json.loads(written.paths[0].read_text()) == written.metrics
    assert written.metrics.items() >= evaluator.compute().items()
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
    assert written.metrics.items() >= again.compute().items()


def test_long_curves_begin_where_precision_has_settled():
    scores = np.linspace(1, 0, 300)
    right = np.arange(300) > 0  # the best scored one is wrong
    curve = build_curve(scores, right, 400)
    assert curve.precision[0] == 0
    assert curve.precision[_settled(curve)][0] == 0.9
    short = build_curve(scores[:50], right[:50], 400)
    assert short.precision[_settled(short)][0] == 0
