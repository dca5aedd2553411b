"""COCO's variants: layouts, broken entries, panoptic segments, ids and licences that survive."""

import json

import numpy as np
import pytest
from convert_data import decode, encode, hard_coco, read_back, write_image, write_json, write_mask

from finemask.coco.index import CocoIndex
from finemask.datatools.convert.coco_format import read_coco
from finemask.datatools.convert.conversion import convert
from finemask.datatools.convert.source_files import ReadOptions, Source
from finemask.errors import DataError

TRIANGLE = [[2.0, 2.0, 20.0, 2.0, 20.0, 12.0]]


def coco(images=None, annotations=(), categories=None):
    images = [{"id": 5, "file_name": "a.jpg", "height": 20, "width": 30}] if images is None else images
    return {
        "images": images,
        "annotations": [{"id": 1, "image_id": 5, "category_id": 3, "segmentation": TRIANGLE} | a for a in annotations],
        "categories": categories or [{"id": 3, "name": "cat"}],
    }


@pytest.fixture
def root(tmp_path):
    write_image(tmp_path / "in/a.jpg", 20, 30)
    return tmp_path / "in"


def read(root, document):
    source = Source(write_json(root / "instances.json", document))
    return read_coco(source), source.notes.lines()


def test_what_is_written_is_what_training_reads(tmp_path) -> None:
    convert(hard_coco(tmp_path / "in"), tmp_path / "out", preview=False)
    for split in ("train", "val"):
        index = CocoIndex.read(tmp_path / f"out/annotations/{split}.json", tmp_path / "out/images")
        assert len(index) == 4
        assert index.num_annotations == 15
        document = json.loads((tmp_path / f"out/annotations/{split}.json").read_text())
        assert all((tmp_path / "out/images" / image["file_name"]).is_file() for image in document["images"])


def test_ids_licences_polygons_and_file_names_stay(tmp_path) -> None:
    convert(hard_coco(tmp_path / "in"), tmp_path / "out", preview=False)
    before = json.loads((tmp_path / "in/annotations/val.json").read_text())
    after = json.loads((tmp_path / "out/annotations/val.json").read_text())
    for key in ("info", "licenses", "images", "categories"):
        assert after[key] == before[key]
    assert [a["segmentation"] for a in after["annotations"]] == [a["segmentation"] for a in before["annotations"]]
    for annotation in after["annotations"]:
        image = next(image for image in after["images"] if image["id"] == annotation["image_id"])
        mask = decode(annotation["segmentation"], image["height"], image["width"])
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        x, y, w, h = annotation["bbox"]
        assert (x, y, x + w, y + h) == (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1)


def test_roboflow_layout_and_its_class_that_groups_the_others(tmp_path) -> None:
    categories = [
        {"id": 0, "name": "things", "supercategory": "none"},
        {"id": 1, "name": "cat", "supercategory": "things"},
        {"id": 2, "name": "dog", "supercategory": "things"},
    ]
    for split in ("train", "valid"):
        write_image(tmp_path / f"in/{split}/a.jpg", 20, 30)
        document = coco(annotations=[{"category_id": 2}], categories=categories)
        write_json(tmp_path / f"in/{split}/_annotations.coco.json", document)
    done = convert(tmp_path / "in", tmp_path / "out", preview=False)
    assert sorted(done.dataset.splits()) == ["train", "val"]
    assert [(c.id, c.name) for c in done.dataset.categories] == [(1, "cat"), (2, "dog")]
    assert set(read_back(tmp_path / "out", "val")) == {"valid/a"}


def test_categories_of_several_files_are_matched_by_name(tmp_path) -> None:
    write_image(tmp_path / "images/a.jpg", 20, 30)
    first = [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}]
    second = [{"id": 1, "name": "dog"}, {"id": 2, "name": "cow"}, {"id": 9, "name": "cat"}]
    write_json(
        tmp_path / "annotations/instances_train2017.json", coco(annotations=[{"category_id": 2}], categories=first)
    )
    write_json(
        tmp_path / "annotations/instances_val2017.json", coco(annotations=[{"category_id": 2}], categories=second)
    )
    write_json(tmp_path / "annotations/person_keypoints_val2017.json", coco())
    dataset = read_coco(Source(tmp_path))
    assert [(c.id, c.name) for c in dataset.categories] == [(1, "cat"), (2, "dog"), (3, "cow")]
    assert [(image.split, image.instances[0].category) for image in dataset.images] == [
        ("train", "dog"),
        ("val", "cow"),
    ]


