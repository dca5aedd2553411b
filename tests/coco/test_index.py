"""The packed index against pycocotools, and every refusal."""

import contextlib
import copy
import io
import json
import tracemalloc

import numpy as np
import pytest
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from finemask.coco.index import CocoIndex
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
        backwards = np.arange(len(instances))[::-1]
        runs = instances.runs(backwards)
        dense = np.zeros((len(instances), index.size_hw(i)[1] * index.size_hw(i)[0]), dtype=np.bool_)
        for k, start, stop in zip(runs.owners, runs.starts, runs.stops, strict=True):
            dense[backwards[k], start:stop] = True
        for k in range(len(instances)):
            np.testing.assert_array_equal(dense[k].reshape(index.size_hw(i)[::-1]).T, full_mask(index, i, k))


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
    assert index.instances_per_label == [1, 2]
    assert (index.num_annotations, index.num_instances) == (4, 3)
    # a crowd without a mask is its box, rounded outward
    expected = np.zeros((10, 12), bool)
    expected[2:6, 8:11] = True
    np.testing.assert_array_equal(full_mask(index, 0, 1), expected)
    np.testing.assert_array_equal(first.boxes_xyxy[2], [0, 0, 12, 10])


def test_the_order_of_the_lists_and_what_else_is_there_do_not_matter(write_dataset, document):
    path, folder = write_dataset(document)
    expected = CocoIndex.read(path, folder)
    shuffled = {"info": {"annotations": [1]}, **dict(reversed(document.items())), "images2": [[{}]]}
    text = json.dumps(shuffled)
    for content in (text, '{"images": [{"id": 1}], ' + text[1:].replace("images2", "other"), text.replace(" ", "\n")):
        if content.startswith('{"images": [{"id": 1}]'):
            content = content.replace('{"id": 1}', json.dumps(document["images"][0]), 1)  # the later list counts
        path.write_text(content)
        found = CocoIndex.read(path, folder)
        assert found.file_names == expected.file_names
        assert found.categories == expected.categories
        for i in range(len(expected)):
            assert found.instances(i).annotation_ids.tolist() == expected.instances(i).annotation_ids.tolist()
            np.testing.assert_array_equal(found.instances(i).boxes_xyxy, expected.instances(i).boxes_xyxy)
            for k in range(len(expected.instances(i))):
                np.testing.assert_array_equal(full_mask(found, i, k), full_mask(expected, i, k))


def any_segmentation(rng, height, width):
    """Polygons, RLE or compressed RLE of a random object."""
    if rng.random() < 0.6:
        centre, spread = rng.uniform(-5, 1.05 * width), rng.uniform(1, width / 2)
        return [rng.normal(centre, spread, 2 * rng.integers(3, 9)).round(2).tolist() for _ in range(rng.integers(1, 4))]
    mask = np.asfortranarray(rng.random((height, width)) < rng.choice([0, 0.02, 0.5, 1]), dtype=np.uint8)
    rle = coco_mask.encode(mask)
    if rng.random() < 0.5:
        return {"size": rle["size"], "counts": rle["counts"].decode()}
    runs = np.diff(np.concatenate([[0], np.flatnonzero(np.diff(mask.ravel("F"), prepend=0)), [mask.size]]))
    return {"size": rle["size"], "counts": runs.tolist()}


@pytest.mark.parametrize("pending", [1, 40, 2**17])
@pytest.mark.parametrize("height", [30, 7000])  # the latter beyond int16 in fifths
def test_a_mixture_in_no_order(write_dataset, monkeypatch, pending, height):
    monkeypatch.setattr("finemask.coco.packing._PENDING", pending)
    monkeypatch.setattr("finemask.coco.columns._BLOCK", 50)
    rng = np.random.default_rng(height)
    images = [{"id": int(i), "file_name": f"{i}.png", "height": 20, "width": 25} for i in rng.permutation(9)]
    images[4]["height"] = height
    annotations = []
    for n, image in enumerate(rng.choice(images, 60).tolist()):
        segmentation = any_segmentation(rng, min(image["height"], 40), image["width"])
        if isinstance(segmentation, dict) and segmentation["size"] != [image["height"], image["width"]]:
            segmentation = [[0.0, 0, 25, 0.5, 25, height]]
        annotations.append({"id": 500 - n, "image_id": image["id"], "category_id": 1, "segmentation": segmentation})
    categories = [{"id": 1, "name": "thing"}]
    files = write_dataset({"images": images, "categories": categories, "annotations": annotations}, make_images=False)
    for image in images:
        (files[1] / image["file_name"]).touch()
    index = CocoIndex.read(*files)
    assert_equals_pycocotools(index, range(len(index)))
    assert index.segments.points.dtype == (np.int16 if height == 30 else np.int32)


def test_reading_takes_less_memory_than_the_file(tmp_path):
    rng = np.random.default_rng(0)
    outlines = [[rng.uniform(0, 400, 40).round(2).tolist()] for _ in range(200)]
    document = {
        "categories": [{"id": 1, "name": "thing"}],
        "annotations": [
            {"id": n, "image_id": 1, "category_id": 1, "bbox": [0, 0, 9, 9], "segmentation": outlines[n % 200]}
            for n in range(12_000)
        ],
        "images": [{"id": 1, "file_name": "a.png", "height": 400, "width": 400}],
    }
    path = tmp_path / "large.json"
    path.write_text(json.dumps(document))
    (tmp_path / "a.png").touch()
    size = path.stat().st_size
    tracemalloc.start()
    try:
        index = CocoIndex.read(path, tmp_path, cache=None)
        kept, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert index.num_annotations == 12_000
    assert kept < 0.55 * size
    assert peak < 1.5 * size  # windows of a megabyte weigh much beside so small a file


