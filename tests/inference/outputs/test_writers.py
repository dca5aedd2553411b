import base64
import csv
import io
import json
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from convert_data import blob, boundary_loss_px, only, write_image
from hypothesis import given, settings
from hypothesis import strategies as st
from inference_data import CATEGORIES, make_instances
from PIL import Image, ImageDraw
from pycocotools import mask as coco_mask
from scipy import ndimage

from finemask.datatools.convert.conversion import convert
from finemask.datatools.convert.source_files import ReadOptions
from finemask.errors import ConfigError
from finemask.inference.outputs.writers import Collector, open_writers, writers_by_name


def write(name, images, output):
    (writer,) = open_writers([name], output, labels=lambda image: ())
    if isinstance(writer, Collector):
        parts = (json.loads(json.dumps(writer.part(instances))) for instances in images)
        paths = writer.write(((part, image_id) for image_id, part in enumerate(parts, start=1)), CATEGORIES)
    else:
        for instances in images:
            writer.add(instances)
        paths = writer.finish(CATEGORIES)
    assert all(path.is_relative_to(output) for path in paths)
    return paths


def rasterised(points, height, width):
    rle = coco_mask.frPyObjects([np.array(points, dtype=float).reshape(-1).tolist()], height, width)
    return coco_mask.decode(rle)[:, :, 0].astype(bool)


@pytest.mark.parametrize("name", sorted(writers_by_name(Path())))
def test_every_writer_takes_anything_and_leaves_no_temporary_file(name, three_instances, tmp_path):
    nothing = make_instances(np.zeros((0, 5, 7), bool), [], image=np.zeros((5, 7, 3), np.uint8), name="e.png")
    twin = three_instances[:1]
    paths = write(name, [three_instances, nothing, twin], tmp_path)
    assert bool(paths) == (name != "video")  # none of them is a frame of one
    assert all(path.exists() for path in paths)
    assert not [path for path in tmp_path.rglob("*") if path.name.startswith(".")]
    assert open_writers([name, name], tmp_path, labels=lambda image: ())[1:] == []


def test_equal_names_in_two_folders_stay_apart_and_none_leads_out(tmp_path):
    mask = np.ones((1, 4, 4), bool)
    image = np.zeros((4, 4, 3), np.uint8)
    named = [
        make_instances(mask, [1], image=image, name=name)
        for name in ("a/x.png", "b/x.png", "/etc/x.png", "../../up.png", "video/video.v1_000001")
    ]
    write("overlay", named, tmp_path / "out")
    found = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.png"))
    names = ["a/x", "b/x", "etc/x", "up", "video/video.v1_000001"]
    assert found == [f"out/overlay/{name}.png" for name in names]


def test_overlay_is_the_drawing(three_instances, tmp_path):
    write("overlay", [three_instances], tmp_path)
    written = Image.open(tmp_path / "overlay" / "sub" / "a photo.png")
    assert np.array_equal(np.asarray(written), np.asarray(three_instances.draw()))
    (by_class,) = open_writers(["overlay"], tmp_path / "c", color_by="class")
    by_class.add(three_instances)
    written = Image.open(tmp_path / "c" / "overlay" / "sub" / "a photo.png")
    assert np.array_equal(np.asarray(written), np.asarray(three_instances.draw(color_by="class")))


def test_coco_results_and_the_images_they_speak_of(three_instances, tmp_path):
    write("coco", [three_instances, three_instances[:1]], tmp_path)
    results = json.loads((tmp_path / "predictions.json").read_text())
    assert results == three_instances.to_coco(1) + three_instances[:1].to_coco(2)
    side = json.loads((tmp_path / "images.json").read_text())
    assert side["images"][1] == {"id": 2, "file_name": "sub/a photo.jpg", "height": 20, "width": 30}
    assert side["categories"] == [category._asdict() for category in CATEGORIES]


