"""Whole conversions: recognising, boxes, images, splits, and folders that must not be touched."""

import json
import os

import numpy as np
import pytest
from convert_data import encode, hard_coco, read_back, write_image, write_json
from PIL import Image

from finemask.datatools.convert.conversion import convert
from finemask.datatools.convert.output_folder import Output
from finemask.datatools.convert.records import ImageRecord, Notes
from finemask.datatools.convert.source_files import ReadOptions
from finemask.errors import ConfigError, DataError


@pytest.fixture
def boxes(tmp_path):
    """A YOLO folder with a box and an outline."""
    write_image(tmp_path / "in/images/a.jpg", 20, 40)
    label = tmp_path / "in/labels/a.txt"
    label.parent.mkdir()
    label.write_text("0 0.5 0.5 0.5 0.5\n0 0.1 0.1 0.9 0.1 0.9 0.9\n")
    return tmp_path / "in"


@pytest.mark.parametrize(("choice", "segmentations"), [("keep", [0, 6]), ("rectangle", [8, 6]), ("drop", [6])])
def test_boxes_are_kept_without_a_mask_made_rectangles_or_dropped(boxes, tmp_path, choice, segmentations) -> None:
    done = convert(boxes, tmp_path / "out", boxes=choice, preview=False)
    assert done.num_boxes == 1
    annotations = [item[3] for item in read_back(tmp_path / "out")["a"]]
    assert [sum(map(len, annotation["segmentation"])) for annotation in annotations] == segmentations
    if choice != "drop":
        assert annotations[0]["bbox"] == [10, 5, 20, 10]
        assert annotations[0]["area"] == 200


@pytest.mark.parametrize(("images", "same_file"), [("link", True), ("copy", False)])
def test_images_are_hard_links_or_copies(boxes, tmp_path, images, same_file) -> None:
    done = convert(boxes, tmp_path / "out", images=images, preview=False)
    written = tmp_path / "out/images/a.jpg"
    assert not written.is_symlink()
    assert written.samefile(boxes / "images/a.jpg") is same_file
    assert (done.output.linked, done.output.copied) == ((1, 0) if same_file else (0, 1))


def test_images_are_copied_where_links_are_impossible(boxes, tmp_path, monkeypatch) -> None:
    def refuse(*paths):
        raise OSError("another disk")

    monkeypatch.setattr(os, "link", refuse)
    done = convert(boxes, tmp_path / "out", preview=False)
    assert (done.output.linked, done.output.copied) == (0, 1)
    assert (tmp_path / "out/images/a.jpg").read_bytes() == (boxes / "images/a.jpg").read_bytes()


