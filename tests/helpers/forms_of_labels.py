"""Forms of segmentations and annotations, as tools write them."""

import json
from collections.abc import Callable, Iterator
from typing import Any

from forms_writing import Form
from scenes import CLASSES, HEIGHT, WIDTH, Scene

Entry = dict[str, Any]


def _labels(scene: Scene, name: str) -> Iterator[Entry]:
    number = CLASSES.index(name) + 1
    return (a for a in scene.train["annotations"] if a["category_id"] == number and not a["iscrowd"])


def _each(name: str, write: Callable[[Entry], None]) -> Callable[[Scene], None]:
    """Every label of a class: leaves are polygons, nuts compressed run lengths, stems uncompressed ones."""

    def spoil(scene: Scene) -> None:
        for annotation in list(_labels(scene, name)):
            write(annotation)

    return spoil


def _one(name: str, write: Callable[[Entry], None]) -> Callable[[Scene], None]:
    """The label of a class on the second image."""

    def spoil(scene: Scene) -> None:
        write(next(annotation for annotation in _labels(scene, name) if annotation["image_id"] == 2))

    return spoil


def _segmentation(change: Callable[[Any], Any]) -> Callable[[Entry], None]:
    def write(annotation: Entry) -> None:
        annotation["segmentation"] = change(annotation["segmentation"])

    return write


def _counts(change: Callable[[Any], Any]) -> Callable[[Entry], None]:
    return _segmentation(lambda rle: {**rle, "counts": change(rle["counts"])})


def _size(size: list[int]) -> Callable[[Entry], None]:
    return _segmentation(lambda rle: {**rle, "size": size})


def _even(rle: dict[str, Any]) -> list[list[int]]:
    """Counts that pass for a polygon by their number."""
    return [rle["counts"] if len(rle["counts"]) % 2 == 0 else [*rle["counts"], 0]]


_odd = _segmentation(lambda polygons: [polygons[0][:-1]])


def _set(**values: Any) -> Callable[[Entry], None]:
    return lambda annotation: annotation.update(values)


def _drop(*keys: str) -> Callable[[Entry], None]:
    def write(annotation: Entry) -> None:
        for key in keys:
            del annotation[key]

    return write


def _points(polygons: list[list[float]]) -> list[list[list[float]]]:
    return [[list(point) for point in zip(part[::2], part[1::2], strict=True)] for part in polygons]


def _texts(value: Any) -> Any:
    return [_texts(item) for item in value] if isinstance(value, list) else str(value)


def _only_box(annotation: Entry) -> None:
    x, y, w, h = annotation["bbox"]
    annotation["segmentation"] = [[x, y, x + w, y + h]]


def _corners(annotation: Entry) -> None:
    x, y, w, h = annotation["bbox"]
    annotation["bbox"] = [x, y, x + w, y + h]


def _everything(write: Callable[[Entry], None]) -> Callable[[Scene], None]:
    def spoil(scene: Scene) -> None:
        for annotation in scene.train["annotations"]:
            if not annotation["iscrowd"]:
                write(annotation)

    return spoil


def _by_name(scene: Scene) -> None:
    for annotation in scene.train["annotations"]:
        annotation["category_id"] = CLASSES[annotation["category_id"] - 1]


def _ids(change: Callable[[int], Any]) -> Callable[[Scene], None]:
    def spoil(scene: Scene) -> None:
        for name in ("images", "annotations", "categories"):
            for entry in scene.train[name]:
                for key in ("id", "image_id", "category_id"):
                    if key in entry:
                        entry[key] = change(entry[key])

    return spoil


def _relative(scene: Scene) -> None:
    for annotation in _labels(scene, "leaf"):
        sides = [WIDTH, HEIGHT] * 20
        annotation["segmentation"] = [[v / side for v, side in zip(annotation["segmentation"][0], sides, strict=False)]]
        annotation["bbox"] = [v / side for v, side in zip(annotation["bbox"], sides, strict=False)]


def _as_it_is(scene: Scene) -> None:
    """Nothing."""


