"""``predict`` numbers its images itself; what is scored is scored on the images that are meant."""

import json
import re

import pytest
from inference_data import ColourModel, colour_header, encode, rectangles
from PIL import Image

from finemask import cli
from finemask.inference.predictor import Predictor
from finemask.workflows import predict_images as verb

CLASSES = [{"id": 500, "name": "blue"}, {"id": 3, "name": "green/date"}, {"id": 8, "name": "red fig"}]
PLACES = {"a.png": (5, 6, 25, 20), "b.png": (30, 10, 50, 36), "c.png": (2, 20, 20, 38)}  # images of one size


@pytest.fixture
def dataset(tmp_path, monkeypatch):
    """Three images whose ids in the file are not in the order of their names, and other ids of classes."""
    (tmp_path / "images").mkdir()
    truth = {"images": [], "annotations": [], "categories": CLASSES}
    for id_, (name, place) in zip((7, 3, 1), PLACES.items(), strict=True):
        image = rectangles(red=place)
        Image.fromarray(image).save(tmp_path / "images" / name)
        mask = image[..., 0] > 200
        truth["images"].append({"id": id_, "file_name": name, "height": 40, "width": 60})
        box = [place[0], place[1], place[2] - place[0], place[3] - place[1]]
        truth["annotations"].append(
            {"id": id_, "image_id": id_, "category_id": 8, "segmentation": encode(mask), "bbox": box, "iscrowd": 0}
        )
    (tmp_path / "truth.json").write_text(json.dumps(truth))
    monkeypatch.setattr(verb, "load", lambda path, device, trust: Predictor(ColourModel(), colour_header()))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def predict(*words, source="images", output="found"):
    return cli.main(["predict", "model=m", f"source={source}", f"output={output}", "save=coco", *words])


def evaluate(results="found/predictions.json", truth="truth.json"):
    return cli.main(["evaluate", f"predictions={results}", f"annotations={truth}", "output=scores"])


def edit(path, change):
    content = json.loads(path.read_text())
    path.write_text(json.dumps(change(content) or content))


def ap(folder):
    return json.loads((folder / "scores" / "metrics.json").read_text())["segm"]["AP"]


def test_ids_of_an_annotation_file(dataset, capsys):
    assert predict("annotations=truth.json") == 0
    found = json.loads((dataset / "found" / "predictions.json").read_text())
    assert [(entry["image_id"], entry["category_id"]) for entry in found] == [(7, 8), (3, 8), (1, 8)]
    side = json.loads((dataset / "found" / "images.json").read_text())
    assert [(image["id"], image["file_name"]) for image in side["images"]] == [(7, "a.png"), (3, "b.png"), (1, "c.png")]
    assert {entry["name"]: entry["id"] for entry in side["categories"]} == {c["name"]: c["id"] for c in CLASSES}
    assert evaluate() == 0
    assert ap(dataset) == pytest.approx(1)
    (dataset / "found" / "images.json").unlink()
    assert evaluate() == 0  # pycocotools takes the file as it is
    assert ap(dataset) == pytest.approx(1)


def test_an_image_that_the_file_does_not_have_is_said_and_left_out(dataset, capsys):
    Image.fromarray(rectangles(red=(1, 1, 9, 9))).save(dataset / "images" / "other.png")
    assert predict("annotations=truth.json") == 0
    assert "left out of predictions.json: 1 of the images (other.png)" in capsys.readouterr().out
    assert {e["image_id"] for e in json.loads((dataset / "found" / "predictions.json").read_text())} == {7, 3, 1}
    assert evaluate() == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda truth: [image.update(file_name="x" + image["file_name"]) for image in truth["images"]], "none of the"),
        (lambda truth: truth["categories"].pop(), "lacks 'red fig'"),
        (lambda truth: truth["categories"][2].update(name="red"), "lacks 'red fig'"),
        (lambda truth: truth["images"][0].update(file_name="b.png"), "may be any of b.png, b.png"),
        (lambda truth: truth.pop("images"), "no list named 'images'"),
    ],
)
def test_an_annotation_file_that_is_of_other_images_or_classes_is_refused(dataset, change, message, capsys):
    edit(dataset / "truth.json", lambda truth: change(truth) and None)
    assert predict("annotations=truth.json") == 2
    error = capsys.readouterr().err
    assert message in error
    assert "truth.json" in error
    assert not (dataset / "found").exists()