def test_annotations_alone(tmp_path) -> None:
    image = {"id": 1, "file_name": "gone.jpg", "height": 8, "width": 8}
    annotation = {"id": 1, "image_id": 1, "category_id": 1, "segmentation": encode(np.eye(8, dtype=bool))}
    path = write_json(
        tmp_path / "in/x.json", {"images": [image], "annotations": [annotation], "categories": [{"id": 1, "name": "a"}]}
    )
    with pytest.raises(DataError, match=r"nothing is left to convert: annotated images that are not there left out: 1"):
        convert(path, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    done = convert(path, tmp_path / "out", images="none")
    assert done.preview is None
    assert list(read_back(tmp_path / "out")) == ["gone"]
    assert not (tmp_path / "out/images").exists()


def test_a_linked_folder_of_images_is_named_and_read_when_it_is_asked_for(tmp_path) -> None:
    images, source = tmp_path / "pictures", tmp_path / "in"
    images.mkdir()
    Image.new("RGB", (8, 8)).save(images / "a.png")
    image = {"id": 1, "file_name": "a.png", "height": 8, "width": 8}
    annotation = {"id": 1, "image_id": 1, "category_id": 1, "segmentation": encode(np.eye(8, dtype=bool))}
    categories = [{"id": 1, "name": "a"}]
    write_json(source / "x.json", {"images": [image], "annotations": [annotation], "categories": categories})
    (source / "images").symlink_to(images)
    with pytest.raises(DataError, match="images is a link, which is not followed") as caught:
        convert(source, tmp_path / "out")
    assert f"image_root={source / 'images'};" in str(caught.value)
    options = ReadOptions(image_root=source / "images")
    assert convert(source, tmp_path / "out", options=options, preview=False).output.linked == 1


def test_the_preview_shows_images_and_the_legend(tmp_path) -> None:
    done = convert(hard_coco(tmp_path / "in", splits=("train",)), tmp_path / "out")
    assert done.preview == tmp_path / "out/preview.png"
    with Image.open(done.preview) as picture:
        colours = {colour for _, colour in picture.convert("RGB").getcolors(2**24)}
        assert picture.width > 1000
    assert len(colours) > 1000


@pytest.mark.parametrize(
    ("key", "value"), [("format", "tfrecord"), ("to", "voc"), ("images", "move"), ("boxes", "maybe")]
)
def test_unknown_values_name_the_known_ones(boxes, tmp_path, key, value) -> None:
    with pytest.raises(ConfigError, match=rf"{key}={value} is not known.*There is: "):
        convert(boxes, tmp_path / "out", **{key: value})
    with pytest.raises(ConfigError, match="tolerance_px"):
        convert(boxes, tmp_path / "out", tolerance_px=-1)


def test_a_folder_that_holds_something_else_is_not_touched(boxes, tmp_path) -> None:
    precious = write_json(tmp_path / "out/annotations/train.json", {"mine": 1})
    with pytest.raises(DataError, match="already holds something else: annotations"):
        convert(boxes, tmp_path / "out")
    assert json.loads(precious.read_text()) == {"mine": 1}
    with pytest.raises(DataError, match="inside the source"):
        convert(boxes, boxes / "coco")
    (tmp_path / "file").write_text("x")
    with pytest.raises(DataError, match="this is a file"):
        convert(boxes, tmp_path / "file")


def test_files_that_somebody_added_to_an_output_stay(boxes, tmp_path) -> None:
    convert(boxes, tmp_path / "out", preview=False)
    mine = write_json(tmp_path / "out/annotations/mine.json", {})
    listed = json.loads((tmp_path / "out/.finemask-convert.json").read_text())
    listed["files"].append("../in/labels/a.txt")
    (tmp_path / "out/.finemask-convert.json").write_text(json.dumps(listed))
    convert(boxes, tmp_path / "out", to="yolo", preview=False)
    assert mine.exists()
    assert (boxes / "labels/a.txt").exists()  # a list that was tampered with deletes nothing outside
    assert not (tmp_path / "out/annotations/train.json").exists()


def test_two_formats_in_one_folder_need_a_choice(boxes, tmp_path) -> None:
    write_json(boxes / "x.json", {"images": [], "annotations": [], "categories": []})
    with pytest.raises(DataError, match=r"several formats are here: coco \(x\.json\); yolo \(labels/a\.txt\).*format="):
        convert(boxes, tmp_path / "out")
    assert convert(boxes, tmp_path / "out", format="yolo", preview=False).recognised_by is None


def test_nothing_known_is_said_with_the_list(tmp_path) -> None:
    write_image(tmp_path / "in/a.jpg", 4, 4)
    with pytest.raises(DataError, match=r"no known format among 1 files.*coco, yolo, voc"):
        convert(tmp_path / "in", tmp_path / "out")


def test_names_stay_apart_when_files_beside_images_take_them(tmp_path) -> None:
    def record(name, path=None):
        return ImageRecord(name, 1, 1, tmp_path / (path or name))

    images = [record("x/d/a.jpg"), record("x/d/a.png"), record("x/e/A.jpg"), record("x/d/a.jpg")]
    output = Output(tmp_path)
    output.name_images([images], by_stem=True)
    assert [output.name_of(image) for image in images] == ["d/a.jpg", "d/a_2.png", "e/A.jpg", "d/a.jpg"]
    output.name_images([images], by_stem=False)
    assert [output.name_of(image) for image in images] == ["d/a.jpg", "d/a.png", "e/A.jpg", "d/a.jpg"]
    output.name_images([images[:1], images[1:2]], by_stem=True)
    assert [output.name_of(image) for image in images[:2]] == ["a.jpg", "a.png"]


def test_notes_count_and_show_three_examples() -> None:
    notes = Notes()
    for number in range(1200):
        notes.add("things left out", f"file {number}")
    notes.add("one")
    assert notes.lines() == ["things left out: 1,200 (file 0, file 1, file 2, …)", "one: 1"]
    assert notes.count("one") == 1


def labelme(root, *shapes):
    write_image(root / "a.jpg", 20, 30)
    document = {"version": "5.0", "imagePath": "a.jpg", "imageData": None, "imageHeight": 20, "imageWidth": 30}
    write_json(
        root / "a.json", document | {"shapes": [{"label": "cat", "group_id": None, **shape} for shape in shapes]}
    )
    return root


LINE = {"points": [[2, 2], [20, 12]], "shape_type": "line"}
BOX = {"points": [[2, 2], [20, 12]], "shape_type": "rectangle"}
THIN = {"points": [[2, 2], [2.01, 2], [2.01, 2.01]], "shape_type": "polygon"}


@pytest.mark.parametrize(
    ("shapes", "boxes", "message"),
    [
        ([LINE, LINE], "keep", "points and lines left out.*: 2"),
        ([BOX], "drop", "boxes without an outline, which boxes=drop leaves out: 1"),
        ([THIN, LINE], "keep", "objects without a single pixel: 1; .*left out"),
    ],
)
def test_a_conversion_that_would_lose_every_object_writes_nothing(tmp_path, shapes, boxes, message) -> None:
    root = labelme(tmp_path / "in", *shapes)
    with pytest.raises(DataError, match=f"every object would be lost.*{message}"):
        convert(root, tmp_path / "out", boxes=boxes)
    assert not (tmp_path / "out").exists()


def test_an_image_without_objects_is_converted(tmp_path) -> None:
    done = convert(labelme(tmp_path / "in"), tmp_path / "out", preview=False)
    assert [len(image.instances) for image in done.dataset.images] == [0]
