"""YOLO as people have it: every variant of data.yaml, boxes, outlines and lines that are wrong."""

import numpy as np
import pytest
import yaml
from convert_data import blob, encode, write_image, write_json

from finemask.datatools.convert.conversion import convert
from finemask.datatools.convert.source_files import ReadOptions, Source
from finemask.datatools.convert.yolo_format import read_yolo
from finemask.errors import DataError

SQUARE = "0.1 0.1 0.6 0.1 0.6 0.5 0.1 0.5"


def yolo_set(root, settings, *, folder="images/{split}", splits=("train", "val")):
    """One image a split with one object of class 1."""
    for split in splits:
        images = folder.format(split=split)
        write_image(root / images / f"{split}_1.jpg", 50, 100)
        label = root / images.replace("images", "labels") / f"{split}_1.txt"
        label.parent.mkdir(parents=True, exist_ok=True)
        label.write_text(f"1 {SQUARE}\n")
    if settings is not None:
        (root / "data.yaml").write_text(yaml.safe_dump(settings))
    return root


def splits_of(root):
    return {image.name: image.split for image in read_yolo(Source(root)).images}


@pytest.mark.parametrize("names", [["cat", "dog"], {0: "cat", 1: "dog"}, {"0": "cat", "1": "dog"}])
def test_names_may_be_a_list_or_a_mapping(tmp_path, names) -> None:
    dataset = read_yolo(Source(yolo_set(tmp_path, {"train": "images/train", "val": "images/val", "names": names})))
    assert [(category.id, category.name) for category in dataset.categories] == [(1, "cat"), (2, "dog")]
    instance = dataset.images[0].instances[0]
    assert instance.category == "dog"
    assert instance.polygons == [pytest.approx([10, 5, 60, 5, 60, 25, 10, 25])]


def test_sparse_numbers_without_a_0_stay_the_ids(tmp_path) -> None:
    root = yolo_set(tmp_path, {"train": "images/train", "names": {1: "person", 90: "toothbrush"}})
    assert [(c.id, c.name) for c in read_yolo(Source(root)).categories] == [(1, "person"), (90, "toothbrush")]


BOTH = {"images/train/train_1.jpg": "train", "images/val/val_1.jpg": "val"}


@pytest.mark.parametrize(
    "settings",
    [
        {"train": "images/train", "val": "images/val"},
        {"path": ".", "train": "images/train", "valid": "images/val"},
        {"path": "../datasets/mine", "train": "images/train", "val": "images/val"},
        {"path": "/content/mine", "train": "images/train", "val": "images/val"},
        {"train": "/content/mine/images/train", "val": "/content/mine/images/val"},
        {"train": ["images/train"], "val": ["images/val", "images/none"]},
        {"train": "../images/train", "val": "..\\images\\val"},
        {},
    ],
)
def test_folders_are_found_however_they_are_written(tmp_path, settings) -> None:
    assert splits_of(yolo_set(tmp_path / "mine", settings | {"names": ["cat", "dog"]})) == BOTH


def test_roboflow_layout(tmp_path) -> None:
    settings = {"train": "../train/images", "val": "../valid/images", "test": "../test/images", "nc": 2}
    settings |= {"names": ["a", "b"], "roboflow": {"license": "CC BY 4.0"}}
    root = yolo_set(tmp_path, settings, folder="{split}/images", splits=("train", "valid"))
    source = Source(root)
    dataset = read_yolo(source)
    assert [(image.name, image.split) for image in dataset.images] == [
        ("train/images/train_1.jpg", "train"),
        ("valid/images/valid_1.jpg", "val"),
    ]
    assert all(image.instances for image in dataset.images)
    assert source.notes.lines() == ["folders or lists named by the YAML file are not there: 1 (test: ../test/images)"]


def test_a_list_of_paths_is_a_split(tmp_path) -> None:
    root = yolo_set(tmp_path, {"train": "train.txt", "val": "val.txt", "names": ["cat", "dog"]})
    (root / "train.txt").write_text("./images/train/train_1.jpg\n/elsewhere/images/train/gone.jpg\n")
    (root / "val.txt").write_text("/home/me/images/val/val_1.jpg\n")
    assert splits_of(root) == BOTH


def test_none_of_the_folders_is_an_error(tmp_path) -> None:
    root = yolo_set(tmp_path, {"train": "a", "val": "b", "names": ["cat"]})
    with pytest.raises(DataError, match="none of its folders of images is there: train: a, val: b"):
        read_yolo(Source(root))


def test_without_a_yaml_classes_txt_names_them(tmp_path) -> None:
    write_image(tmp_path / "a.jpg", 10, 10)
    (tmp_path / "a.txt").write_text(f"0 {SQUARE}\n7 0.5 0.5 0.2 0.4\n")
    (tmp_path / "classes.txt").write_text("cat\n")
    source = Source(tmp_path)
    dataset = read_yolo(source)
    assert [instance.category for instance in dataset.images[0].instances] == ["cat", "class_7"]
    assert [(c.id, c.name) for c in dataset.categories] == [(1, "cat"), (8, "class_7")]
    assert "class number 7, which nothing names" in source.notes.lines()[0]
    (tmp_path / "classes.txt").unlink()
    told = read_yolo(Source(tmp_path, ReadOptions(classes=("x",))))
    assert told.images[0].instances[0].category == "x"