def test_masks_are_one_picture_an_instance(three_instances, tmp_path):
    write("masks", [three_instances], tmp_path)
    files = sorted((tmp_path / "masks" / "sub" / "a photo").iterdir())
    assert [file.name for file in files] == ["0001_red-fig.png", "0002_green-date.png", "0003_blue.png"]
    for file, mask in zip(files, three_instances.masks, strict=True):
        assert np.array_equal(np.asarray(Image.open(file)), mask * np.uint8(255))


def test_label_map_is_16_bit_with_the_best_score_on_top(three_instances, tmp_path):
    write("label_map", [three_instances], tmp_path)
    picture = Image.open(tmp_path / "label_map" / "sub" / "a photo.png")
    assert picture.mode.startswith("I;16")
    values = np.asarray(picture)
    first, second, _ = three_instances.masks
    assert (first & second).any()
    assert np.array_equal(values == 1, first)
    assert np.array_equal(values == 2, second & ~first)
    assert values.max() == 2


def test_more_instances_than_a_byte_holds(tmp_path):
    masks = np.eye(300, dtype=bool).reshape(300, 15, 20)
    many = make_instances(masks, [1] * 300, name="many.png")
    write("label_map", [many], tmp_path)
    values = np.asarray(Image.open(tmp_path / "label_map" / "many.png"))
    assert values.reshape(-1).tolist() == list(range(1, 301))


def test_crops_are_cut_from_the_image_with_the_mask_as_alpha(three_instances, tmp_path):
    write("crops", [three_instances], tmp_path)
    files = sorted((tmp_path / "crops" / "sub" / "a photo").iterdir())
    assert len(files) == 2  # the third has no pixels
    crop = np.asarray(Image.open(files[0]))
    assert np.array_equal(crop[:, :, :3], three_instances.image[2:14, 3:15])
    assert np.array_equal(crop[:, :, 3] > 0, three_instances.masks[0, 2:14, 3:15])


def test_csv_gathers_all_images_under_one_header(three_instances, tmp_path):
    write("csv", [three_instances, three_instances[:1]], tmp_path)
    with (tmp_path / "predictions.csv").open(newline="", encoding="utf-8") as file:
        lines = list(csv.DictReader(file))
    assert [line["instance"] for line in lines] == ["1", "2", "3", "1"]
    assert {line["image"] for line in lines} == {"sub/a photo.jpg"}


def filled_by_pillow(points, height, width):
    """Pixels of an outline by even and odd: the rasteriser of LabelMe's own exporters."""
    picture = Image.new("1", (width * 8, height * 8))
    ImageDraw.Draw(picture).polygon([(8 * x, 8 * y) for x, y in points], fill=1)
    return np.asarray(picture)[4::8, 4::8]


def test_labelme_polygons_cover_the_mask_holes_and_parts_included(three_instances, tmp_path):
    write("labelme", [three_instances], tmp_path)
    document = json.loads((tmp_path / "labelme" / "sub" / "a photo.json").read_text())
    assert (document["imageHeight"], document["imageWidth"]) == (20, 30)
    assert [(shape["label"], shape["group_id"], shape["shape_type"]) for shape in document["shapes"]] == [
        ("red fig", None, "polygon"),  # alone: a copy of it made in LabelMe is not to become a part of it
        ("green/date", 2, "polygon"),
        ("green/date", 2, "polygon"),
    ]
    assert [shape["description"] for shape in document["shapes"]] == ["score 0.875", "score 0.750", "score 0.750"]
    for filled in (rasterised, filled_by_pillow):
        ring, *parts = (filled(shape["points"], 20, 30) for shape in document["shapes"])
        assert np.array_equal(ring, three_instances.masks[0])
        assert np.array_equal(parts[0] | parts[1], three_instances.masks[1])
    assert (tmp_path / "labels.txt").read_text() == "red fig\ngreen/date\nblue\n"