def test_no_python_object_a_number_survives(shapes_dir):
    index = CocoIndex.read(shapes_dir / "annotations" / "train.json", shapes_dir / "images")
    columns = index.columns
    for holder in (index, columns, columns.segments, columns.file_names, columns.slices):
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
        (broken(("images", 1, "height", None)), "image id 3: its size is 8 × null px"),
        (broken(("images", 1, "width", 0)), "0 × 8"),
        (broken(("categories", 1, "id", 9)), "category id 9 is there twice"),
        (broken(("categories", 1, "name", "leaf")), "category name 'leaf' is there twice"),
        (
            broken(("annotations", 0, "image_id", 99)),
            r"annotation id 100 .*: its image_id is 99; there is no such",
        ),
        (
            broken(("annotations", 0, "category_id", 0)),
            "annotation id 100 .*: its category_id is 0; there is no",
        ),
        (broken(("annotations", 0, "category_id", "leaf")), "its category_id is 'leaf', not a whole number"),
        (broken((*SEGMENTATION, [[1, 2, 3, 4]])), r"id 100 \(image id 3\).* 4 numbers"),
        (broken((*SEGMENTATION, [[1, 2, 3, 4, 5, 6, 7]])), "7 numbers"),
        (broken((*SEGMENTATION, [1, 1, 6, 1, 6, 6])), "list of lists"),
        (broken((*SEGMENTATION, [[1, 1, 6, 1, 6, "6"]])), "not a number"),
        (broken((*SEGMENTATION, [[1, 1, 6, 1, 6, float("nan")]])), "id 100 .*not finite"),
        (broken((*SEGMENTATION, [[1, 1, 6, 1, 6, 1e12]])), "beyond a million"),
        (broken((*SEGMENTATION, [])), "masks are needed"),
        (broken((*SEGMENTATION, None)), "masks are needed"),
        (broken((*SEGMENTATION, {"size": [8, 9], "counts": "0"})), "size"),
        (broken((*SEGMENTATION, {"size": [8, 8], "counts": [3, 4]})), "cover 7 pixels"),
        (broken((*SEGMENTATION, {"size": [8, 8], "counts": [70, -6]})), "negative"),
        (broken((*SEGMENTATION, {"size": [8, 8], "counts": [1.5]})), "whole numbers"),
        (broken((*SEGMENTATION, {"size": [8, 8], "counts": "o"})), "damaged"),
        (broken((*SEGMENTATION, "polygon")), "neither"),
        (broken((*SEGMENTATION, {"size": [8, 9], "counts": "o"})), r"size \[8, 9\], its image \[8, 8\]"),
        (broken((*SEGMENTATION, {"size": None, "counts": "0"})), "no size"),
        (broken((*SEGMENTATION, {"size": [8, float("nan")], "counts": "0"})), r"size \[8, nan\]"),
        (broken((*SEGMENTATION, {"size": [8, 8], "counts": None})), "neither"),
        (broken(("annotations", 2, "bbox", [1, 2])), "id 30 .*bbox"),
        (broken(("annotations", 1, "id", 2**63)), "beyond 64 bits"),
        (broken(("images", 1, "width", 2**31)), "2147483648 × 8"),
        (broken(("images", 1, "file_name", "\ud800.png")), "cannot be the name of a file"),
    ],
)
@pytest.mark.parametrize("backwards", [False, True])
def test_refusals_name_the_entry(write_dataset, document, change, message, backwards):
    files = write_dataset(document)
    changed = change(document)
    files[0].write_text(json.dumps(dict(reversed(changed.items())) if backwards else changed))
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
    with pytest.raises(DataError, match=r"no such file.*Check its path"):
        CocoIndex.read(files[0].with_name("absent.json"), files[1])


def test_a_byte_order_mark_is_no_error(write_dataset, document):
    files = write_dataset(document)
    files[0].write_bytes(b"\xef\xbb\xbf" + files[0].read_bytes())
    assert len(CocoIndex.read(*files)) == 3


def test_missing_images_are_counted_and_named(write_dataset, document):
    files = write_dataset(document, make_images=False)
    with pytest.raises(
        DataError, match=r"3 of 3 images are not in .*: b\.png, sub/a\.png, empty\.png \(image-missing\)"
    ):
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


def test_without_a_folder_everything_is_as_with_one(shapes_dir):
    path = shapes_dir / "annotations" / "train.json"
    found, expected = CocoIndex.read(path, None), CocoIndex.read(path, shapes_dir / "images")
    for name in ("categories", "category_ids", "fingerprint", "file_names"):
        assert getattr(found, name) == getattr(expected, name), name
    for i in range(len(expected)):
        assert found.size_hw(i) == expected.size_hw(i)
        for name in ("labels", "iscrowd", "boxes_xyxy", "annotation_ids"):
            np.testing.assert_array_equal(getattr(found.instances(i), name), getattr(expected.instances(i), name))


def test_without_a_folder_nobody_looks_for_images_and_faults_are_refused_all_the_same(write_dataset, document):
    document["images"][0]["file_name"] = "nowhere.png"
    path, _ = write_dataset(document)
    assert CocoIndex.read(path, None).file_names[0] == "nowhere.png"
    document["annotations"][0]["image_id"] = 71
    path, _ = write_dataset(document)
    with pytest.raises(DataError, match="71"):
        CocoIndex.read(path, None)