def test_two_files_without_a_split_need_a_choice(root) -> None:
    write_json(root / "one.json", coco())
    write_json(root / "two.json", coco())
    with pytest.raises(DataError, match=r"do not tell which split each is: one\.json, two\.json.*source="):
        read_coco(Source(root))
    assert len(read_coco(Source(root / "two.json")).images) == 1


@pytest.mark.parametrize("name", ["../secret.jpg", "/etc/passwd", "sub/../../secret.jpg"])
def test_file_names_that_lead_out_are_refused(root, name) -> None:
    with pytest.raises(DataError, match="leads out of the source"):
        read(root, coco([{"id": 5, "file_name": name, "height": 20, "width": 30}]))


@pytest.mark.parametrize(
    ("annotation", "note"),
    [
        ({"image_id": 6}, "annotations left out, by the rule annotation-without-image of data check: 1"),
        ({"category_id": 6}, "annotations left out, by the rule annotation-without-category of data check: 1"),
        ({"segmentation": {"size": [5, 5], "counts": [25]}}, "annotations left out, by the rule rle-size of data ch"),
        ({"segmentation": []}, "annotations left out, by the rule mask-missing of data check: 1 (ann"),
        ({"segmentation": [[1, 2, 3, 4]]}, "annotations left out, by the rule polygon-is-box of data check: 1"),
        ({"segmentation": ["x"], "bbox": [0, 0, "1", 2]}, "annotations left out, by the rule segmentation-invalid of"),
        ({"segmentation": [[9, 9, 900, 9, 9]]}, "annotations left out, by the rule polygon-odd of data check: 1 (ann"),
    ],
)
def test_broken_annotations_are_counted(root, annotation, note) -> None:
    dataset, notes = read(root, coco(annotations=[annotation, {"id": 2}]))
    (instance,) = dataset.images[0].instances
    assert instance.polygons == TRIANGLE
    assert len([line for line in notes if line.startswith(note)]) == 1


@pytest.mark.parametrize("segmentation", [[[9, 9, 900, 9, 9]], {"size": [5, 5], "counts": [25]}, "x"])
def test_a_conversion_that_would_lose_everything_ends_before_it_writes(root, segmentation) -> None:
    write_json(root / "instances.json", coco(annotations=[{"segmentation": segmentation}, {"segmentation": "x"}]))
    with pytest.raises(DataError, match=r"of its 2 annotations nothing would be left.*data check annotations="):
        convert(root, root.parent / "out")
    assert not (root.parent / "out").exists()


def test_an_image_loses_its_last_annotation_only_if_that_is_asked_for(root) -> None:
    write_image(root / "b.jpg", 20, 30)
    images = [{"id": k, "file_name": f"{name}.jpg", "height": 20, "width": 30} for k, name in ((5, "a"), (7, "b"))]
    document = coco(images, annotations=[{}, {"id": 2, "image_id": 7, "segmentation": [[1, 2, 3]]}])
    with pytest.raises(DataError, match=r"last of an image.*polygon-odd 1 × .annotation 2.*remove=true leaves"):
        read(root, document)
    source = Source(root / "instances.json", ReadOptions(remove=True))
    assert [len(image.instances) for image in read_coco(source).images] == [1, 0]
    lines = source.notes.lines()
    assert "images that have lost all their annotations: background, if they are trained on: 1 (7)" in lines


def test_category_ids_off_by_one_need_a_person(root) -> None:
    categories = [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}]
    document = coco(annotations=[{"category_id": 0}, {"category_id": 1}], categories=categories)
    with pytest.raises(DataError, match="category-ids-shifted"):
        read(root, document)


