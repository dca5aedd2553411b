import copy
import json
import math

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from finemask.errors import DataError
from finemask.evaluation.ground_truth import ground_truth_from_dict, load_ground_truth
from finemask.evaluation.numbers.pycocotools_reference import coco_object


def test_missing_fields_are_filled_in_from_the_segmentation(dataset):
    truth = ground_truth_from_dict(dataset)
    rle = coco_mask.merge(coco_mask.frPyObjects(dataset["annotations"][0]["segmentation"], 64, 80))
    first = truth.annotations[0]
    assert first["segmentation"] == {"size": [64, 80], "counts": rle["counts"].decode()}
    assert first["area"] == coco_mask.area(rle) == 100
    assert first["bbox"] == coco_mask.toBbox(rle).tolist() == [2, 2, 10, 10]
    assert [annotation["iscrowd"] for annotation in truth.annotations] == [0, 0, 0, 0, 1]


def test_given_fields_are_kept(dataset):
    dataset["annotations"][0] |= {"area": 12.5, "bbox": [1, 1, 20, 20]}
    first = ground_truth_from_dict(dataset).annotations[0]
    assert (first["area"], first["bbox"]) == (12.5, [1, 1, 20, 20])


def test_every_kind_of_segmentation_gives_the_same_mask(dataset):
    polygon = dataset["annotations"][0]["segmentation"]
    compressed = coco_mask.merge(coco_mask.frPyObjects(polygon, 64, 80))
    mask = coco_mask.decode(compressed)
    flat = mask.flatten(order="F")
    edges = np.flatnonzero(np.diff(flat)) + 1
    counts = np.diff([0, *edges, flat.size]).tolist()
    kinds = [
        polygon,
        {"size": [64, 80], "counts": compressed["counts"].decode()},
        {"size": [64, 80], "counts": counts},
    ]
    rles = []
    for kind in kinds:
        dataset["annotations"][0]["segmentation"] = kind
        rles.append(ground_truth_from_dict(dataset).annotations[0]["segmentation"])
    assert rles[0] == rles[1] == rles[2]


def test_the_given_content_is_left_alone(dataset):
    before = copy.deepcopy(dataset)
    coco_object(ground_truth_from_dict(dataset))
    assert dataset == before


def test_the_fullest_image_is_counted_without_crowd_regions(dataset):
    assert ground_truth_from_dict(dataset).max_per_image == 3


def test_boxes_alone_are_enough_for_boxes(dataset):
    for annotation in dataset["annotations"]:
        del annotation["segmentation"]
        annotation["bbox"] = [1, 2, 3, 4]
    for image in dataset["images"]:
        del image["height"], image["width"]
    truth = ground_truth_from_dict(dataset)
    assert not truth.has_masks
    assert truth.annotations[0]["area"] == 12
    with pytest.raises(DataError, match=r"annotation 10 has no segmentation.*iou_types=\[bbox\]"):
        truth.check_masks()


def test_annotation_ids_that_pycocotools_misreads_are_harmless(dataset):
    dataset["annotations"][0]["id"] = 0
    del dataset["annotations"][1]["id"]
    truth = ground_truth_from_dict(dataset)
    assert [annotation["id"] for annotation in truth.annotations] == [1, 2, 3, 4, 5]
    assert truth.annotation_ids[:2] == [0, 2]


def test_pycocotools_stays_silent(dataset, capsys):
    coco_object(ground_truth_from_dict(dataset))
    assert capsys.readouterr().out == ""


def test_no_annotations_at_all_is_a_ground_truth(dataset):
    dataset["annotations"] = []
    truth = ground_truth_from_dict(dataset)
    assert truth.max_per_image == 0


def _drop(key):
    return lambda d: d.pop(key)


def _set(key, value, entry=0, group="annotations"):
    return lambda d: d[group][entry].__setitem__(key, value)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_drop("images"), "no list named 'images'"),
        (_drop("annotations"), "no list named 'annotations'"),
        (_drop("categories"), "no list named 'categories'"),
        (lambda d: d.update(images=[]), "'images' is empty"),
        (lambda d: d.update(annotations={"1": {}}), "no list named 'annotations'"),
        (_set("id", 5, 1, "images"), "image id 5 is there twice"),
        (_set("id", "5", 1, "images"), "image .*its id is '5', not a whole number"),
        (_set("height", -3, 1, "images"), "image id 7: its size is 100 × -3 px"),
        (_set("id", 90, 1, "categories"), "category id 90 is there twice"),
        (_set("name", "nut", 1, "categories"), "category name 'nut' is there twice"),
        (_set("name", None, 1, "categories"), "category id 3: its name is null"),
        (_set("id", 11), "annotation id 11 .*: its id is there twice"),
        (_set("id", [1]), r"its id is \[1\], not a whole number"),
        (_set("image_id", 6), r"annotation id 10 \(image id 6\): its image_id is 6; there is no such image"),
        (_set("category_id", 4), "category_id is 4; there is no such category"),
        (_set("iscrowd", 2), "iscrowd is 2"),
        (_set("area", "big"), "area is 'big'"),
        (_set("area", math.nan), "area is nan"),
        (_set("bbox", [1, 2, 3]), "not four finite numbers"),
        (_set("bbox", [1, 2, -3, 4]), "is -3.0 wide"),
        (_set("segmentation", []), "neither a segmentation nor a usable bbox"),
        (_set("segmentation", [[1, 2, 3, 4]]), "a polygon has 4 numbers"),
        (_set("segmentation", [[1, 2, 3, 4, 5, 6, 7]]), "a polygon has 7 numbers"),
        (_set("segmentation", [1, 2, 3, 4, 5, 6]), "a bare list of numbers"),
        (_set("segmentation", [[1, 2, 3, 4, 5, math.inf]]), "the coordinate inf, which is not finite"),
        (_set("segmentation", {"size": [64, 64], "counts": [4096]}), r"size \[64, 64\], its image \[64, 80\]"),
        (_set("segmentation", {"size": [64, 80], "counts": [100, 20]}), "cover 120 pixels"),
        (_set("segmentation", {"size": [64, 80], "counts": "04d1"}), "run lengths cover"),
        (_set("segmentation", {"counts": "04d1"}), "run lengths have no size"),
        (_set("height", None, 0, "images"), "has no height and width"),
    ],
)
def test_what_is_wrong_is_named(dataset, damage, message):
    damage(dataset)
    with pytest.raises(DataError, match=message):
        ground_truth_from_dict(dataset, source="truth.json")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"images": [', "broken JSON.*line 1.*cut off"),
        ("[]", "as a COCO results file is"),
        ('"images"', "holds a str"),
        ("\udcff", "not UTF-8"),
        ("[" * 100_000, "nested too deeply"),
    ],
)
def test_files_that_are_no_annotation_files(tmp_path, text, message):
    path = tmp_path / "truth.json"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(DataError, match=f"truth.json.*{message}"):
        load_ground_truth(path)


def test_missing_files_and_folders(tmp_path):
    with pytest.raises(DataError, match="there is no such file"):
        load_ground_truth(tmp_path / "none.json")
    with pytest.raises(DataError, match="this is a folder"):
        load_ground_truth(tmp_path)


def test_a_byte_order_mark_is_no_obstacle(dataset, tmp_path):
    path = tmp_path / "truth.json"
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps(dataset).encode())
    assert len(load_ground_truth(path).images) == 3
