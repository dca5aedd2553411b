"""``finemask data stats``, from the command line to the files."""

import json

import numpy as np
import pytest
from stats_data import rectangle, write_coco

from finemask.cli import main

HW = (60, 80)


@pytest.fixture
def dataset(tmp_path):
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 255, (*HW, 3), dtype=np.uint8) for _ in range(4)]
    objects = [(k % 3, "nut [big]" if k % 2 else "fig", rectangle(HW, 3 * k, k, 3 * k + 20, k + 30)) for k in range(9)]
    return write_coco(tmp_path / "set", images, objects)


def stats(dataset, output, *words):
    return main(["data", "stats", f"annotations={dataset}", f"output={output}", *words])


def test_numbers_page_and_table(dataset, tmp_path, capsys):
    images = dataset.parent.parent / "images"
    assert stats(dataset, tmp_path / "out", f"images={images}") == 0
    numbers = json.loads((tmp_path / "out" / "stats.json").read_text())
    assert numbers["counts"]["objects"] == 9
    assert numbers["images"]["measured"] == 4
    assert {item["topic"] for item in numbers["advice"]} >= {"image size", "anchors", "detection cap", "rare classes"}
    page = (tmp_path / "out" / "index.html").read_text()
    shown = capsys.readouterr().out
    for text in (numbers["command"], "nut [big]"):
        assert text in page
        assert text in shown
    assert shown.startswith("What it means for training")
    assert shown.index(numbers["command"]) < shown.index("objects in an image")
    assert page.index(numbers["command"].replace("'", "&#39;")) < page.index("Size of the objects")
    for item in numbers["advice"]:
        assert item["topic"] in shown
        for override in item["overrides"] if item["state"] != "keep" else ():
            assert override in page
            assert override in " ".join(shown.split())
    assert str(tmp_path / "out" / "index.html") in shown


def test_without_images_it_says_what_is_missing(dataset, tmp_path, capsys):
    for path in (dataset.parent.parent / "images").iterdir():
        path.unlink()
    assert stats(dataset, tmp_path / "out") == 0
    assert json.loads((tmp_path / "out" / "stats.json").read_text())["images"] is None
    assert "were not opened" in " ".join(capsys.readouterr().out.split())


def test_the_model_and_its_keys_count(dataset, tmp_path):
    assert stats(dataset, tmp_path / "out", "model=light", "model.min_size=480") == 0
    training = json.loads((tmp_path / "out" / "stats.json").read_text())["training"]
    assert (training["model"], training["min_size"], training["anchor_sizes"][0]) == ("light", 480, 16)


def test_fitted_anchors_stand_beside_those_in_use(dataset, tmp_path, capsys):
    """The anchors that are in use are far too large for every object; a command line may ask for either."""
    words = ("model=light", "model.anchors=auto", "model.anchors.sizes=[600,1200,2400,4800,9600]")
    assert stats(dataset, tmp_path / "out", *words) == 0
    training = json.loads((tmp_path / "out" / "stats.json").read_text())["training"]
    assert training["anchor_sizes"] == [600, 1200, 2400, 4800, 9600]
    assert training["anchor_covers_half"] == 0
    assert training["fitted"]["anchor_covers_half"] > 0.5
    assert len(training["fitted"]["anchor_sizes"]) == 5
    assert max(training["fitted"]["anchor_sizes"]) < 9600
    shown = " ".join(capsys.readouterr().out.split())
    assert "anchors 0 % of the objects have one that overlaps them by half or more; with model.anchors=auto" in shown


def test_a_sample_of_the_images(dataset, tmp_path, capsys):
    images = dataset.parent.parent / "images"
    assert stats(dataset, tmp_path / "out", f"images={images}", "sample=2") == 0
    assert "Measured on 2 images (of 4, spread evenly)" in " ".join(capsys.readouterr().out.split())
    assert stats(dataset, tmp_path / "out", f"images={images}", "sample=0") == 2
    assert "sample cannot be 0" in capsys.readouterr().err


def test_missing_images_are_the_users_to_mend(dataset, tmp_path, capsys):
    (dataset.parent.parent / "images" / "image_1.png").unlink()
    assert stats(dataset, tmp_path / "out", f"images={dataset.parent.parent / 'images'}") == 2
    assert "1 of 4 images are not in" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_its_own_page_is_replaced_and_no_other(dataset, tmp_path, capsys):
    output = tmp_path / "out"
    assert stats(dataset, output) == 0
    assert stats(dataset, output) == 0
    (output / "index.html").write_text("<h1>my own</h1>")
    assert stats(dataset, output) == 2
    assert "a page of something else" in capsys.readouterr().err
    assert (output / "index.html").read_text() == "<h1>my own</h1>"
    assert stats(dataset, dataset) == 2
    assert "a folder was expected" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["fruits_nuts", "coco_ccby33"])
def test_real_datasets(shared_dir, tmp_path, name, capsys):
    root = shared_dir / "datasets" / name
    document = json.loads((root / "annotations" / "val.json").read_text())
    assert stats(root / "annotations" / "val.json", tmp_path, f"images={root / 'images'}") == 0
    numbers = json.loads((tmp_path / "stats.json").read_text())
    assert numbers["counts"]["images"] == len(document["images"])
    assert numbers["counts"]["objects"] == sum(not entry["iscrowd"] for entry in document["annotations"])
    assert numbers["counts"]["annotations_without_pixels"] == 0
