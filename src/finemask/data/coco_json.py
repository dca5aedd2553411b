"""Reads a COCO annotation file and checks what everything else relies on.

Outlines are turned into plain arrays while the JSON is being parsed, so that a file of a million polygons
never exists as millions of Python floats.
"""

from array import array
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any, TypeAlias

from finemask.errors import DataError
from finemask.ops.json_file import parse_json
from finemask.types import Category

Outline: TypeAlias = list["array[float]"]
"""Polygons of one instance, each x0, y0, x1, y1, … in px."""


_WHAT = "a COCO annotation file"


@dataclass(slots=True)
class ImageEntry:
    """One checked entry of ``images``."""

    id: int
    file_name: str
    height: int
    width: int


@dataclass(slots=True)
class CocoFile:
    """A parsed annotation file: its own lists, checked as far as entries refer to one another.

    ``annotations`` are the file's dictionaries, each with integer ``id``, ``image_id``, ``category_id`` and
    ``iscrowd``; a list of polygons in ``segmentation`` has become an ``Outline`` or the ``ValueError`` that
    says why it is none.
    """

    images: list[ImageEntry]
    annotations: list[dict[str, Any]]
    categories: list[Category]


def read_coco_json(path: Path, content: bytes) -> CocoFile:
    """Parses and checks an annotation file.

    Args:
        path: where ``content`` comes from, for messages.
        content: the file's bytes.

    Raises:
        DataError: broken JSON, not a COCO file, nothing in it, or entries that contradict one another.
    """
    document = parse_json(content, path, _WHAT, object_hook=_pack_outline)
    del content
    for key in ("images", "annotations", "categories"):
        if not isinstance(document, dict) or not isinstance(document.get(key), list):
            raise DataError(
                f"this is not a COCO annotation file: it has no list named {key!r}",
                where=path,
                remedy="It must hold the lists images, annotations and categories",
            )
        if not all(isinstance(entry, dict) for entry in document[key]):
            raise DataError(f"the list {key!r} holds something that is not an object", where=path)
        if not document[key]:
            raise DataError(
                f"the list {key!r} is empty",
                where=path,
                remedy="Nothing can be learned or measured without it. Is this the file you meant?",
            )
    images = [_image_entry(path, entry) for entry in document["images"]]
    _refuse_repeats(path, "image id", (image.id for image in images))
    categories = _categories(path, document["categories"])
    annotations: list[dict[str, Any]] = document["annotations"]
    _check_annotations(path, annotations, {image.id for image in images}, {c.id for c in categories})
    return CocoFile(images, annotations, categories)


def _pack_outline(entry: dict[str, Any]) -> dict[str, Any]:
    """Called by the parser with every JSON object as soon as it is complete."""
    parts = entry.get("segmentation")
    if isinstance(parts, list) and parts:
        # only what is needed later: a million dictionaries with a box each take hundreds of megabytes
        entry = {key: entry[key] for key in ("id", "image_id", "category_id", "iscrowd") if key in entry}
        try:
            entry["segmentation"] = [_polygon(part) for part in parts]
        except ValueError as error:
            entry["segmentation"] = error
    return entry


def _polygon(part: Any) -> "array[float]":
    if not isinstance(part, list):
        raise ValueError("its polygons must be a list of lists [[x0, y0, x1, y1, …], …]")
    if len(part) % 2:
        raise ValueError(f"a polygon has {len(part)} numbers, which is not a whole number of points")
    if len(part) < 6:
        raise ValueError(f"a polygon has {len(part) // 2} points, it needs at least 3")
    try:
        return array("d", part)
    except (TypeError, OverflowError):
        raise ValueError("a polygon holds something that is not a number") from None


def _integer(path: Path, entry: dict[str, Any], key: str, what: str) -> int:
    value = entry.get(key)
    if isinstance(value, int | float) and not isinstance(value, bool) and value == value // 1:
        return int(value)
    seen = "is missing" if key not in entry else f"is {value!r}, not a whole number"
    raise DataError(f"{what}: {key!r} {seen}", where=path, remedy="COCO files need it as an integer")


def _image_entry(path: Path, entry: dict[str, Any]) -> ImageEntry:
    file_name = entry.get("file_name")
    image_id = _integer(path, entry, "id", f"image {file_name!r}")
    what = f"image id {image_id}"
    if not isinstance(file_name, str) or not file_name:
        raise DataError(f"{what}: 'file_name' is missing", where=path)
    height, width = _integer(path, entry, "height", what), _integer(path, entry, "width", what)
    if height < 1 or width < 1:
        raise DataError(f"{what}: width × height is {width} × {height}", where=path, remedy="Correct the size")
    posix = PurePosixPath(file_name)
    if posix.is_absolute() or PureWindowsPath(file_name).drive or ".." in posix.parts or "\0" in file_name:
        raise DataError(
            f"{what}: file_name {file_name!r} leads out of the images folder",
            where=path,
            remedy="File names must be relative to the images folder, without '..'",
        )
    return ImageEntry(image_id, str(posix), height, width)


def _categories(path: Path, entries: list[dict[str, Any]]) -> list[Category]:
    categories = []
    for entry in entries:
        name = entry.get("name")
        category_id = _integer(path, entry, "id", f"category {name!r}")
        if not isinstance(name, str) or not name:
            raise DataError(f"category id {category_id}: 'name' is missing", where=path)
        categories.append(Category(category_id, name, str(entry.get("supercategory") or "")))
    _refuse_repeats(path, "category id", (category.id for category in categories))
    _refuse_repeats(path, "category name", (category.name for category in categories))
    return sorted(categories)


def _check_annotations(
    path: Path, annotations: list[dict[str, Any]], image_ids: set[int], category_ids: set[int]
) -> None:
    for position, annotation in enumerate(annotations):
        annotation.setdefault("id", position + 1)
        what = f"annotation id {annotation['id']}"
        for key, known in (("image_id", image_ids), ("category_id", category_ids)):
            annotation[key] = value = _integer(path, annotation, key, what)
            if value not in known:
                raise DataError(
                    f"{what} has {key} {value}, which is not in the file",
                    where=path,
                    remedy="Remove the annotation, or add what it refers to",
                )
        annotation["iscrowd"] = 1 if annotation.get("iscrowd") else 0
        annotation["id"] = _integer(path, annotation, "id", f"annotation number {position + 1}")


def _refuse_repeats(path: Path, what: str, values: Iterable[object]) -> None:
    seen: set[object] = set()
    for value in values:
        if value in seen:
            raise DataError(
                f"{what} {value!r} is there twice", where=path, remedy="Each must be unique within the file"
            )
        seen.add(value)