def test_labelme_fills_holes_too_small_to_be_drawn(tmp_path):
    mask = np.ones((1, 20, 20), bool)
    mask[0, 3:5, 3:12] = mask[0, 10:13, 10:13] = False
    (shape,) = make_instances(mask, [1]).to_labelme()["shapes"]
    expected = np.ones((20, 20), bool)
    expected[10:13, 10:13] = False
    assert np.array_equal(rasterised(shape["points"], 20, 20), expected)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10**6))
def test_data_convert_reads_back_what_labelme_was_given(seed):
    """Classes, their order, the pixels of the polygons that the files hold; and these are near those of the masks."""
    rng = np.random.default_rng(seed)
    masks = np.stack([blob(rng, 60, 70) for _ in range(3)])
    masks = masks | ndimage.binary_dilation(masks)  # no specks, which a rasteriser cannot hit after thinning
    with TemporaryDirectory() as folder:
        photo = write_image(Path(folder) / "photos" / "x.png", 60, 70)
        found = make_instances(masks, [3, 1, 2], name="x.png", path=photo)
        write("labelme", [found], Path(folder) / "found")
        options = ReadOptions(image_root=photo.parent)
        out = Path(folder) / "out"
        convert(Path(folder) / "found" / "labelme", out, format="labelme", options=options, preview=False)
        read = only(out)
        shapes = json.loads((Path(folder) / "found" / "labelme" / "x.json").read_text())["shapes"]
    assert [name for name, _ in read] == found.class_names
    for mask, (name, back) in zip(masks, read, strict=True):
        polygons = [rasterised(shape["points"], 60, 70) for shape in shapes if shape["label"] == name]
        assert np.array_equal(back, np.any(polygons, axis=0))
        assert boundary_loss_px(mask, back) <= 2.2  # a hole of up to 2 px may be filled; fifths are rounded to


def test_labelme_carries_a_picture_that_is_no_file(tmp_path):
    frame = np.full((20, 30, 3), 90, np.uint8)
    one = make_instances(np.ones((1, 20, 30), bool), [1], name="clip/clip.v1_000007", image=frame)
    write("labelme", [one], tmp_path / "found")
    document = json.loads((tmp_path / "found" / "labelme" / "clip" / "clip.v1_000007.json").read_text())
    picture = np.asarray(Image.open(io.BytesIO(base64.b64decode(document["imageData"]))))
    assert picture.shape == (20, 30, 3)
    assert abs(picture.astype(int) - 90).max() <= 2
    convert(tmp_path / "found" / "labelme", tmp_path / "out", preview=False)
    assert (tmp_path / "out" / "images" / "clip.v1_000007.jpg").is_file()


def test_labelme_names_the_image_relative_to_itself(tmp_path):
    image = tmp_path / "photos" / "x.png"
    one = make_instances(np.ones((1, 4, 4), bool), [1], name="x.png", path=image)
    write("labelme", [one], tmp_path / "out")
    document = tmp_path / "out" / "labelme" / "x.json"
    relative = json.loads(document.read_text())["imagePath"]
    assert (document.parent / relative).resolve() == image.resolve()


def test_geojson_keeps_holes_and_parts(three_instances, tmp_path):
    write("geojson", [three_instances], tmp_path)
    document = json.loads((tmp_path / "geojson" / "sub" / "a photo.geojson").read_text())
    ring, blob = (feature["geometry"] for feature in document["features"])
    assert (ring["type"], len(ring["coordinates"])) == ("Polygon", 2)
    assert (blob["type"], len(blob["coordinates"])) == ("MultiPolygon", 2)
    outer, hole = ring["coordinates"]
    assert outer[0] == outer[-1]
    rebuilt = rasterised(outer, 20, 30) & ~rasterised(hole, 20, 30)
    assert np.array_equal(rebuilt, three_instances.masks[0])
    assert document["features"][0]["properties"]["classification"]["name"] == "red fig"
    assert document["features"][0]["properties"]["measurements"] == {"score": 0.875}


def test_geojson_says_that_it_is_in_pixels(three_instances):
    document = three_instances.to_geojson()
    assert document["coordinates"] == "pixels from the image's upper left corner, y downwards"
    assert "crs" not in document
    assert [feature["properties"]["instance"] for feature in document["features"]] == [1, 2]


