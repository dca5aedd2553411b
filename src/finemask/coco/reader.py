"""Reads a COCO annotation file into packed arrays, and checks what everything else relies on.

The file is read entry by entry, and an entry is forgotten as soon as its numbers are in the arrays: neither its
text nor its dictionaries ever exist as a whole.
"""

import shlex
from array import array
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from finemask.coco.columns import PackedCoco, PackedStrings, offsets_of
from finemask.coco.image_names import leaves_folder
from finemask.coco.json_stream import JsonStream
from finemask.coco.packing import SegmentPacker, UnusableSegmentError
from finemask.errors import DataError
from finemask.types import Category

_WHAT = "a COCO annotation file"
_REMEDY_ABSENT = "Check its path"
_INT32 = 2**31 - 1


def read_coco_json(path: Path) -> PackedCoco:
    """Parses, checks and packs an annotation file, whatever the order of its lists.

    Args:
        path: the file.

    Raises:
        DataError: broken JSON, not a COCO file, nothing in it, or entries that cannot be used.
    """
    images, annotations, categories = _Images(path), _Annotations(path), _Categories(path)
    found = set()
    with JsonStream(path, _WHAT, _REMEDY_ABSENT) as stream:
        for key in stream.members():
            # of a key that is there twice the last counts, as everywhere in JSON
            if key == "images":
                reader: _Images | _Annotations | _Categories = (images := _Images(path))
            elif key == "annotations":
                reader = (annotations := _Annotations(path))
            elif key == "categories":
                reader = (categories := _Categories(path))
            else:
                continue
            found.discard(key)
            if stream.at_list():
                found.add(key)
                for entry in stream.entries():
                    if not isinstance(entry, dict):
                        raise DataError(f"the list {key!r} holds something that is not an object", where=path)
                    reader.add(entry)
        fingerprint = stream.sha256
    for key, reader in (("images", images), ("annotations", annotations), ("categories", categories)):
        if key not in found:
            raise DataError(
                f"this is not a COCO annotation file: it has no list named {key!r}",
                where=path,
                remedy="It must hold the lists images, annotations and categories",
            )
        if not len(reader):
            raise DataError(
                f"the list {key!r} is empty",
                where=path,
                remedy="Nothing can be learned or measured without it. Is this the file you meant?",
            )
    return annotations.pack(images, categories.sorted(), fingerprint)


class _Images:
    """The entries of ``images``."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.ids = array("q")
        self.heights, self.widths = array("i"), array("i")
        self._names, self._name_lengths = bytearray(), array("q")

    def __len__(self) -> int:
        return len(self.ids)

    def add(self, entry: dict[str, Any]) -> None:
        path, file_name = self._path, entry.get("file_name")
        image_id = _id(path, entry, "id", f"image {file_name!r}", "image-id-invalid")
        what = f"image id {image_id}"
        if not isinstance(file_name, str) or not file_name:
            raise _fault(path, f"{what}: 'file_name' is missing", "file-name-invalid")
        height, width = (_side(path, entry, key, what) for key in ("height", "width"))
        if not (1 <= height <= _INT32 and 1 <= width <= _INT32):
            raise _fault(path, f"{what}: width × height is {width} × {height}", "image-size-invalid")
        if leaves_folder(file_name) or "\0" in file_name:
            raise _fault(
                path, f"{what}: file_name {file_name!r} leads out of the images folder", "file-name-leaves-folder"
            )
        try:
            name = PackedStrings.encode(str(PurePosixPath(file_name)))
        except UnicodeEncodeError:
            raise _fault(
                path, f"{what}: file_name {file_name!r} cannot be the name of a file", "file-name-invalid"
            ) from None
        self.ids.append(image_id)
        self.heights.append(height)
        self.widths.append(width)
        self._names += name
        self._name_lengths.append(len(name))

    def file_names(self) -> PackedStrings:
        return PackedStrings(np.frombuffer(self._names, np.uint8), offsets_of(self._name_lengths))


class _Categories:
    """The entries of ``categories``."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._found: list[Category] = []

    def __len__(self) -> int:
        return len(self._found)

    def add(self, entry: dict[str, Any]) -> None:
        name = entry.get("name")
        category_id = _id(self._path, entry, "id", f"category {name!r}", "category-id-invalid")
        if not isinstance(name, str) or not name:
            raise _fault(self._path, f"category id {category_id}: 'name' is missing", "category-name-invalid")
        self._found.append(Category(category_id, name, str(entry.get("supercategory") or "")))

    def sorted(self) -> list[Category]:
        _refuse_repeats(self._path, "category id", (category.id for category in self._found))
        _refuse_repeats(self._path, "category name", (category.name for category in self._found))
        return sorted(self._found)


