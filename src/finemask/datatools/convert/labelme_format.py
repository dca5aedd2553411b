"""LabelMe: a JSON file an image, with shapes; both ways.

Shapes of one label that share a ``group_id`` are one object, as LabelMe's own exporters have it. Masks
(``shape_type: mask``) are PNGs in base64. Holes are in these, or hang on an outline by a bridge without width.
"""

import base64
import io
import json
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any

import numpy as np
from PIL import Image

from finemask.datatools.convert.output_folder import Output
from finemask.datatools.convert.records import (
    Dataset,
    ImageRecord,
    Instance,
    ellipse,
    has_bridge,
    is_polygon,
    join_groups,
    mask_rings,
    names_used,
    number_categories,
    rectangle,
)
from finemask.datatools.convert.source_files import (
    CATEGORIES_FILE,
    Source,
    read_categories,
    split_of,
    whole_number,
)
from finemask.ops.contours import signed_area
from finemask.ops.files.documents import read_json
from finemask.ops.labelme import labelme_document, labelme_shape, mask_shape
from finemask.ops.rle import crop_to_rle, rle_area, rle_from_polygons, rle_to_crop
from finemask.types import Rle

_CROWD = "crowd"  # a flag of a shape
_POINT_LIKE = ("point", "points", "line", "linestrip")


def read_labelme(source: Source) -> Dataset:
    """Reads a folder of LabelMe files, or one.

    Raises:
        DataError: a file that is no JSON, or names an image outside the source and embeds none.
    """
    known = read_categories(source)
    images: list[ImageRecord] = []
    for name in source.watch(source.with_suffix(".json"), "reading LabelMe files"):
        document = read_json(source.inside(name), "a LabelMe file")
        if not isinstance(document, dict) or not isinstance(document.get("shapes"), list):
            if PurePosixPath(name).name != CATEGORIES_FILE:
                source.notes.add("JSON files left out that are not LabelMe's", name)
            continue
        record = _image(source, name, document)
        if record is not None:
            record.instances = join_groups(_shapes(source, name, document["shapes"], record))
            images.append(record)
    return Dataset(number_categories(names_used(images), known), images)


def _image(source: Source, name: str, document: dict[str, Any]) -> ImageRecord | None:
    folder = PurePosixPath(name).parent
    stated = str(document.get("imagePath") or f"{PurePosixPath(name).stem}.jpg").replace("\\", "/")
    data = document.get("imageData")
    if data:  # an embedded image needs no path, and paths of the labelling machine lead anywhere
        stated = PurePosixPath(stated).name
    height, width = whole_number(document.get("imageHeight")), whole_number(document.get("imageWidth"))
    stated_hw = (height, width) if height and width else None
    path = source.find_image(stated, near=folder.as_posix())
    split = split_of(name)
    inside = f"{folder}/{stated}" if folder.parts else stated
    if path is not None or not data:
        return source.record(inside, path, stated_hw, split, where=f"{name}: {stated}")
    try:
        embedded = base64.b64decode(str(data))
        with Image.open(io.BytesIO(embedded)) as image:
            size_hw = (image.height, image.width)
    except Exception as error:  # Pillow's plugins raise nearly anything
        source.notes.add("annotation files left out whose embedded image cannot be read", f"{name}: {error}")
        return None
    return ImageRecord(inside, *size_hw, None, split, embedded=embedded)


def _shapes(source: Source, name: str, shapes: list[Any], image: ImageRecord) -> Iterator[tuple[object, Instance]]:
    for number, shape in enumerate(shapes, start=1):
        where = f"{name}, shape {number}"
        if not isinstance(shape, dict) or not str(shape.get("label") or "").strip():
            source.notes.add("shapes without a label left out", where)
            continue
        kind = str(shape.get("shape_type") or "polygon")
        if kind in _POINT_LIKE:
            source.notes.add("points and lines left out, which have no area", where)
            continue
        try:
            instance = _instance(kind, shape, image)
        except (ValueError, TypeError, IndexError, KeyError, OverflowError, OSError, Image.DecompressionBombError):
            instance = None
        if instance is None:
            source.notes.add("shapes left out that cannot be read", f"{where} ({kind})")
            continue
        flags = shape.get("flags")
        instance.crowd = isinstance(flags, dict) and flags.get(_CROWD) is True
        group = shape.get("group_id")
        yield (None if group is None else str(group)), instance


