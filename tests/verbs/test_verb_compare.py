"""``finemask compare`` end to end on a dataset made by code."""

import base64
import copy
import io
import json
import re

import numpy as np
import pytest
from evaluation_data import plain_coco_eval, random_dataset
from PIL import Image

from finemask.cli import main as command_line
from finemask.config import compose
from finemask.errors import ConfigError, DataError
from finemask.evaluation.evaluator import CocoEvaluator
from finemask.evaluation.ground_truth import load_ground_truth
from finemask.ops.colours import ONE_OF_TWO, VERDICTS
from finemask.reports.evaluation_report import ReportContext, write_evaluation
from finemask.verbs.compare import main

IMAGES = 24


def run(*overrides):
    return main(compose("compare", [str(override) for override in overrides]))


def detections(dataset, seed, lost):
    """The objects themselves, a part of them lost, with scores without ties, and a false one in every other image."""
    random = np.random.default_rng(seed)
    found = [
        {key: annotation[key] for key in ("image_id", "category_id", "bbox", "segmentation")}
        for annotation in dataset["annotations"]
        if not annotation["iscrowd"] and random.random() >= lost
    ]
    for image in dataset["images"][::2]:
        rle = dataset["annotations"][0]["segmentation"]
        same_size = rle["size"] == [image["height"], image["width"]]
        if same_size:
            found.append({"image_id": image["id"], "category_id": 2, "bbox": [0, 0, 9, 9], "segmentation": rle})
    return [result | {"score": float(random.uniform(0.2, 1))} for result in found]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Ground truth, images, and two evaluations: a loses half of the objects, b a tenth."""
    folder = tmp_path_factory.mktemp("compare")
    dataset = random_dataset(5, images=IMAGES)
    dataset["images"].append({"id": 77, "file_name": "empty.png", "height": 40, "width": 30})
    (folder / "truth.json").write_text(json.dumps(dataset))
    (folder / "images").mkdir()
    for image in dataset["images"]:
        Image.new("RGB", (image["width"], image["height"]), (90, 120, 60)).save(folder / "images" / image["file_name"])
    for name, lost in (("a", 0.5), ("b", 0.1)):
        results = detections(dataset, 1, lost)
        (folder / f"{name}.json").write_text(json.dumps(results))
        evaluator = CocoEvaluator(load_ground_truth(folder / "truth.json"), backend="pycocotools")
        evaluator.add_results(results)
        write_evaluation(folder / name, evaluator, ReportContext(images_dir=folder / "images"))
    return folder


@pytest.fixture(scope="module")
def compared(folder):
    assert run(f"a={folder}/a", f"b={folder}/b", f"output={folder}/out", "examples=3") == 0
    return json.loads((folder / "out/compare.json").read_text())


def test_the_numbers_are_those_of_pycocotools(folder, compared):
    dataset = json.loads((folder / "truth.json").read_text())
    assert compared["annotations"] == str(folder / "truth.json")
    assert (compared["images"], compared["resamples"], compared["level"]) == (IMAGES + 1, 1000, 0.95)
    for kind in ("bbox", "segm"):
        both = [plain_coco_eval(dataset, json.loads((folder / f"{n}.json").read_text()), kind) for n in "ab"]
        for key, a, b in zip(("AP", "AP50", "AP75", "APs", "APm", "APl"), *both, strict=False):
            row = compared[kind][key]
            assert (row["a"], row["b"]) == (pytest.approx(a, abs=1e-9), pytest.approx(b, abs=1e-9))
            assert row["difference"] == pytest.approx(b - a, abs=1e-9)
    assert compared["per_class"].keys() == {c["name"] for c in dataset["categories"]}


def test_what_was_measured_is_to_the_bit_what_evaluate_says(folder, compared, tmp_path):
    """Of perfect results too, whose AP is 1 and not almost that."""
    dataset = json.loads((folder / "truth.json").read_text())
    results = [{**a, "score": 1.0 - k / 1000} for k, a in enumerate(dataset["annotations"]) if not a["iscrowd"]]
    (tmp_path / "perfect.json").write_text(json.dumps(results))
    evaluator = CocoEvaluator(load_ground_truth(folder / "truth.json"))
    evaluator.add_results(results)
    write_evaluation(tmp_path / "perfect", evaluator)
    assert run(f"a={folder}/a", f"b={tmp_path}/perfect", f"output={tmp_path}/out") == 0
    content = json.loads((tmp_path / "out/compare.json").read_text())
    assert content["segm"]["AP"]["b"] == 1
    for found, paths in ((compared, (folder / "a", folder / "b")), (content, (folder / "a", tmp_path / "perfect"))):
        for side, path in zip("ab", paths, strict=True):
            metrics = json.loads((path / "metrics.json").read_text())
            for kind in ("bbox", "segm"):
                assert {key: row[side] for key, row in found[kind].items()} == {
                    key: metrics[kind][key] for key in found[kind]
                }
            for name, rows in found["per_class"].items():
                for key, row in rows.items():
                    assert (row and row[side]) == metrics["per_class"][name][key]
            for rate in ("precision", "recall", "f1"):
                assert found["operating_point"][rate][side] == metrics["operating_point"][rate]


def test_what_is_better_is_said_with_its_interval(compared):
    row = compared["segm"]["AP"]
    assert row["interval"][0] > 0
    assert row["p_value"] < 0.05
    assert re.fullmatch(r"b is better by 0\.\d{3} \(0\.\d{3} to 0\.\d{3}\)", row["verdict"])
    assert compared["wins"]["segm"]["a"] == 0
    assert sum(compared["wins"]["segm"].values()) == len(compared["per_class"])
    assert compared["operating_point"]["recall"]["difference"] > 0


def test_the_images_that_changed_are_counted_and_drawn(folder, compared):
    dataset = json.loads((folder / "truth.json").read_text())
    objects = {image["id"]: 0 for image in dataset["images"]}
    for annotation in dataset["annotations"]:
        objects[annotation["image_id"]] += not annotation["iscrowd"]
    changes = compared["changed_images"]
    assert changes
    assert [abs(row["fewer_errors"]) for row in changes] == sorted(
        (abs(r["fewer_errors"]) for r in changes), reverse=True
    )
    for row in changes:
        for side in "ab":
            assert row[side]["found"] + row[side]["missed"] == objects[row["image_id"]]
        errors = [row[side]["missed"] + row[side]["false"] for side in "ab"]
        assert row["fewer_errors"] == errors[0] - errors[1]
    page = (folder / "out/index.html").read_text()
    assert page.count("data:image/jpeg;base64,") == 3 * 3
    assert "http://" not in page
    assert "https://" not in page
    assert compared["segm"]["AP"]["verdict"] in page


def test_labels_are_coloured_by_who_found_them(tmp_path):
    """Four objects: found by both, by a, by b, by neither; and a false detection of b. Results have no masks here."""
    Image.new("RGB", (500, 120), (128, 128, 128)).save(tmp_path / "1.png")

    def thing(place, **values):
        x = 20 + 100 * place
        return {"image_id": 1, "category_id": 1, "bbox": [x, 30, 60, 60], **values}

    truth = {
        "images": [{"id": 1, "file_name": "1.png", "height": 120, "width": 500}],
        "categories": [{"id": 1, "name": "nut"}],
        "annotations": [thing(place, id=place + 1, iscrowd=0, area=3600) for place in range(4)],
    }
    (tmp_path / "truth.json").write_text(json.dumps(truth))
    for name, places in (("a", (0, 1)), ("b", (0, 2, 4))):
        (tmp_path / f"{name}.json").write_text(json.dumps([thing(place, score=0.9) for place in places]))
    words = (f"a={tmp_path}/a.json", f"b={tmp_path}/b.json", f"annotations={tmp_path}/truth.json")
    assert run(*words, f"images={tmp_path}", f"output={tmp_path}/out") == 0
    page = (tmp_path / "out/index.html").read_text()
    pictures = [
        np.asarray(Image.open(io.BytesIO(base64.b64decode(data))), dtype=int)
        for data in re.findall(r'data:image/jpeg;base64,([^"]+)', page)
    ]
    found, missed, false = (VERDICTS[name] for name in ("found", "missed", "false"))
    expected = [
        [found, ONE_OF_TWO, ONE_OF_TWO, missed, None],
        [found, found, missed, missed, None],
        [found, missed, found, missed, false],
    ]
    palette = (found, missed, false, ONE_OF_TWO)

    def likeness(edge, colour):  # of a line of a pixel, from which JPEG has taken much
        return edge @ (np.array(colour) - 128) / np.linalg.norm(np.array(colour) - 128)

    for picture, colours in zip(pictures, expected, strict=True):
        for place, colour in enumerate(colours):
            beside = picture[55:65, 100 * place + 70 : 100 * place + 90].reshape(-1, 3) - 128  # across the box's side
            edge = beside[np.abs(beside).sum(axis=1).argmax()]
            if colour is None:
                assert np.abs(edge).max() < 12
            else:
                assert max(palette, key=lambda known: likeness(edge, known)) == colour, (place, edge)


def test_the_same_detections_show_no_difference(folder, tmp_path, capsys):
    assert run(f"a={folder}/a", f"b={folder}/a.json", f"output={tmp_path}/same") == 0
    content = json.loads((tmp_path / "same/compare.json").read_text())
    for kind in ("bbox", "segm"):
        for row in content[kind].values():
            assert (row["difference"], row["verdict"]) == (0, "no difference can be shown")
            assert row["p_value"] in (1, None)  # large objects are in a handful of images
        assert content[kind]["AP"]["p_value"] == 1
    assert content["changed_images"] == []
    shown = capsys.readouterr().out + (tmp_path / "same/index.html").read_text()
    assert "no difference can be shown" in shown
    assert "better" not in shown
    assert "worse" not in shown


def test_results_files_need_their_ground_truth(folder, tmp_path):
    words = (f"a={folder}/b.json", f"b={folder}/a.json", f"output={tmp_path}/o")
    with pytest.raises(ConfigError, match=r"annotations=FILE"):
        run(*words)
    assert run(*words, f"annotations={folder}/truth.json", "iou_types=[bbox]", "max_detections=50") == 0
    content = json.loads((tmp_path / "o/compare.json").read_text())
    assert content["bbox"]["AP"]["verdict"].startswith("b is worse by 0.")
    assert "segm" not in content
    assert content["max_detections"] == 50
    assert "add images=FOLDER" in (tmp_path / "o/index.html").read_text()


def test_the_table_says_what_the_file_says(folder, compared, tmp_path, capsys):
    words = ["compare", f"a={folder}/a", f"b={folder}/b", f"output={tmp_path}/o", "examples=0"]
    assert command_line(words) == 0
    shown = capsys.readouterr().out
    row = compared["bbox"]["AP"]
    assert f"{row['difference']:+.3f} ({row['interval'][0]:+.3f} to {row['interval'][1]:+.3f})" in shown
    assert f"AP of masks: {compared['segm']['AP']['verdict']}" in shown
    assert "can show a difference of about" in shown


def changed_truth(folder, tmp_path, change):
    """An evaluation of b on a changed copy of the ground truth."""
    dataset = copy.deepcopy(json.loads((folder / "truth.json").read_text()))
    change(dataset)
    (tmp_path / "other.json").write_text(json.dumps(dataset))
    evaluator = CocoEvaluator(load_ground_truth(tmp_path / "other.json"), backend="pycocotools")
    known = {image["id"] for image in dataset["images"]}
    results = json.loads((folder / "b.json").read_text())
    evaluator.add_results([result for result in results if result["image_id"] in known])
    write_evaluation(tmp_path / "other", evaluator)
    return tmp_path / "other"


def drop_image(dataset):
    dataset["images"] = [image for image in dataset["images"] if image["id"] != 77]


def drop_annotation(dataset):
    dataset["annotations"].pop()


def move_box(dataset):
    dataset["annotations"][3]["bbox"][0] += 1


def add_category(dataset):
    dataset["categories"].append({"id": 500, "name": "date"})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (drop_image, r"a has 1 image that b has not \(77\)"),
        (drop_annotation, r"a has \d+ annotations, b has \d+"),
        (move_box, r"annotations differ, first in image \d"),
        (add_category, r"b has 1 category that a has not \(date\)"),
    ],
)
def test_different_ground_truth_is_named(folder, tmp_path, capsys, change, message):
    other = changed_truth(folder, tmp_path, change)
    assert command_line(["compare", f"a={folder}/a", f"b={other}", f"output={tmp_path}/o"]) == 2
    said = capsys.readouterr().err
    assert re.search(message, said)
    assert "different ground truth" in said
    assert not (tmp_path / "o").exists()


def test_ground_truth_that_was_changed_since(folder, tmp_path):
    other = changed_truth(folder, tmp_path, move_box)
    with pytest.raises(DataError, match="was evaluated with other ground truth than"):
        run(f"a={folder}/a", f"b={folder}/b.json", f"annotations={tmp_path}/other.json", f"output={tmp_path}/o")
    (tmp_path / "other.json").write_text((folder / "truth.json").read_text())
    with pytest.raises(DataError, match="as it is now"):
        run(f"a={other}", f"b={folder}/b.json", f"output={tmp_path}/o")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["a={f}/images", "b={f}/b"], "no predictions.json in this folder"),
        (["a={f}/a", "b={f}/b", "split=test"], "no predictions_test.json"),
        (["a={f}/a", "b={f}/b", "split=dev"], "split cannot be 'dev'"),
        (["a={f}/a", "b={f}/gone.json"], "no such file"),
        (["a={f}/a", "b={f}/truth.json"], "COCO annotation file; a results file is"),
        (["a={f}/a", "b={f}/b", "images={f}/none"], "is not a folder"),
        (["a=[{f}/a,{f}/b]", "b={f}/b"], "a cannot be ["),
        (["a={f}/a", "b={f}/b", "examples=-1"], "examples cannot be -1"),
        (["a={f}/a", "b={f}/b", "iou_types=[keypoints]"], "iou_types cannot be [keypoints]"),
    ],
)
def test_what_cannot_be_compared_is_explained(folder, tmp_path, words, message):
    with pytest.raises((ConfigError, DataError), match=re.escape(message)):
        run(*(word.replace("{f}", str(folder)) for word in words), f"output={tmp_path}/o")
    assert not (tmp_path / "o").exists()


def test_a_page_of_something_else_is_not_overwritten(folder, tmp_path):
    (tmp_path / "index.html").write_text("<h1>my own</h1>")
    with pytest.raises(DataError, match="something else"):
        run(f"a={folder}/a", f"b={folder}/b", f"output={tmp_path}")
    assert [path.name for path in tmp_path.iterdir()] == ["index.html"]
