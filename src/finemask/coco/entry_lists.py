"""The lists of an annotation file while they are read: columns of what is sound, and the first fault of each rule."""

from abc import ABC, abstractmethod
from array import array
from collections.abc import Callable, Iterable, Sequence
from pathlib import PurePosixPath
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from finemask.coco.columns import PackedCoco, PackedStrings, offsets_of
from finemask.coco.entries import (
    Fault,
    area_fault,
    box_fault,
    category_name_fault,
    crowd_fault,
    crowd_flag,
    has_segmentation,
    id_fault,
    image_faults,
    is_box,
    is_id,
    is_number,
    missing_mask_fault,
    reference_fault,
    show,
    size_hw,
    sound_box,
)
from finemask.coco.packing import SegmentPacker
from finemask.types import Category

_NAN = float("nan")
_NO_BOX = (_NAN, _NAN, _NAN, _NAN)


class FileFault(NamedTuple):
    """The first fault of its kind in a file.

    Args:
        message: what is wrong, naming the entry.
        rule: of ``finemask data check`` that reports it.
        training_only: whether boxes can be measured nevertheless.
        remedy: where it is another than looking at all faults.
    """

    message: str
    rule: str
    training_only: bool = False
    remedy: str | None = None


class EntryList(ABC):
    """The entries of one list while they are read, and the first fault of each rule in them.

    Attributes:
        number: of entries so far.
        ids: of those that are sound.
        places: where these stand in the list, from 0.
    """

    def __init__(self) -> None:
        self.number = 0
        self.ids, self.places = array("q"), array("i")
        self._faults: dict[tuple[str, bool], tuple[int, FileFault]] = {}

    def take(self, key: str, entries: Iterable[Any]) -> None:
        """Reads the entries of the list of that name."""
        for entry in entries:
            if isinstance(entry, dict):
                self.add(entry)
            else:
                message = f"it is {show(entry)}, not an object"
                self.note(f"entry {self.number + 1} of {key}", Fault("entry-not-object", message))
            self.number += 1

    @abstractmethod
    def add(self, entry: dict[str, Any]) -> None:
        """Reads the next entry; one with a fault is left out, unless only training minds it."""

    def note(self, who: str, fault: Fault, place: int | None = None) -> None:
        """Notes a fault of the entry at ``place``, by default the one that is being read."""
        place, kind = self.number if place is None else place, (fault.rule, fault.training_only)
        if kind not in self._faults or place < self._faults[kind][0]:
            self._faults[kind] = place, FileFault(f"{who}: {fault.message}", fault.rule, fault.training_only)

    def note_repeats(self, what: str, values: Sequence[Any]) -> None:
        """Notes the first value that is there twice."""
        seen: set[Any] = set()
        for value, place in zip(values, self.places, strict=True):
            if value in seen:
                rule = f"{what.replace(' ', '-')}-repeated"
                self._faults[rule, False] = place, FileFault(f"{what} {show(value)} is there twice", rule)
                return
            seen.add(value)

    @property
    def faults(self) -> list[FileFault]:
        """In the order of the file."""
        return [fault for _, fault in sorted(self._faults.values(), key=lambda pair: pair[0])]


class _Strings:
    """Strings on their way to be packed."""

    def __init__(self) -> None:
        self._text, self._lengths = bytearray(), array("q")

    def add(self, string: str) -> None:
        encoded = PackedStrings.encode(string)
        self._text += encoded
        self._lengths.append(len(encoded))

    def packed(self) -> PackedStrings:
        return PackedStrings(np.frombuffer(self._text, np.uint8), offsets_of(self._lengths))