class _Annotations:
    """The entries of ``annotations``."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._ids, self._image_ids, self._category_ids = array("q"), array("q"), array("q")
        self._iscrowd = bytearray()
        self._segments = SegmentPacker()

    def __len__(self) -> int:
        return len(self._ids)

    def add(self, entry: dict[str, Any]) -> None:
        path, number = self._path, len(self._ids) + 1
        if entry.get("id") is None:
            entry["id"] = number
        what = f"annotation id {entry['id']}"
        self._image_ids.append(_id(path, entry, "image_id", what, "reference-not-integer"))
        self._category_ids.append(_id(path, entry, "category_id", what, "reference-not-integer"))
        self._ids.append(_id(path, entry, "id", f"annotation number {number}", "annotation-id-invalid"))
        iscrowd = entry.get("iscrowd") or 0
        if type(iscrowd) not in (int, float, bool) or iscrowd not in (0, 1):
            raise _fault(path, f"{what}: its iscrowd is {iscrowd!r}, not 0 or 1", "iscrowd-invalid")
        iscrowd = bool(iscrowd)
        self._iscrowd.append(iscrowd)
        try:
            self._segments.add(entry.get("segmentation"), entry.get("bbox"), iscrowd=iscrowd)
        except UnusableSegmentError as error:
            raise self._unusable(error) from None

    def pack(self, images: _Images, categories: list[Category], fingerprint: str) -> PackedCoco:
        path = self._path
        _refuse_repeats(path, "image id", images.ids)
        image_ids, ids = np.array(images.ids, dtype=np.int64), np.array(self._ids, dtype=np.int64)
        image_of = self._positions("image_id", self._image_ids, image_ids)
        label = 1 + self._positions("category_id", self._category_ids, np.array([c.id for c in categories]))
        heights, widths = np.array(images.heights, dtype=np.int32), np.array(images.widths, dtype=np.int32)
        order = np.argsort(image_of, kind="stable")  # the order of the file within an image
        counts = np.bincount(image_of, minlength=len(image_ids))
        try:
            segments = self._segments.pack(heights[image_of], widths[image_of], order)
        except UnusableSegmentError as error:
            raise self._unusable(error) from None
        return PackedCoco(
            categories=categories,
            fingerprint=fingerprint,
            image_ids=image_ids,
            heights=heights,
            widths=widths,
            file_names=images.file_names(),
            first_annotation=offsets_of(counts),
            annotation_ids=ids[order],
            labels=label[order],
            iscrowd=np.frombuffer(self._iscrowd, np.bool_)[order],
            segments=segments,
        )

    def _positions(self, key: str, ids: "array[int]", known: NDArray[np.int64]) -> NDArray[np.int64]:
        """Where each id stands among the known ones, int64 [A]; refuses those that do not."""
        wanted = np.frombuffer(ids, np.int64)
        ascending = np.argsort(known)
        place = np.minimum(np.searchsorted(known, wanted, sorter=ascending), len(known) - 1)
        positions = ascending[place]
        unknown = np.flatnonzero(known[positions] != wanted)
        if unknown.size:
            row = int(unknown[0])
            what = f"annotation id {self._ids[row]} has {key} {wanted[row]}, which is not in the file"
            raise _fault(self._path, what, f"annotation-without-{key.removesuffix('_id')}")
        return positions

    def _unusable(self, error: UnusableSegmentError) -> DataError:
        row = error.row
        what = f"annotation id {self._ids[row]} (image id {self._image_ids[row]}) cannot be used: {error.reason}"
        return _fault(self._path, what, error.rule)


def _fault(path: Path, what: str, rule: str) -> DataError:
    """What stops training, by the name that ``finemask data check`` has for it, with the command that lists it all."""
    command = f"finemask data check annotations={shlex.quote(str(path))}"
    return DataError(f"{what} ({rule})", where=path, remedy=f"To see every fault, and how to repair: {command}")


def _id(path: Path, entry: dict[str, Any], key: str, what: str, rule: str) -> int:
    value = entry.get(key)
    if type(value) is int and -(2**63) <= value < 2**63:
        return value
    if type(value) is int:
        raise _fault(path, f"{what}: {key!r} is {value!r}, which is beyond 64 bits", rule)
    seen = "is missing" if key not in entry else f"is {value!r}, not a whole number"
    raise _fault(path, f"{what}: {key!r} {seen}", rule)


def _side(path: Path, entry: dict[str, Any], key: str, what: str) -> int:
    """A height or width in px, also when it is written as 480.0."""
    value: Any = entry.get(key)
    if type(value) in (int, float) and value == value // 1:
        return int(value)
    seen = "is missing" if key not in entry else f"is {value!r}, not a whole number"
    raise _fault(path, f"{what}: {key!r} {seen}", "image-size-invalid")


def _refuse_repeats(path: Path, what: str, values: Iterable[object]) -> None:
    seen: set[object] = set()
    for value in values:
        if value in seen:
            raise _fault(path, f"{what} {value!r} is there twice", f"{what.replace(' ', '-')}-repeated")
        seen.add(value)
