"""VGG Image Annotator: JSON and CSV, shapes, and which attribute is the class."""

import csv
import json

import numpy as np
import pytest
from convert_data import decode, write_image, write_json

from finemask.datatools.convert.conversion import detect_format
from finemask.datatools.convert.source_files import ReadOptions, Source
from finemask.datatools.convert.via_format import read_via
from finemask.errors import DataError

HEIGHT, WIDTH = 40, 50
POLYGON = {"name": "polygon", "all_points_x": [5, 15, 15, 5], "all_points_y": [2, 2, 8, 8]}
RECT = {"name": "rect", "x": 20, "y": 10, "width": 6, "height": 4}
CIRCLE = {"name": "circle", "cx": 30, "cy": 25, "r": 7}
ELLIPSE = {"name": "ellipse", "cx": 25, "cy": 20, "rx": 12, "ry": 4, "theta": np.pi / 2}


def region(shape, **attributes):
    return {"shape_attributes": shape, "region_attributes": attributes}


def entry(regions, name="a.jpg"):
    return {"filename": name, "size": 123, "regions": regions, "file_attributes": {}}


@pytest.fixture
def root(tmp_path):
    write_image(tmp_path / "a.jpg", HEIGHT, WIDTH)
    return tmp_path


def read(root, entries, **options):
    write_json(root / "via.json", {f"{e['filename']}123": e for e in entries})
    return read_via(Source(root, ReadOptions(**options)))


def test_shapes(root) -> None:
    dataset = read(root, [entry([region(shape, cls="x") for shape in (POLYGON, RECT, CIRCLE, ELLIPSE)])])
    image = dataset.images[0]
    assert (image.height, image.width) == (HEIGHT, WIDTH)
    polygon, rect, circle, ellipse = (
        decode(instance.mask_rle(HEIGHT, WIDTH), HEIGHT, WIDTH) for instance in image.instances
    )
    assert polygon[2:8, 5:15].all()
    assert polygon.sum() == 60
    assert rect[10:14, 20:26].all()
    assert [instance.is_box for instance in image.instances] == [False, True, False, False]
    y, x = np.mgrid[:HEIGHT, :WIDTH] + 0.5
    assert (circle != (np.hypot(x - 30, y - 25) < 7)).sum() <= 10
    upright = ((x - 25) / 4) ** 2 + ((y - 20) / 12) ** 2 < 1
    assert (ellipse != upright).sum() <= 14


@pytest.mark.parametrize("wrap", [lambda entries: entries, lambda entries: {"_via_img_metadata": entries}])
@pytest.mark.parametrize("regions", [[region(POLYGON, label="fig")], {"0": region(POLYGON, label="fig")}])
def test_projects_and_old_files(root, wrap, regions) -> None:
    write_json(root / "via.json", wrap({"a.jpg1": entry(regions)}))
    assert detect_format(Source(root)) == ("via", "via.json")
    assert read_via(Source(root)).images[0].instances[0].category == "fig"


def test_csv(root) -> None:
    with (root / "via.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        head = "filename,file_size,file_attributes,region_count,region_id,region_shape_attributes,region_attributes"
        writer.writerow(head.split(","))
        for number, shape in enumerate((POLYGON, CIRCLE)):
            writer.writerow(["a.jpg", 123, "{}", 2, number, json.dumps(shape), json.dumps({"kind": "fig"})])
        writer.writerow(["a.jpg", 123, "{}", 0, 0, "{}", "{}"])
    assert detect_format(Source(root)) == ("via", "via.csv")
    (image,) = read_via(Source(root)).images
    assert [instance.category for instance in image.instances] == ["fig", "fig"]


@pytest.mark.parametrize(
    ("attributes", "options", "category"),
    [
        ({"kind": "fig"}, {}, "fig"),
        ({"colour": "red", "Class": "fig"}, {}, "fig"),
        ({"colour": "red", "size": "big"}, {"attribute": "colour"}, "red"),
        ({}, {}, "object"),
        ({}, {"classes": ("nut",)}, "nut"),
        ({"class": {"b": True, "a": True, "c": False}}, {}, "a+b"),
        ({"class": 7}, {}, "7"),
    ],
)
def test_the_class_is_one_attribute(root, attributes, options, category) -> None:
    dataset = read(root, [entry([region(POLYGON, **attributes)])], **options)
    assert dataset.images[0].instances[0].category == category
    assert category in {c.name for c in dataset.categories}


def test_an_open_choice_of_attributes_is_an_error(root) -> None:
    with pytest.raises(DataError, match=r"colour, size; which one is the class is not clear.*attribute=NAME"):
        read(root, [entry([region(POLYGON, colour="red", size="big")])])


def test_what_cannot_be_used_is_counted(root) -> None:
    regions = [region({"name": "point", "cx": 1, "cy": 1}, label="x"), region(POLYGON, label=""), region(POLYGON)]
    regions += [region({"name": "circle", "cx": 1}, label="x"), region({}, label="x")]
    write_json(root / "via.json", {"1": entry(regions), "2": entry([], "gone.jpg")})
    source = Source(root)
    dataset = read_via(source)
    assert [len(image.instances) for image in dataset.images] == [0]
    assert [line.partition(": ")[2][0] for line in source.notes.lines()] == ["1", "2", "2", "1"]