class ImageList(EntryList):
    """The entries of ``images``."""

    def __init__(self) -> None:
        super().__init__()
        self.heights, self.widths = array("i"), array("i")
        self.names, self.slices = _Strings(), _Strings()

    def add(self, entry: dict[str, Any]) -> None:
        """See ``EntryList``."""
        number, name, part = entry.get("id"), entry.get("file_name"), entry.get("slice")
        if fault := id_fault(number, "image"):
            return self.note(f"image {show(name)}", fault)
        for fault in image_faults(entry):
            self.note(f"image id {number}", fault)
            if not fault.training_only:
                return None
        self.ids.append(number)  # type: ignore[arg-type]  # a whole number, or it had a fault
        self.places.append(self.number)
        height, width = size_hw(entry) or (0, 0)
        self.heights.append(height)
        self.widths.append(width)
        self.names.add(str(PurePosixPath(name)) if name else "")
        self.slices.add(str(part) if part else "")
        return None


class CategoryList(EntryList):
    """The entries of ``categories``."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[Category] = []

    def add(self, entry: dict[str, Any]) -> None:
        """See ``EntryList``."""
        number, name = entry.get("id"), entry.get("name")
        if fault := id_fault(number, "category"):
            return self.note(f"category {show(name)}", fault)
        if fault := category_name_fault(entry):
            return self.note(f"category id {number}", fault)
        self.ids.append(number)  # type: ignore[arg-type]  # likewise
        self.places.append(self.number)
        self.found.append(Category(self.ids[-1], str(name), str(entry.get("supercategory") or "")))
        return None


class AnnotationList(EntryList):
    """The entries of ``annotations``."""

    def __init__(self) -> None:
        super().__init__()
        self._image_ids, self._category_ids = array("q"), array("q")
        self._iscrowd = bytearray()
        self._without_id, self._without_mask = array("i"), array("i")  # rows of such annotations
        self._boxes, self._areas, self._whole_areas = array("d"), array("d"), bytearray()
        self._segments = SegmentPacker()
        self._odd_references: dict[str, tuple[int, str, Any]] = {}  # the first that is no id, by key

    def add(self, entry: dict[str, Any]) -> None:
        """See ``EntryList``."""
        number, image_id, category_id = entry.get("id"), entry.get("image_id"), entry.get("category_id")
        iscrowd, area, bbox = crowd_flag(entry.get("iscrowd")), entry.get("area"), entry.get("bbox")
        if (
            iscrowd is None
            or not (is_id(image_id) and is_id(category_id) and (number is None or is_id(number)))
            or not (bbox is None or (is_box(bbox) and bbox[2] >= 0 and bbox[3] >= 0))
            or not (area is None or is_number(area))
        ):
            return self._note_fields(entry)
        segmentation = entry.get("segmentation")
        if segmentation or has_segmentation(entry):
            self._segments.add(segmentation)
        else:
            if fault := missing_mask_fault(entry, iscrowd=iscrowd):
                self.note(self._name(entry), fault)
                if not fault.training_only:
                    return None
            self._without_mask.append(len(self.ids))
            self._segments.add_box(sound_box(bbox) if iscrowd else None)
        if number is None:
            self._without_id.append(len(self.ids))
            number = self.number + 1
        self.ids.append(number)
        self.places.append(self.number)
        self._image_ids.append(image_id)
        self._category_ids.append(category_id)
        self._iscrowd.append(iscrowd)
        self._boxes.extend(_NO_BOX if bbox is None else bbox)
        self._areas.append(_NAN if area is None else area)
        self._whole_areas.append(type(area) is int)
        return None

    def _note_fields(self, entry: dict[str, Any]) -> None:
        name = self._name(entry)
        for key in ("image_id", "category_id"):
            if not is_id(entry.get(key)):
                self._odd_references.setdefault(key, (self.number, name, {k: entry[k] for k in (key,) if k in entry}))
        of_id = None if entry.get("id") is None else id_fault(entry["id"], "annotation")
        for fault in (of_id, crowd_fault(entry.get("iscrowd")), box_fault(entry), area_fault(entry)):
            if fault is not None:
                self.note(name, fault)

    def _name(self, entry: dict[str, Any]) -> str:
        own = f"number {self.number + 1}" if entry.get("id") is None else f"id {show(entry['id'])}"
        return _named(own, show(entry.get("image_id")))

    def _note_row(self, row: int, fault: Fault) -> None:
        own = f"number {self.places[row] + 1}" if row in self._without_id else f"id {self.ids[row]}"
        self.note(_named(own, str(self._image_ids[row])), fault, self.places[row])

    def pack(self, images: ImageList, categories: CategoryList, fingerprint: str) -> PackedCoco:
        """The columns; a fault that shows only now is noted."""
        image_ids, ids = (np.array(of.ids, dtype=np.int64) for of in (images, self))
        image_names, category_names = images.names.packed(), [category.name for category in categories.found]
        self._note_odd_reference("image_id", images.ids, image_names.to_list)
        self._note_odd_reference("category_id", categories.ids, lambda: category_names)
        image_of = self._positions("image_id", self._image_ids, image_ids)
        label = 1 + self._positions("category_id", self._category_ids, np.array(categories.ids, dtype=np.int64))
        own = np.delete(np.arange(len(ids)), np.frombuffer(self._without_id, np.int32))
        by_id = own[np.argsort(ids[own], kind="stable")]
        if (again := by_id[1:][ids[by_id[1:]] == ids[by_id[:-1]]]).size:
            row = int(again.min())
            fault = Fault("annotation-id-repeated", "its id is there twice")
            self._note_row(row, fault)
        heights, widths = np.array(images.heights, dtype=np.int32), np.array(images.widths, dtype=np.int32)
        has_mask = np.ones(len(ids), dtype=np.bool_)
        has_mask[np.frombuffer(self._without_mask, np.int32)] = False
        if (sizeless := np.flatnonzero(has_mask & (heights[image_of] == 0))).size:
            fault = Fault("image-size-invalid", "its image has no height and width, which masks need")
            self._note_row(int(sizeless[0]), fault)
        elif bad := self._segments.first_fault(heights[image_of], widths[image_of]):
            self._note_row(*bad)
        order = np.argsort(image_of, kind="stable")  # the order of the file within an image
        return PackedCoco(
            categories=categories.found,
            fingerprint=fingerprint,
            image_ids=image_ids,
            heights=heights,
            widths=widths,
            file_names=image_names,
            slices=images.slices.packed(),
            first_annotation=offsets_of(np.bincount(image_of, minlength=len(image_ids))),
            annotation_ids=ids[order],
            places=np.array(self.places, dtype=np.int32)[order],
            labels=label[order],
            iscrowd=np.frombuffer(self._iscrowd, np.bool_)[order],
            boxes_xywh=np.frombuffer(self._boxes, np.float64).reshape(-1, 4)[order],
            areas=np.frombuffer(self._areas, np.float64)[order],
            areas_are_whole=np.frombuffer(self._whole_areas, np.bool_)[order],
            has_mask=has_mask[order],
            segments=self._segments.pack(heights[image_of], widths[image_of], order),
        )

    def _note_odd_reference(self, key: str, ids: Iterable[int], names: Callable[[], list[str]]) -> None:
        """Judges the first that is no whole number, now that all ids are known."""
        if key not in self._odd_references:
            return
        place, name, entry = self._odd_references[key]
        known: dict[str, int | None] = {}
        for text, number in zip(names(), ids, strict=True):
            known[text] = None if text in known else number
        if fault := reference_fault(entry, key, set(ids), known):
            self.note(name, fault, place)

    def _positions(self, key: str, ids: "array[int]", known: NDArray[np.int64]) -> NDArray[np.int64]:
        """Where each id stands among the known ones, int64 [A]; notes the first that does not, and calls it 0."""
        wanted = np.frombuffer(ids, np.int64)
        ascending = np.argsort(known)
        place = np.minimum(np.searchsorted(known, wanted, sorter=ascending), len(known) - 1)
        positions = ascending[place]
        unknown = np.flatnonzero(known[positions] != wanted)
        if unknown.size:
            row = int(unknown[0])
            if fault := reference_fault({key: int(wanted[row])}, key, (), {}):
                self._note_row(row, fault)
            positions[unknown] = 0
        return positions


def _named(own: str, image_id: str) -> str:
    return f"annotation {own} (image id {image_id})"
