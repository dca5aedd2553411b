"""The packed index against pycocotools, and every refusal."""

import contextlib
import copy
import io
import json

import numpy as np
import pytest
from pycocotools.coco import COCO

from finemask.data.index import CocoIndex
from finemask.errors import DataError
from finemask.types import Category


def full_mask(index, i, k):
    mask = np.zeros(index.size_hw(i), dtype=np.bool_)
    crop, x0, y0 = index.instances(i).crop(k)
    mask[y0 : y0 + crop.shape[0], x0 : x0 + crop.shape[1]] = crop
    return mask


def coco_api(path):
    with contextlib.redirect_stdout(io.StringIO()):
        return COCO(str(path))


def assert_equals_pycocotools(index, images):
    api = coco_api(index.annotations_path)
    for i in images:
        instances = index.instances(i)
        assert sorted(instances.annotation_ids) == sorted(api.getAnnIds(imgIds=int(index.image_ids[i])))
        for k, annotation_id in enumerate(instances.annotation_ids.tolist()):
            annotation = api.anns[annotation_id]
            mask = full_mask(index, i, k)
            np.testing.assert_array_equal(mask, api.annToMask(annotation).astype(bool))
            assert index.category_ids[instances.labels[k] - 1] == annotation["category_id"]
            assert bool(instances.iscrowd[k]) == bool(annotation.get("iscrowd", 0))
            x0, y0, x1, y1 = instances.boxes_xyxy[k]
            if mask.any():
                ys, xs = np.nonzero(mask)
                assert x0 - 1 <= xs.min()
                assert xs.max() <= x1
                assert y0 - 1 <= ys.min()
                assert ys.max() <= y1


@pytest.mark.parametrize("split", ["train", "val"])
def test_drawn_shapes(shapes_dir, split):
    index = CocoIndex.read(shapes_dir / "annotations" / f"{split}.json", shapes_dir / "images")
    assert_equals_pycocotools(index, range(len(index)))


