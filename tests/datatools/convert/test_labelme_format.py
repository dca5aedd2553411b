"""LabelMe's shapes, one by one, against masks drawn by hand."""

import base64
import io

import numpy as np
import pytest
from convert_data import decode, only, write_image, write_json
from PIL import Image

from finemask.datatools.convert.conversion import convert
from finemask.datatools.convert.labelme_format import read_labelme
from finemask.datatools.convert.source_files import Source
from finemask.errors import DataError

HEIGHT, WIDTH = 40, 60


def shape(kind, points, label="cat", **more):
    return {"label": label, "points": points, "shape_type": kind, "group_id": None, "flags": {}} | more


def png(array):
    content = io.BytesIO()
    Image.fromarray(array).save(content, format="PNG")
    return base64.b64encode(content.getvalue()).decode()


def labelme(root, shapes, *, image="a.jpg", stem="a", **more):
    document = {"version": "5.4.1", "flags": {}, "shapes": shapes, "imagePath": image, "imageData": None}
    write_json(root / f"{stem}.json", document | {"imageHeight": HEIGHT, "imageWidth": WIDTH} | more)
    return root


@pytest.fixture
def root(tmp_path):
    write_image(tmp_path / "in/a.jpg", HEIGHT, WIDTH)
    return tmp_path / "in"


def instances(root):
    return read_labelme(Source(root)).images[0].instances


def test_shapes_of_every_kind(root, tmp_path) -> None:
    mask = np.zeros((6, 8), dtype=np.uint8)
    mask[1:5, 2:7], mask[2, 3] = 255, 0
    labelme(
        root,
        [
            shape("polygon", [[10, 10], [20, 10], [20, 15], [10, 15]]),
            shape("rectangle", [[30, 20], [22, 12]], label="box"),
            shape("circle", [[40, 20], [44, 23]], label="disc"),
            shape("mask", [[50, 30], [57, 35]], label="mask", mask=png(mask)),
            shape("point", [[1, 1]]),
            shape("linestrip", [[1, 1], [5, 5], [6, 6]]),
        ],
    )
    done = convert(root, tmp_path / "out", boxes="rectangle", preview=False)
    found = dict(only(tmp_path / "out"))
    expected = np.zeros((HEIGHT, WIDTH), dtype=bool)
    expected[10:15, 10:20] = True
    assert (found["cat"] == expected).all()
    assert found["box"][12:20, 22:30].all()
    assert found["box"].sum() == 64
    y, x = np.mgrid[:HEIGHT, :WIDTH] + 0.5
    disc = np.hypot(x - 40, y - 20) < 5  # the second point lies on the circle
    assert (found["disc"] != disc).sum() <= 8
    pasted = np.zeros((HEIGHT, WIDTH), dtype=bool)
    pasted[30:36, 50:58] = mask > 0
    assert (found["mask"] == pasted).all()
    assert done.notes.lines() == ["points and lines left out, which have no area: 2 (a.json, shape 5, a.json, shape 6)"]


def test_shapes_of_one_group_and_label_are_one_object(root) -> None:
    left, right = [[1, 1], [9, 1], [9, 9]], [[20, 1], [29, 1], [29, 9]]
    labelme(
        root,
        [
            shape("polygon", left, group_id=4),
            shape("polygon", right, group_id=4),
            shape("polygon", right, group_id=4, label="dog"),
            shape("polygon", left),
            shape("polygon", right),
        ],
    )
    found = instances(root)
    assert [(len(instance.polygons), instance.category) for instance in found] == [
        (2, "cat"),
        (1, "dog"),
        (1, "cat"),
        (1, "cat"),
    ]


def test_a_polygon_and_a_mask_of_one_group_are_joined(root) -> None:
    mask = png(np.full((4, 4), 255, dtype=np.uint8))
    shapes = [shape("polygon", [[0, 0], [8, 0], [8, 8], [0, 8]], group_id=1)]
    labelme(root, [*shapes, shape("mask", [[20, 20], [23, 23]], group_id=1, mask=mask)])
    (instance,) = instances(root)
    joined = decode(instance.mask_rle(HEIGHT, WIDTH), HEIGHT, WIDTH)
    assert joined.sum() == 64 + 16
    assert joined[20:24, 20:24].all()


def test_a_mask_that_hangs_over_the_border_is_cut(root) -> None:
    mask = png(np.full((10, 10), 255, dtype=np.uint8))
    labelme(root, [shape("mask", [[-4, 35], [5, 44]], mask=mask)])
    (instance,) = instances(root)
    found = decode(instance.mask_rle(HEIGHT, WIDTH), HEIGHT, WIDTH)
    assert found[35:40, 0:6].all()
    assert found.sum() == 30


def test_embedded_images_are_written_out(tmp_path) -> None:
    picture = np.random.default_rng(0).integers(0, 255, (HEIGHT, WIDTH, 3)).astype(np.uint8)
    root = tmp_path / "in"
    labelme(root, [shape("polygon", [[1, 1], [9, 1], [9, 9]])], image="..\\photos\\x.png", imageData=png(picture))
    convert(root, tmp_path / "out", preview=False)
    assert (np.asarray(Image.open(tmp_path / "out/images/x.png")) == picture).all()


def test_an_image_outside_the_source_is_refused_without_an_embedded_one(root) -> None:
    write_image(root.parent / "photos/x.jpg", HEIGHT, WIDTH)
    labelme(root, [], image="../photos/x.jpg")
    with pytest.raises(DataError, match="leads out of the source"):
        read_labelme(Source(root))
    from_above = read_labelme(Source(root.parent))
    assert from_above.images[0].path == root.parent / "photos/x.jpg"


def test_shapes_and_files_that_are_none_are_counted(root) -> None:
    broken = [shape("polygon", [[1, 1], [2, 2]]), shape("mask", [[1, 1]], mask="!"), shape("polygon", [], label=" "), 7]
    labelme(root, [*broken, shape("polygon", [[1, 1], [9, 1], [9, 9]])])
    write_json(root / "other.json", {"something": "else"})
    labelme(root, [], stem="lost", image="lost.jpg", imageHeight=None)
    source = Source(root)
    dataset = read_labelme(source)
    assert [len(image.instances) for image in dataset.images] == [1]
    assert source.notes.lines() == [
        "shapes left out that cannot be read: 2 (a.json, shape 1 (polygon), a.json, shape 2 (mask))",
        "shapes without a label left out: 2 (a.json, shape 3, a.json, shape 4)",
        "annotated images that are not there left out: 1 (lost.json: lost.jpg)",
        "JSON files left out that are not LabelMe's: 1 (other.json)",
    ]


def test_classes_are_numbered_by_name(root) -> None:
    labelme(root, [shape("polygon", [[1, 1], [9, 1], [9, 9]], label=label) for label in ("b", "a", "b")])
    assert [(c.id, c.name) for c in read_labelme(Source(root)).categories] == [(1, "a"), (2, "b")]
