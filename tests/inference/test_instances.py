import colorsys
import csv
import io
import json
import sys

import numpy as np
import pytest
import torch
from inference_data import CATEGORIES, make_instances
from PIL import Image
from pycocotools import mask as coco_mask

from finemask.errors import MissingExtraError
from finemask.inference.instances import instances_from_detections
from finemask.inference.outputs.instance_table import perimeter
from finemask.types import Detections


def test_masks_and_names_agree_with_what_went_in(three_instances):
    masks = three_instances.masks
    assert masks.dtype == bool
    assert masks.shape == (3, 20, 30)
    for mask, rle in zip(masks, three_instances.rles, strict=True):
        assert np.array_equal(mask, coco_mask.decode({**rle, "counts": rle["counts"].encode()}).astype(bool))
    assert three_instances.class_names == ["red fig", "green/date", "blue"]
    assert repr(three_instances) == ("Instances(3 in sub/a photo.jpg, 20 × 30 px: 1 red fig, 1 green/date, 1 blue)")


@pytest.mark.parametrize(
    ("which", "expected"),
    [(0, [0]), (-1, [2]), (slice(0, 2), [0, 1]), ([2, 0], [2, 0]), ([False, True, False], [1]), ([], [])],
)
def test_choosing_instances(three_instances, which, expected):
    chosen = three_instances[which]
    assert len(chosen) == len(expected)
    assert chosen.labels.tolist() == [index + 1 for index in expected]
    assert [rle["counts"] for rle in chosen.rles] == [three_instances.rles[i]["counts"] for i in expected]
    assert chosen.boxes.shape == (len(expected), 4)


def test_thresholds_keep_what_reaches_them(three_instances):
    assert three_instances.above(0.75).labels.tolist() == [1, 2]  # 0.75 is exact in float32
    assert three_instances.above({"red fig": 0.9, "blue": 0.5}).labels.tolist() == [2, 3]
    assert len(three_instances.above(1.0)) == 0


def test_coco_entries_carry_the_ids_of_the_file_and_pycocotools_boxes(three_instances):
    entries = three_instances.to_coco(image_id=42)
    assert json.loads(json.dumps(entries)) == entries
    assert [entry["category_id"] for entry in entries] == [3, 70, 9]
    assert {entry["image_id"] for entry in entries} == {42}
    for entry in entries:
        rle = {**entry["segmentation"], "counts": entry["segmentation"]["counts"].encode()}
        assert entry["bbox"] == coco_mask.toBbox(rle).tolist()


def test_csv_reads_back(three_instances, tmp_path):
    text = three_instances.to_csv(tmp_path / "t.csv")
    assert (tmp_path / "t.csv").read_text(encoding="utf-8") == text
    lines = list(csv.DictReader(io.StringIO(text)))
    assert [line["class"] for line in lines] == three_instances.class_names
    assert [int(line["area_px"]) for line in lines] == three_instances.masks.sum(axis=(1, 2)).tolist()
    assert lines[0] | {"x_min_px": "3.0", "y_max_px": "14.0", "score": "0.875", "category_id": "3"} == lines[0]


def test_the_table_says_where_how_long_and_what_colour():
    """Hand-computed: two red pixels and a white one in a row, and an instance without pixels."""
    masks = np.zeros((2, 6, 8), bool)
    masks[0, 2, 3:6] = True
    image = np.zeros((6, 8, 3), np.uint8)
    image[2, 3:5] = (240, 0, 0)
    image[2, 5] = (240, 240, 240)
    first, second = make_instances(masks, [1, 2], image=image).rows()
    assert (first.centroid_x_px, first.centroid_y_px, first.area_px) == (4.5, 2.5, 3)
    assert (first.mean_red, first.mean_green, first.mean_blue) == (240, 80, 80)
    hue, saturation, value = colorsys.rgb_to_hsv(240 / 255, 80 / 255, 80 / 255)
    assert (first.hue_degrees, first.saturation, first.value) == (360 * hue, round(saturation, 4), round(value, 4))
    # of 3 × 1 pixels: one row, three columns and three diagonals of each kind are crossed twice each
    assert first.perimeter_px == pytest.approx(np.pi / 8 * (2 + 6 + 6 / 2**0.5 + 6 / 2**0.5), abs=0.005)
    assert (second.area_px, second.perimeter_px, second.centroid_x_px, second.mean_red) == (0, 0.0, None, None)
    (unseen, _) = make_instances(masks, [1, 2]).rows()  # the picture was not kept
    assert (unseen.area_px, unseen.hue_degrees) == (3, None)


