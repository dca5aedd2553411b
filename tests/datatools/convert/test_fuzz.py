"""Annotation files with anything in any place: converted, or refused with a message; never a traceback."""

import copy
import json

import numpy as np
import pytest
import yaml
from convert_data import encode, polygon, write_image, write_json, write_mask
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.random import default_rng

from finemask.datatools.convert.conversion import convert
from finemask.errors import FinemaskError

VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 10**9),
    st.floats(allow_nan=True),
    st.sampled_from(["", "x", "../x.jpg", "a.jpg", "polygon", "mask", "1", "nan", "\x00", "é", "1,2;3,4;5"]),
    st.lists(st.integers(-5, 50), max_size=7),
    st.just([[1.0, 2.0, 9.0, 2.0, 9.0, 9.0]]),
    st.just([{}]),
    st.dictionaries(st.sampled_from(["id", "size", "counts", "name", "points"]), st.integers(-3, 9), max_size=3),
)
FUZZ = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))

OUTLINE = [[2, 2], [20, 2], [20, 12]]
COCO = {
    "images": [{"id": 5, "file_name": "a.jpg", "height": 20, "width": 30}],
    "annotations": [
        {"id": 1, "image_id": 5, "category_id": 3, "segmentation": [[2.0, 2, 20, 2, 20, 12]], "bbox": [2, 2, 18, 10]},
        {"id": 2, "image_id": 5, "category_id": 3, "segmentation": {"size": [20, 30], "counts": [500, 50, 50]}},
        {"id": 3, "image_id": 5, "category_id": 3, "segmentation": [], "bbox": [2, 2, 18, 10], "iscrowd": 1},
    ],
    "categories": [{"id": 3, "name": "cat", "supercategory": ""}],
    "info": {},
}
PANOPTIC = COCO | {
    "annotations": [{"image_id": 5, "file_name": "a.png", "segments_info": [{"id": 7, "category_id": 3}]}],
}
LABELME = {
    "version": "5.0",
    "imagePath": "a.jpg",
    "imageData": None,
    "imageHeight": 20,
    "imageWidth": 30,
    "shapes": [
        {"label": "cat", "points": OUTLINE, "shape_type": "polygon", "group_id": 1, "flags": {}},
        {"label": "cat", "points": OUTLINE[:2], "shape_type": "circle", "group_id": None, "flags": {"crowd": True}},
        {"label": "cat", "points": OUTLINE[:2], "shape_type": "mask", "mask": "iVBORw0KGgo=", "group_id": 2},
    ],
}
VIA = {
    "a.jpg1": {
        "filename": "a.jpg",
        "regions": [
            {
                "shape_attributes": {"name": "polygon", "all_points_x": [1, 9, 9], "all_points_y": [1, 1, 9]},
                "region_attributes": {"class": "cat"},
            },
            {"shape_attributes": {"name": "circle", "cx": 5, "cy": 5, "r": 3}, "region_attributes": {"class": "cat"}},
        ],
    }
}
DOCUMENTS = {"coco": COCO, "panoptic": PANOPTIC, "labelme": LABELME, "via": VIA}


def places(value, path=()):
    """Every place in nested lists and dictionaries."""
    if path:
        yield path
    entries = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in entries:
        yield from places(inner, (*path, key))


def holder(document, path):
    for key in path[:-1]:
        document = document[key]
    return document


def converts_or_refuses(folder, to, name):
    try:
        convert(folder, folder.parent / f"out_{to}", to=to, images="copy", format=name, preview=False)
    except FinemaskError as error:
        message = str(error)
        assert message


@FUZZ
@given(data=st.data(), name=st.sampled_from(sorted(DOCUMENTS)), to=st.sampled_from(["coco", "yolo", "labelme"]))
def test_json(tmp_path_factory, data, name, to) -> None:
    document = copy.deepcopy(DOCUMENTS[name])
    for _ in range(data.draw(st.integers(1, 3))):
        path = data.draw(st.sampled_from(sorted(places(document), key=str)))
        if data.draw(st.booleans()):
            holder(document, path)[path[-1]] = copy.deepcopy(data.draw(VALUES))
        else:
            del holder(document, path)[path[-1]]
        if not list(places(document)):
            break
    folder = tmp_path_factory.mktemp("fuzz") / "in"
    write_image(folder / "a.jpg", 20, 30)
    write_json(folder / "a.json", document)
    converts_or_refuses(folder, to, {"panoptic": "coco"}.get(name, name))