def test_geojson_of_a_map_is_in_its_coordinates(tmp_path):
    """A field of 10 m pixels whose upper left corner is at 500,000 east, 4,600,000 north; by hand."""
    path = tmp_path / "field.png"
    write_image(path, 40, 50)
    path.with_suffix(".pgw").write_text("10\n0\n0\n-10\n500005\n4599995\n")  # the middle of the first pixel
    masks = np.zeros((1, 40, 50), bool)
    masks[0, 5:20, 10:30] = True
    masks[0, 8:12, 12:18] = False
    field = make_instances(masks, [1], name="field.png", path=path)
    (feature,) = field.to_geojson(tmp_path / "field.geojson")["features"]
    outer, hole = feature["geometry"]["coordinates"]
    assert sorted(map(tuple, outer[:-1])) == [
        (500100.0, 4599800.0),
        (500100.0, 4599950.0),
        (500300.0, 4599800.0),
        (500300.0, 4599950.0),
    ]
    assert outer[0] == outer[-1]

    def area(ring):  # above 0: counterclockwise, y being north
        return sum(x0 * y1 - x1 * y0 for (x0, y0), (x1, y1) in pairwise(ring)) / 2

    assert area(np.array(outer) - outer[0]) == 200 * 150  # m²
    assert area(np.array(hole) - hole[0]) == -60 * 40
    assert field.to_geojson(in_pixels=True)["coordinates"].startswith("pixels")
    assert "does not say" in field.to_geojson()["coordinates"]


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10**6))
def test_data_convert_reads_back_the_very_masks_of_a_yolo_dataset(seed):
    rng = np.random.default_rng(seed)
    masks = np.stack([blob(rng, 60, 70) for _ in range(3)])
    with TemporaryDirectory() as folder:
        photo = write_image(Path(folder) / "photos" / "x.png", 60, 70)
        found = make_instances(masks, [3, 1, 2], name="x.png", path=photo)
        frame = make_instances(masks[:1], [2], name="clip/clip_000007", image=np.zeros((60, 70, 3), np.uint8))
        write("yolo", [found, frame], Path(folder) / "found")
        assert (Path(folder) / "found" / "yolo" / "images" / "x.png").samefile(photo)
        convert(Path(folder) / "found" / "yolo.yaml", Path(folder) / "out", format="yolo", preview=False)
        document = json.loads((Path(folder) / "out" / "annotations" / "train.json").read_text())
    names = {category["id"]: category["name"] for category in document["categories"]}
    of_image = {image["id"]: image["file_name"] for image in document["images"]}
    read = {}
    for entry in document["annotations"]:
        rle = entry["segmentation"]
        if isinstance(rle, list):
            rle = coco_mask.merge(coco_mask.frPyObjects(rle, 60, 70))
        read[of_image[entry["image_id"]].rpartition("/")[2], names[entry["category_id"]]] = coco_mask.decode(rle) > 0
    assert set(names.values()) == {category.name for category in CATEGORIES}
    wanted = {("x.png", name): mask for name, mask in zip(found.class_names, masks, strict=True)}
    wanted["clip_000007.png", frame.class_names[0]] = masks[0]
    assert read.keys() == wanted.keys()
    assert all(np.array_equal(read[key], wanted[key]) for key in wanted)


def test_a_yolo_dataset_in_the_folder_of_its_own_images_leaves_them_alone(tmp_path):
    photo = write_image(tmp_path / "yolo" / "images" / "x.png", 60, 70)
    before = photo.read_bytes()
    write("yolo", [make_instances(np.ones((1, 60, 70), bool), [1], name="x.png", path=photo)], tmp_path)
    assert photo.read_bytes() == before


def test_an_unknown_format_names_the_nearest(tmp_path):
    with pytest.raises(ConfigError, match=r"save=overlays.*Did you mean overlay\?"):
        open_writers(["coco", "overlays"], tmp_path)