def test_an_image_of_another_size_than_annotated_is_skipped_with_exit_2(dataset, capsys):
    edit(dataset / "truth.json", lambda truth: truth["images"][0].update(height=41))
    assert predict("annotations=truth.json") == 2
    assert "a.png: the image is 60 × 40 px, its annotations say 60 × 41" in capsys.readouterr().err
    assert {e["image_id"] for e in json.loads((dataset / "found" / "predictions.json").read_text())} == {3, 1}


def test_numbers_of_predict_are_scored_on_the_images_that_they_mean(dataset):
    """On images of one size they would fit the ground truth in form, and score nothing."""
    edit(dataset / "truth.json", lambda truth: {**truth, "images": truth["images"], "categories": CLASSES})
    renumber = {7: 2, 3: 3, 1: 1}  # the very ids of predict, in another order

    def permute(truth):
        for entry in truth["images"]:
            entry["id"] = renumber[entry["id"]]
        for entry in truth["annotations"]:
            entry["image_id"] = renumber[entry["image_id"]]

    edit(dataset / "truth.json", permute)
    assert predict() == 0
    assert [entry["image_id"] for entry in json.loads((dataset / "found" / "predictions.json").read_text())] == [
        1,
        2,
        3,
    ]
    assert evaluate() == 0
    assert ap(dataset) == pytest.approx(1)


def test_a_list_of_images_that_disagrees_is_refused(dataset, capsys):
    assert predict() == 0
    images = dataset / "found" / "images.json"
    whole = images.read_text()

    def refused(message):
        assert evaluate() == 2
        error = capsys.readouterr().err
        assert message in error
        assert "images.json" in error
        images.write_text(whole)

    edit(images, lambda side: side["images"][1].update(file_name="z.png"))
    refused("1 of 3 predicted images are not in the ground truth truth.json, whose file names are such as a.png: z.png")
    edit(images, lambda side: side["images"][1].update(height=80))
    refused("b.png was predicted at 80 × 60 px; the ground truth truth.json says 40 × 60 px")
    edit(images, lambda side: side["categories"][0].update(name="date"))
    refused("lacks 'date', found by the model")
    images.write_text(whole[:50])
    refused("broken JSON")
    # results that it was not written with: their ids may be anything
    edit(dataset / "found" / "predictions.json", lambda found: found[::-1])
    refused("it was written with other results than these. It says that image 1 is a.png")


def test_a_list_of_other_results_may_lie_there_if_it_says_the_same(dataset):
    assert predict("annotations=truth.json") == 0
    edit(dataset / "found" / "predictions.json", lambda found: found[::-1])
    assert evaluate() == 0
    assert ap(dataset) == pytest.approx(1)
    (dataset / "found" / "images.json").write_text("[]")  # somebody else's
    assert evaluate() == 0


def test_an_evaluation_in_the_same_folder_takes_the_old_list_away(dataset):
    assert predict() == 0
    assert cli.main(["evaluate", "predictions=found/predictions.json", "annotations=truth.json", "output=found"]) == 0
    assert not (dataset / "found" / "images.json").exists()
    assert evaluate() == 0
    assert ap(dataset) == pytest.approx(1)


def test_two_predictions_are_compared_on_the_images_that_they_mean(dataset, capsys):
    assert predict(output="one") == 0
    assert predict("annotations=truth.json", output="two") == 0
    words = ["compare", "a=one/predictions.json", "b=two/predictions.json", "annotations=truth.json", "output=both"]
    assert cli.main(words) == 0
    assert "AP50 1.000 1.000" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize("words", [["source="], ["source=[]"], ["source=['']"], ["source=images", "model="]])
def test_an_empty_word_is_not_the_current_folder(dataset, words, capsys):
    assert cli.main(["predict", "model=m", "output=found", *words]) == 2
    assert re.search("empty|source cannot be", capsys.readouterr().err)
    assert not (dataset / "found").exists()


def test_images_that_were_not_predicted_are_said_and_no_image_at_all_is_refused(dataset, caplog, capsys):
    assert predict(source="images/a.png") == 0
    assert evaluate() == 0
    assert "2 of 3 images of the ground truth are not among the predicted ones" in caplog.text
    Image.fromarray(rectangles()).save(dataset / "empty.png")
    assert predict(source="empty.png") == 0
    assert json.loads((dataset / "found" / "predictions.json").read_text()) == []
    assert evaluate() == 2
    assert "1 of 1 predicted images are not in the ground truth" in capsys.readouterr().err