def _instance(kind: str, shape: dict[str, Any], image: ImageRecord) -> Instance | None:
    label = str(shape["label"]).strip()
    points = [(float(x), float(y)) for x, y in shape["points"]]
    if kind == "rectangle":
        x, y = zip(*points, strict=True)
        return Instance(label, [rectangle(min(x), min(y), max(x), max(y))], is_box=True)
    if kind == "circle":
        (cx, cy), (ex, ey) = points[:2]
        radius = float(np.hypot(ex - cx, ey - cy))
        return Instance(label, [ellipse(cx, cy, radius, radius)])
    if kind == "mask":
        return Instance(label, rle=_mask(shape["mask"], points[0], image))
    polygon = [value for point in points for value in point]
    if not is_polygon(polygon):
        return None
    if has_bridge(polygon):  # a hole: what fills by even and odd here need not do so elsewhere, so it becomes a mask
        return Instance(label, rle=rle_from_polygons([polygon], image.height, image.width))
    return Instance(label, [polygon])


def _mask(encoded: str, corner: tuple[float, float], image: ImageRecord) -> Rle:
    with Image.open(io.BytesIO(base64.b64decode(encoded))) as picture:
        mask = np.asarray(picture.convert("L")) > 0
    x0, y0 = round(corner[0]), round(corner[1])
    top, left = max(-y0, 0), max(-x0, 0)
    crop = mask[top : max(image.height - y0, 0), left : max(image.width - x0, 0)]
    return crop_to_rle(crop, x0 + left, y0 + top, image.height, image.width)


def write_labelme(dataset: Dataset, output: Output) -> None:
    """Writes each image with its JSON file beside it, in a folder a split.

    Polygons stay as they are. Masks become polygons, or ``mask`` shapes where they have holes.
    """
    splits = dataset.splits()
    for split, images in splits.items():
        for image in output.watch(images, f"writing {split}"):
            folder = split if len(splits) > 1 or image.split else "images"
            name = output.place_image(image, folder)
            shapes = [
                shape
                for group, instance in enumerate(image.instances, start=1)
                for shape in _shapes_of(instance, image, group, output.tolerance_px)
            ]
            document = labelme_document(shapes, PurePosixPath(name).name, (image.height, image.width))
            text = json.dumps(document, indent=1, allow_nan=False, ensure_ascii=False)
            output.write_text(f"{folder}/{name.rpartition('.')[0]}.json", f"{text}\n")
    output.write_categories(dataset.categories)
    output.write_text("labels.txt", "".join(f"{category.name}\n" for category in dataset.categories))


def _shapes_of(instance: Instance, image: ImageRecord, group: int, tolerance_px: float) -> Iterator[dict[str, Any]]:
    label, flags = instance.category, {_CROWD: True} if instance.crowd else {}
    if instance.is_box:
        x0, y0, x1, y1 = instance.box_xyxy()
        yield labelme_shape(label, [[x0, y0], [x1, y1]], "rectangle", flags=flags)
        return
    outlines = instance.polygons
    if instance.rle is not None:
        rle = instance.mask_rle(image.height, image.width)
        rings = mask_rings(rle, tolerance_px)
        exact = rings if tolerance_px <= 0 else mask_rings(rle)
        if round(sum(abs(signed_area(ring)) for ring in exact)) != rle_area(rle):  # a hole is filled
            yield mask_shape(label, *rle_to_crop(rle), flags=flags)
            return
        outlines = [ring.ravel().tolist() for ring in rings]
    shared = group if len(outlines) > 1 else None
    for outline in outlines:
        points = list(zip(outline[::2], outline[1::2], strict=True))
        yield labelme_shape(label, points, group=shared, flags=flags)
