"""Samples of every format as their tools wrote them, converted whole; counts taken from the files by hand."""

import json

import numpy as np
import pytest
from convert_data import decode, read_back
from PIL import Image

from finemask.coco.index import CocoIndex
from finemask.datatools.convert.conversion import convert
from finemask.errors import DataError

# folder: format, {split: (images, instances)}, instances that are boxes
SAMPLES = {
    "yolo_seg": ("yolo", {"train": (6, 34)}, 0),
    "labelme/fruits": ("labelme", {"train": (3, 32)}, 0),
    "voc_segobject/datumaro_voc1": ("voc", {"train": (1, 2)}, 1),
    "cvat_xml/for_images/export_project": ("cvat", {"train": (2, 2), "val": (2, 2), "test": (2, 2)}, 3),
    "cvat_xml/for_images/export_task": ("cvat", {"train": (2, 1)}, 1),
    "via_json/icevision_bbox": ("via", {"train": (2, 10)}, 1),
    "png_masks/one_png_per_instance_dsb2018": ("mask_png", {"train": (3, 113)}, 0),
    "png_masks/instance_id_png16": ("mask_png", {"train": (3, 113)}, 0),
    "png_masks/cityscapes_instanceIds_datumaro": ("mask_png", {"train": (1, 1), "val": (1, 0), "test": (2, 2)}, 0),
    "coco/datumaro_instances_rle_crowd": ("coco", {"train": (1, 1), "val": (1, 2)}, 1),
    "coco/datumaro_panoptic": ("coco", {"val": (1, 2)}, 0),
    "coco/real_coco_crowd": ("coco", {"train": (3, 72)}, 0),
    "coco/roboflow_layout": ("coco", {"train": (1, 1), "val": (1, 2)}, 1),
    "coco/sahi_aerial_polygons/combined_coco.json": ("coco", {"train": (2, 12)}, 0),
}


@pytest.fixture(scope="module")
def formats(shared_dir):
    return shared_dir / "datasets" / "formats"


@pytest.mark.parametrize("sample", SAMPLES)
def test_every_sample_converts(formats, tmp_path, sample) -> None:
    name, splits, num_boxes = SAMPLES[sample]
    done = convert(formats / sample, tmp_path / "out", images="copy", preview=False)
    assert done.format == name
    assert done.num_boxes == num_boxes
    found = {
        split: (len(images), sum(len(image.instances) for image in images))
        for split, images in done.dataset.splits().items()
    }
    assert found == splits
    for split, (_, count) in splits.items():
        path = tmp_path / f"out/annotations/{split}.json"
        for image in json.loads(path.read_text())["images"]:
            with Image.open(tmp_path / "out/images" / image["file_name"]) as picture:
                assert picture.size == (image["width"], image["height"])
        if count and not num_boxes:
            assert CocoIndex.read(path, tmp_path / "out/images").num_annotations == count


@pytest.mark.parametrize(
    ("sample", "instances", "classes"),
    [
        ("coco/panopticapi_detection_format.json", 50, 133),
        ("coco/mmdet_coco_wrong_format_sample.json", 2, 1),
        ("png_masks/mots_datumaro", 4, 4),
        ("cvat_xml/for_video", 1, 3),
    ],
)
def test_samples_without_usable_images_convert_without_them(formats, tmp_path, sample, instances, classes) -> None:
    with pytest.raises(DataError):
        convert(formats / sample, tmp_path / "out", preview=False)
    done = convert(formats / sample, tmp_path / "out", images="none")
    assert sum(done.instances.values()) == instances
    assert len(done.dataset.categories) == classes


def test_both_layouts_of_the_same_nuclei_give_the_same_masks(formats, tmp_path) -> None:
    convert(formats / "png_masks/one_png_per_instance_dsb2018", tmp_path / "files", images="copy", preview=False)
    convert(formats / "png_masks/instance_id_png16", tmp_path / "maps", images="copy", preview=False)
    files, maps = read_back(tmp_path / "files"), read_back(tmp_path / "maps")
    for name, instances in maps.items():
        other = next(found for key, found in files.items() if key.split("/")[-1].startswith(name))
        masks = {mask.tobytes() for _, mask, _, _ in instances}
        assert len(masks) == len(other)
        assert sum(mask.tobytes() in masks for _, mask, _, _ in other) >= len(masks) - 2  # a map cannot overlap


def test_real_coco_keeps_its_own_masks_boxes_and_areas(formats, tmp_path) -> None:
    source = formats / "coco/real_coco_crowd"
    convert(source, tmp_path / "out", images="copy", preview=False)
    before = json.loads((source / "instances.json").read_text())
    after = json.loads((tmp_path / "out/annotations/train.json").read_text())
    sizes = {image["id"]: (image["height"], image["width"]) for image in before["images"]}
    assert [image["id"] for image in after["images"]] == [image["id"] for image in before["images"]]
    by_image = {key: [a for a in after["annotations"] if a["image_id"] == key] for key in sizes}
    for key, size in sizes.items():
        theirs = [annotation for annotation in before["annotations"] if annotation["image_id"] == key]
        for old, new in zip(theirs, by_image[key], strict=True):
            assert (old["category_id"], old["iscrowd"]) == (new["category_id"], new["iscrowd"])
            assert (decode(old["segmentation"], *size) == decode(new["segmentation"], *size)).all()
            assert np.abs(np.subtract(old["bbox"], new["bbox"])).max() < 2.5  # theirs are of the finer original