SEGMENTATIONS = (
    Form("polygons `[[x, y, …]]`", "COCO, nearly all tools", _as_it_is, sound=3),
    Form("compressed RLE", "COCO, SAM, pycocotools", _as_it_is, sound=3),
    Form("uncompressed RLE", "COCO's crowds, CVAT", _as_it_is, sound=3),
    Form("points `[[[x, y], …]]`", "LabelMe scripts, OpenCV contours", _each("leaf", _segmentation(_points))),
    Form("one polygon as points `[[x, y], …]`", "own scripts", _each("leaf", _segmentation(lambda s: _points(s)[0]))),
    Form("flat list `[x, y, …]`", "own scripts", _each("leaf", _segmentation(lambda s: s[0]))),
    Form("one list too many `[[[x, y, …]]]`", "own scripts", _each("leaf", _segmentation(lambda s: [s]))),
    Form("RLE inside a list", "own scripts", _each("nut", _segmentation(lambda s: [s]))),
    Form(
        "compressed counts as `\"b'…'\"`",
        "`str()` of pycocotools' bytes",
        _each("nut", _counts(lambda c: str(c.encode()))),
    ),
    Form("RLE as JSON text", "databases, CSV, pandas", _each("nut", _segmentation(json.dumps))),
    Form("RLE as Python text", "`str()` of a dictionary", _each("nut", _segmentation(str))),
    Form("polygons as JSON text", "databases, CSV, pandas", _each("leaf", _segmentation(json.dumps))),
    Form("counts of an RLE as a polygon", "own scripts", _each("stem", _segmentation(lambda s: [s["counts"]]))),
    Form("the same, an even number of them", "own scripts", _each("stem", _segmentation(_even))),
    Form("counts with a point, `12.0`", "pandas, NumPy", _each("stem", _counts(lambda c: [float(v) for v in c]))),
    Form(
        "RLE size `[width, height]`",
        "PIL's order",
        _each("nut", _size([WIDTH, HEIGHT])),
    ),
    Form("RLE without a size", "own scripts", _each("nut", _segmentation(lambda s: {"counts": s["counts"]}))),
    Form("RLE of another size", "masks of resized images", _one("nut", _size([30, 40]))),
    Form('numbers as text, `"54.4"`', "XML and CSV converters", _each("leaf", _segmentation(_texts))),
    Form("coordinates from 0 to 1", "YOLO converters", _relative),
    Form("polygon of 4 numbers", "boxes as polygons", _each("leaf", _only_box)),
    Form("polygon of 4 numbers, once", "boxes as polygons", _one("leaf", _only_box)),
    Form("odd number of coordinates", "damaged files", _one("leaf", _odd)),
    Form("odd number of coordinates, a whole class", "damaged files", _each("leaf", _odd)),
    Form(
        "the same with `remove=true`",
        "damaged files",
        _each("leaf", _odd),
        {"remove": True},
    ),
    Form("null among the coordinates", "pandas' NaN", _one("leaf", _segmentation(lambda s: [[None, *s[0][1:]]]))),
    Form("null among the polygons", "own scripts", _each("leaf", _segmentation(lambda s: [*s, None]))),
    Form("empty `[]`, with a box", "detection sets", _one("leaf", _set(segmentation=[]))),
)

ANNOTATIONS = (
    Form("boxes only, all of a file", "detection sets", _everything(_drop("segmentation"))),
    Form(
        "the same with `boxes=rectangle`", "detection sets", _everything(_drop("segmentation")), {"boxes": "rectangle"}
    ),
    Form("box `[x1, y1, x2, y2]` beside a mask", "Pascal's order", _each("leaf", _corners)),
    Form("box of text", "XML and CSV converters", _each("leaf", lambda a: a.update(bbox=[str(v) for v in a["bbox"]]))),
    Form("no `bbox`, `area`, `iscrowd`", "own scripts", _each("leaf", _drop("bbox", "area", "iscrowd"))),
    Form("`iscrowd` 1 on masks of single objects", "CVAT's brush", _each("nut", _set(iscrowd=1))),
    Form("the same with `crowds=objects`", "CVAT's brush", _each("nut", _set(iscrowd=1)), {"crowds": "objects"}),
    Form("`iscrowd` 1 on polygons", "own scripts", _each("leaf", _set(iscrowd=1))),
    Form("`iscrowd` true, false", "own scripts", _each("leaf", _set(iscrowd=False))),
    Form("`iscrowd` 2", "other flags in its place", _each("leaf", _set(iscrowd=2))),
    Form('`iscrowd` `"0"`', "CSV converters", _each("leaf", _set(iscrowd="0"))),
    Form("`category_id` is a name", "own scripts", _by_name),
    Form("ids `1.0`", "pandas", _ids(float)),
    Form('ids `"1"`', "CSV converters, JavaScript", _ids(str)),
    Form("no annotation ids", "own scripts", _everything(_drop("id")), harmless_too=True),
    Form("a label on an image that is not listed", "filtered files", _one("leaf", _set(image_id=77))),
    Form("a label of a class that is not listed", "filtered files", _one("leaf", _set(category_id=77))),
)