@pytest.mark.parametrize("radius", [12.3, 20, 40])
def test_the_perimeter_of_a_disc_is_that_of_its_circle(radius):
    y, x = np.mgrid[-50:51, -50:51]
    assert perimeter(np.hypot(x, y) <= radius) == pytest.approx(2 * np.pi * radius, rel=0.03)
    ring = (np.hypot(x, y) <= radius) & (np.hypot(x, y) > 3)
    assert perimeter(ring) == pytest.approx(2 * np.pi * (radius + 3), rel=0.04)  # holes have an outline too


def test_a_data_frame_has_the_columns_of_the_csv(three_instances):
    pandas = pytest.importorskip("pandas")
    frame = three_instances.to_dataframe()
    read = pandas.read_csv(io.StringIO(three_instances.to_csv()))
    assert list(frame.columns) == list(read.columns)
    pandas.testing.assert_frame_equal(frame, read, check_dtype=False)


def test_supervision_gets_boxes_masks_and_names(three_instances):
    supervision = pytest.importorskip("supervision")
    found = three_instances.to_supervision()
    assert isinstance(found, supervision.Detections)
    assert np.array_equal(found.xyxy, three_instances.boxes)
    assert np.array_equal(found.mask, three_instances.masks)
    assert found.class_id.tolist() == [0, 1, 2]
    assert found[found.confidence > 0.8].data["class_name"].tolist() == ["red fig"]


@pytest.mark.parametrize(("method", "package"), [("to_dataframe", "pandas"), ("to_supervision", "supervision")])
def test_what_is_not_installed_is_named_with_its_extra(three_instances, monkeypatch, method, package):
    monkeypatch.setitem(sys.modules, package, None)  # as if it were not there
    with pytest.raises(MissingExtraError, match=package):
        getattr(three_instances, method)()


def test_labelme_and_geojson_write_what_they_return(three_instances, tmp_path):
    for method, name in ((three_instances.to_labelme, "a.json"), (three_instances.to_geojson, "a.geojson")):
        document = method(tmp_path / name)
        assert json.loads((tmp_path / name).read_text(encoding="utf-8")) == document == method()


def test_drawing_by_instance_by_class_and_on_another_image(three_instances):
    picture = three_instances.draw()
    assert picture.size == (30 * 8, 20 * 8)
    twins = make_instances(three_instances.masks[:2], [1, 1], image=np.zeros((20, 30, 3), np.uint8))
    by_class = np.asarray(twins.draw(color_by="class"))
    by_instance = np.asarray(twins.draw(color_by="instance"))
    inside_first, inside_second = by_class[4 * 8, 5 * 8], by_class[15 * 8, 17 * 8]
    assert np.array_equal(inside_first, inside_second)
    assert not np.array_equal(by_instance[4 * 8, 5 * 8], by_instance[15 * 8, 17 * 8])
    white = three_instances.draw(Image.new("RGB", (30, 20), "white"))
    assert white.getpixel((8 * 28, 8 * 12)) == (255, 255, 255)
    with pytest.raises(ValueError, match="color_by"):
        three_instances.draw(color_by="score")
    with pytest.raises(ValueError, match="not kept"):
        make_instances(np.zeros((0, 4, 4), bool), []).draw()


def test_no_instances_are_an_ordinary_case():
    nothing = make_instances(np.zeros((0, 5, 7), bool), [], image=np.zeros((5, 7, 3), np.uint8))
    assert nothing.masks.shape == (0, 5, 7)
    assert nothing.to_coco() == []
    assert nothing.to_csv().count("\n") == 1
    assert nothing.to_labelme()["shapes"] == nothing.to_geojson()["features"] == []
    assert len(nothing.above(0.5)) == 0
    assert nothing.draw().size == (56, 40)


def test_detections_are_cut_at_each_class_threshold_before_pasting():
    detections = Detections(
        boxes=torch.tensor([[1.0, 2, 5, 6], [0, 0, 8, 8], [3, 3, 7, 9], [2, 2, 4, 4]]),
        labels=torch.tensor([2, 1, 3, 2]),
        scores=torch.tensor([0.9, 0.8, 0.6, 0.4]),
        mask_probs=torch.ones(4, 28, 28),
        image_size_hw=(10, 12),
    )
    limits = {"red fig": 0.85, "green/date": 0.9, "blue": 0.1}
    found = instances_from_detections(detections, CATEGORIES, limits)
    assert found.labels.tolist() == [2, 3]  # 0.9 counts as reached, although float32 stores a little less
    everything = instances_from_detections(detections, CATEGORIES, dict.fromkeys(limits, 0.0))
    assert everything.scores.tolist() == detections["scores"].tolist()
    assert everything.boxes.dtype == np.float32
    assert everything.masks[1, :8, :8].all()