@pytest.mark.parametrize(
    ("dataset", "split", "images", "annotations", "categories"),
    [
        ("nuclei", "train", 464, 20082, 1),
        ("nuclei", "rle/val", 100, 4293, 1),
        ("fruits_nuts", "train", 12, 121, 3),
        ("coco_ccby33", "train", 21, 111, 80),
        ("coco_ccby33", "val", 6, 78, 80),
    ],
)
def test_real_datasets(shared_dir, dataset, split, images, annotations, categories):
    root = shared_dir / "datasets" / dataset
    index = CocoIndex.read(root / "annotations" / f"{split}.json", root / "images")
    assert (len(index), index.num_annotations, len(index.categories)) == (images, annotations, categories)
    assert_equals_pycocotools(index, range(0, len(index), max(1, len(index) // 12)))


def test_reads_what_the_file_says(write_dataset, document):
    index = CocoIndex.read(*write_dataset(document))
    assert index.categories == [Category(4, "nut", "food"), Category(9, "leaf", "")]
    assert index.category_ids == [4, 9]
    assert index.file_names == ["b.png", "sub/a.png", "empty.png"]
    assert index.image_path(1) == index.images_dir / "sub/a.png"
    assert index.image_ids.tolist() == [7, 3, 5]
    assert index.size_hw(0) == (10, 12)
    assert len(index.instances(2)) == 0
    first = index.instances(0)
    assert first.annotation_ids.tolist() == [20, 30, 40]
    assert first.labels.tolist() == [1, 2, 2]
    assert first.iscrowd.tolist() == [False, True, False]
    assert full_mask(index, 0, 0).ravel(order="F").nonzero()[0].tolist() == [25, 26, 27]
    assert index.max_instances_per_image == 2
    # a crowd without a mask is its box, rounded outward
    expected = np.zeros((10, 12), bool)
    expected[2:6, 8:11] = True
    np.testing.assert_array_equal(full_mask(index, 0, 1), expected)
    np.testing.assert_array_equal(first.boxes_xyxy[2], [0, 0, 12, 10])


def test_no_python_object_a_number_survives(shapes_dir):
    index = CocoIndex.read(shapes_dir / "annotations" / "train.json", shapes_dir / "images")
    for holder in (index, index.segments, index.packed_file_names):
        for name, value in vars(holder).items():
            assert not isinstance(value, dict), name
            assert not isinstance(value, list) or len(value) == len(index.categories), name
            assert not isinstance(value, np.ndarray) or value.dtype != object, name


def test_fingerprint_is_of_the_bytes(write_dataset, document):
    first = CocoIndex.read(*write_dataset(document)).fingerprint
    assert CocoIndex.read(*write_dataset(json.dumps(document))).fingerprint == first
    document["annotations"][0]["id"] = 101
    assert CocoIndex.read(*write_dataset(document)).fingerprint != first


def test_other_files_are_matched_by_name(write_dataset, document):
    train = CocoIndex.read(*write_dataset(document))
    other = copy.deepcopy(document)
    other["categories"] = [{"id": 1, "name": "leaf"}, {"id": 2, "name": "nut"}]
    for annotation in other["annotations"]:
        annotation["category_id"] = {9: 1, 4: 2}[annotation["category_id"]]
    val = CocoIndex.read(*write_dataset(other, name="val.json"), train.categories)
    assert val.categories == train.categories
    assert val.category_ids == [2, 1]
    np.testing.assert_array_equal(val.labels, train.labels)


def test_categories_that_differ(write_dataset, document):
    wanted = [Category(1, "nut"), Category(2, "leaf"), Category(3, "twig")]
    files = write_dataset(document)
    with pytest.raises(DataError, match=r"train\.json: .*lacks 'twig'.*allow_missing"):
        CocoIndex.read(*files, wanted)
    assert CocoIndex.read(*files, wanted, allow_missing_categories=True).category_ids == [4, 9, -1]
    with pytest.raises(DataError, match="has 'leaf', which training lacks"):
        CocoIndex.read(*files, wanted[:1], allow_missing_categories=True)


def broken(path):
    """A change to the document: ``("annotations", 0, "segmentation", value)`` sets one entry."""
    *keys, last, value = path

    def change(document):
        target = document
        for key in keys:
            target = target[key]
        target[last] = value
        return document

    return change


SEGMENTATION = ("annotations", 0, "segmentation")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (broken(("images", [])), "'images' is empty"),
        (broken(("annotations", [])), "'annotations' is empty"),
        (broken(("categories", {})), "no list named 'categories'"),
        (broken(("images", 0, 3)), "not an object"),
        (broken(("images", 1, "id", 7)), "image id 7 is there twice"),
        (broken(("images", 1, "file_name", "../a.png")), r"'\.\./a\.png' leads out"),
        (broken(("images", 1, "file_name", "/etc/passwd")), "leads out"),
        (broken(("images", 1, "file_name", "C:\\a.png")), "leads out"),
        (broken(("images", 1, "height", None)), "image id 3: 'height' is None"),
        (broken(("images", 1, "width", 0)), "0 × 8"),
        (broken(("categories", 1, "id", 9)), "category id 9 is there twice"),
        (broken(("categories", 1, "name", "leaf")), "category name 'leaf' is there twice"),
        (broken(("annotations", 0, "image_id", 99)), "annotation id 100 has image_id 99"),
        (broken(("annotations", 0, "category_id", 0)), "annotation id 100 has category_id 0"),
        (broken(("annotations", 0, "category_id", "leaf")), "'category_id' is 'leaf'"),
        (broken((*SEGMENTATION, [[1, 2, 3, 4]])), r"id 100 \(image id 3\).* 2 points"),
        (broken((*SEGMENTATION, [[1, 2, 3, 4, 5, 6, 7]])), "7 numbers"),
        (broken((*SEGMENTATION, [1, 1, 6, 1, 6, 6])), "list of lists"),
        (broken((*SEGMENTATION, [[1, 1, 6, 1, 6, "6"]])), "not a number"),
        (broken((*SEGMENTATION, [[1, 1, 6, 1, 6, float("nan")]])), "id 100 .*not finite"),
        (broken((*SEGMENTATION, [[1, 1, 6, 1, 6, 1e12]])), "beyond a million"),
        (broken((*SEGMENTATION, [])), "masks are needed"),
        (broken((*SEGMENTATION, None)), "masks are needed"),
        (broken((*SEGMENTATION, {"size": [8, 9], "counts": "0"})), "size"),
        (broken((*SEGMENTATION, {"size": [8, 8], "counts": [3, 4]})), "covers 7 pixels"),
        (broken((*SEGMENTATION, {"size": [8, 8], "counts": [70, -6]})), "negative"),
        (broken((*SEGMENTATION, {"size": [8, 8], "counts": [1.5]})), "whole numbers"),
        (broken((*SEGMENTATION, {"size": [8, 8], "counts": "o"})), "damaged"),
        (broken((*SEGMENTATION, "polygon")), "neither"),
        (broken(("annotations", 2, "bbox", [1, 2])), "id 30 .*bbox"),
    ],
)
def test_refusals_name_the_entry(write_dataset, document, change, message):
    files = write_dataset(document)
    files[0].write_text(json.dumps(change(document)))
    with pytest.raises(DataError, match=message) as caught:
        CocoIndex.read(*files)
    assert str(files[0]) in str(caught.value)


def test_broken_json_names_line_and_column(write_dataset):
    files = write_dataset('{"images": [\n  {"id": 1,}\n]}')
    with pytest.raises(DataError, match="line 2, column 1"):
        CocoIndex.read(*files)
    files[0].write_bytes(b"\xff\xfe\x00PNG")
    with pytest.raises(DataError, match=r"train\.json"):
        CocoIndex.read(*files)
    with pytest.raises(DataError, match=r"no such file.*data\.root"):
        CocoIndex.read(files[0].with_name("absent.json"), files[1])


def test_a_byte_order_mark_is_no_error(write_dataset, document):
    files = write_dataset(document)
    files[0].write_bytes(b"\xef\xbb\xbf" + files[0].read_bytes())
    assert len(CocoIndex.read(*files)) == 3


def test_missing_images_are_counted_and_named(write_dataset, document):
    files = write_dataset(document, make_images=False)
    with pytest.raises(DataError, match=r"3 of 3 images are not in .*: b\.png, sub/a\.png, empty\.png\."):
        CocoIndex.read(*files)
    with pytest.raises(DataError, match="no such folder"):
        CocoIndex.read(files[0], files[1] / "absent")


def test_a_folder_named_twice_is_recognised(write_dataset, document):
    path, folder = write_dataset(document)
    for entry in document["images"]:
        entry["file_name"] = "images/" + entry["file_name"]
    path.write_text(json.dumps(document))
    with pytest.raises(DataError, match=r"data\.images=\."):
        CocoIndex.read(path, folder)
    assert len(CocoIndex.read(path, folder.parent)) == 3