CVAT = (
    "<annotations><meta><task><labels><label><name>cat</name></label></labels>"
    "<original_size><width>{30}</width><height>{20}</height></original_size></task></meta>"
    '<image id="0" name="{a.jpg}" width="{30}" height="{20}" subset="{train}">'
    '<polygon label="{cat}" points="{1,1;9,1;9,9}" z_order="{0}"/>'
    '<mask label="cat" rle="{2,3,4}" left="{1}" top="{1}" width="{3}" height="{3}"/>'
    '<ellipse label="cat" cx="{5}" cy="5" rx="{3}" ry="3" rotation="{9}"/>'
    '<box label="cat" xtl="{1}" ytl="1" xbr="{5}" ybr="5"/></image>'
    '<track id="0" label="{cat}"><polygon frame="{0}" outside="{0}" points="{1,1;9,1;9,9}"/></track></annotations>'
)
VOC = (
    "<annotation><filename>{a.jpg}</filename><size><width>{30}</width><height>{20}</height></size>"
    "<object><name>{cat}</name><bndbox><xmin>{1}</xmin><ymin>{1}</ymin><xmax>{9}</xmax><ymax>{9}</ymax></bndbox></object>"
    "</annotation>"
)
TEXTS = st.sampled_from(
    ["", "x", "-1", "0", "1e999", "nan", "99999999", "../a.jpg", "1,2", "1;2,3", "é", "1.5", "a.jpg"]
)


@FUZZ
@given(data=st.data(), name=st.sampled_from(["cvat", "voc"]))
def test_xml(tmp_path_factory, data, name) -> None:
    pieces = {"cvat": CVAT, "voc": VOC}[name].replace("}", "{").split("{")
    for _ in range(data.draw(st.integers(1, 3))):
        pieces[data.draw(st.integers(0, len(pieces) // 2 - 1)) * 2 + 1] = data.draw(TEXTS)
    folder = tmp_path_factory.mktemp("fuzz") / "in"
    write_image(folder / "a.jpg", 20, 30)
    (folder / "a.xml").write_text("".join(pieces))
    converts_or_refuses(folder, "coco", name)


@FUZZ
@given(
    settings=st.dictionaries(st.sampled_from(["names", "train", "val", "path", "nc"]), VALUES, max_size=4),
    lines=st.lists(st.lists(TEXTS, max_size=9).map(" ".join), max_size=3),
)
def test_yolo(tmp_path_factory, settings, lines) -> None:
    folder = tmp_path_factory.mktemp("fuzz") / "in"
    write_image(folder / "a.jpg", 20, 30)
    (folder / "a.txt").write_text("\n".join(lines))
    (folder / "data.yaml").write_text(yaml.safe_dump({"names": ["cat"]} | settings))
    converts_or_refuses(folder, "coco", "yolo")


@pytest.mark.parametrize("name", sorted(DOCUMENTS))
def test_what_is_mutated_is_sound_to_begin_with(tmp_path, name) -> None:
    write_image(tmp_path / "in/a.jpg", 20, 30)
    write_json(tmp_path / "in/a.json", DOCUMENTS[name])
    if name == "panoptic":
        write_mask(tmp_path / "in/a/a.png", np.full((20, 30, 3), (7, 0, 0), dtype=np.uint8))
    done = convert(tmp_path / "in", tmp_path / "out", preview=False)
    assert done.format == {"panoptic": "coco"}.get(name, name)
    assert len(done.dataset.images) == 1
    json.loads((tmp_path / "out/annotations/train.json").read_text())


def test_helpers_make_what_they_say() -> None:
    assert len(polygon(default_rng(0), 60, 60)) == 18
    assert encode(default_rng(0).random((4, 5)) < 2)["counts"]