def test_boxes_confidences_and_key_points(tmp_path) -> None:
    root = yolo_set(tmp_path, {"train": "images/train", "names": ["a", "b"]}, splits=("train",))
    label = root / "labels/train/train_1.txt"
    label.write_text(f"0 0.5 0.5 0.2 0.4\n0 0.5 0.5 0.2 0.4 0.9\n1 {SQUARE} 0.77\n")
    box, sure_box, outline = read_yolo(Source(root)).images[0].instances
    assert box.is_box
    assert box.polygons == sure_box.polygons == [pytest.approx([40, 15, 60, 15, 60, 35, 40, 35])]
    assert not outline.is_box
    assert len(outline.polygons[0]) == 8
    (root / "data.yaml").write_text(yaml.safe_dump({"train": "images/train", "names": ["a"], "kpt_shape": [2, 3]}))
    label.write_text("0 0.5 0.5 0.2 0.4 0.1 0.1 2 0.3 0.3 2\n")
    (instance,) = read_yolo(Source(root)).images[0].instances
    assert instance.is_box


@pytest.mark.parametrize(
    "line", ["cat 0.1 0.2 0.3 0.4", "0 0.1 0.2 0.3", "1.5 0.1 0.2 0.3 0.4", "0 nan 0.1 0.1 0.1", "-1 0 0 1 1"]
)
def test_lines_that_are_none_are_counted_with_their_place(tmp_path, line) -> None:
    root = yolo_set(tmp_path, {"train": "images/train", "names": ["a", "b"]}, splits=("train",))
    (root / "labels/train/train_1.txt").write_text(f"1 {SQUARE}\n\n{line}\n")
    source = Source(root)
    assert len(read_yolo(source).images[0].instances) == 1
    assert source.notes.lines()[0].endswith(": 1 (labels/train/train_1.txt:3)")


def test_pixels_instead_of_fractions_are_told(tmp_path) -> None:
    root = yolo_set(tmp_path, {"train": "images/train", "names": ["a"]}, splits=("train",))
    (root / "labels/train/train_1.txt").write_text("0 50 20 10 10\n")
    source = Source(root)
    assert read_yolo(source).images[0].instances == []
    assert "no fractions of the image's size" in source.notes.lines()[0]


def test_an_image_without_a_label_file_has_no_objects(tmp_path) -> None:
    root = yolo_set(tmp_path, {"train": "images/train", "names": ["a", "b"]}, splits=("train",))
    write_image(root / "images/train/empty.jpg", 10, 10)
    assert {i.name: len(i.instances) for i in read_yolo(Source(root)).images} == {
        "images/train/empty.jpg": 0,
        "images/train/train_1.jpg": 1,
    }


def test_fractions_are_of_the_upright_image(tmp_path) -> None:
    root = yolo_set(tmp_path, {"train": "images/train", "names": ["a", "b"]}, splits=("train",))
    write_image(root / "images/train/train_1.jpg", 50, 100, orientation=6)
    image = read_yolo(Source(root)).images[0]
    assert (image.height, image.width) == (100, 50)
    assert image.instances[0].polygons[0][:4] == pytest.approx([5, 10, 30, 10])


def test_written_labels_have_contiguous_numbers_fractions_and_one_line_an_object(tmp_path) -> None:
    mask = blob(np.random.default_rng(3), 40, 50)
    mask[0:3, 0:3], mask[30:38, 30:48], mask[33:35, 35:40] = True, True, False
    write_image(tmp_path / "coco/images/a.png", 40, 50)
    entry = {"id": 1, "image_id": 5, "category_id": 9, "segmentation": encode(mask), "iscrowd": 0}
    box = {"id": 2, "image_id": 5, "category_id": 4, "bbox": [10, 10, 20, 10], "segmentation": []}
    document = {"images": [{"id": 5, "file_name": "a.png", "height": 40, "width": 50}], "annotations": [entry, box]}
    document["categories"] = [{"id": 4, "name": "x"}, {"id": 9, "name": "y: z"}]
    write_json(tmp_path / "coco/annotations/train.json", document)
    convert(tmp_path / "coco", tmp_path / "yolo", to="yolo", preview=False)
    lines = (tmp_path / "yolo/labels/train/a.txt").read_text().splitlines()
    assert [line.split()[0] for line in lines] == ["1", "0"]
    values = np.array(lines[0].split()[1:], dtype=float)
    assert len(values) % 2 == 0
    assert 0 <= values.min() <= values.max() <= 1
    assert lines[1].split()[1:] == ["0.4", "0.375", "0.4", "0.25"]
    settings = yaml.safe_load((tmp_path / "yolo/data.yaml").read_text())
    assert settings == {"train": "images/train", "names": {0: "x", 1: "y: z"}}
    assert (tmp_path / "yolo/images/train/a.png").is_file()