def test_a_box_without_a_mask_is_a_box_and_a_repeated_annotation_id_does_not_matter(root) -> None:
    dataset, notes = read(root, coco(annotations=[{"segmentation": [], "bbox": [1, 2, 3, 4]}, {}]))
    box, outline = dataset.images[0].instances
    assert box.is_box
    assert box.polygons == [[1, 2, 4, 2, 4, 6, 1, 6]]
    assert outline.polygons == TRIANGLE
    assert notes == []


def test_images_of_one_id_and_images_without_a_size_are_errors(root) -> None:
    image = {"id": 5, "file_name": "a.jpg", "height": 20, "width": 30}
    with pytest.raises(DataError, match="the image id 5 is there twice"):
        read(root, coco([image, {**image, "file_name": "b.jpg"}], annotations=[{}]))
    dataset, notes = read(root, coco([image, image], annotations=[{}]))
    assert [len(record.instances) for record in dataset.images] == [1]
    assert notes == ["entries repaired, by the rule image-id-repeated of data check: 1 (image 5)"]
    with pytest.raises(DataError, match="'height' and 'width' are missing"):
        read(root, coco([{"id": 5, "file_name": "gone.jpg"}]))


def panoptic_png(path, ids):
    write_mask(path, np.stack([ids % 256, ids // 256 % 256, ids // 65536], axis=2).astype(np.uint8))


@pytest.mark.parametrize("marked", [True, False])
def test_panoptic(tmp_path, marked) -> None:
    ids = np.zeros((20, 30), dtype=np.int64)
    ids[2:9, 3:12], ids[12:18, 5:25], ids[0] = 7, 1000 * 1000, 300
    write_image(tmp_path / "images/a.jpg", 20, 30)
    panoptic_png(tmp_path / "annotations/panoptic_val2017/a.png", ids)
    categories = [{"id": 1, "name": "cat"}, {"id": 2, "name": "sky"}]
    if marked:
        categories = [category | {"isthing": thing} for category, thing in zip(categories, (1, 0), strict=True)]
    segments = [
        {"id": 7, "category_id": 1, "iscrowd": 0},
        {"id": 1000 * 1000, "category_id": 1, "iscrowd": 1},
        {"id": 300, "category_id": 2, "iscrowd": 0},
        {"id": 99, "category_id": 1, "iscrowd": 0},
    ]
    document = coco(categories=categories)
    document["annotations"] = [{"image_id": 5, "file_name": "a.png", "segments_info": segments}]
    write_json(tmp_path / "annotations/panoptic_val2017.json", document)
    source = Source(tmp_path)
    (image,) = read_coco(source).images
    assert image.split == "val"
    expected = [("cat", 7, False), ("cat", 1000 * 1000, True), *([] if marked else [("sky", 300, False)])]
    assert [(i.category, i.crowd) for i in image.instances] == [(name, crowd) for name, _, crowd in expected]
    for instance, (_, number, _) in zip(image.instances, expected, strict=True):
        assert instance.rle == encode(ids == number)
    assert any(line.startswith("segments left out that the PNG does not show: 1") for line in source.notes.lines())


def test_a_json_file_is_not_parsed_as_yaml_which_takes_minutes(root, monkeypatch) -> None:
    path = write_json(root / "instances.json", coco(annotations=[{}]))
    monkeypatch.setattr("yaml.safe_load", lambda *_: pytest.fail("parsed as YAML"))
    assert convert(path, root.parent / "out", preview=False).format == "coco"


def test_a_file_name_that_utf8_cannot_hold_is_written_as_text_that_it_can(root) -> None:
    document = coco([{"id": 5, "file_name": "\ud800", "height": 20, "width": 30}], annotations=[{}])
    done = convert(write_json(root / "instances.json", document), root.parent / "out", images="none")
    (written,) = json.loads((root.parent / "out/annotations/train.json").read_text())["images"]
    assert written == {"id": 5, "file_name": "?", "height": 20, "width": 30}
    assert "entries repaired, by the rule json-not-standard of data check: 1 (image 5)" in done.notes.lines()
