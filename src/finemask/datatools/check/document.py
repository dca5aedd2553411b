"""An annotation file as the rules see it: raw values, and rows of what is sound in them.

A row is an entry of which everything a rule needs is known to be there and of the right kind. What did not become a
row is reported by the structural rules, once; all others look at rows only.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

from finemask.coco.entries import (
    category_name_fault,
    crowd_flag,
    file_name_fault,
    has_segmentation,
    same_image,
    size_hw,
    sound_box,
    whole,
    whole_in_text,
)
from finemask.coco.segmentation import Outline, read_outlines
from finemask.datatools.check.problems import ListName
from finemask.types import Rle

LIST_NAMES: tuple[ListName, ...] = ("images", "annotations", "categories")


@dataclass(frozen=True, slots=True)
class CategoryRow:
    """A category with a whole-number id and a name that is a non-empty string.

    Args:
        position: in the list ``categories``.
        id: unique among the rows.
        name: as written; blanks and case untouched, not necessarily unique.
        entry: the file's own dictionary.
    """

    position: int
    id: int
    name: str
    entry: dict[str, Any]


@dataclass(frozen=True, slots=True)
class ImageRow:
    """An image with a whole-number id, a positive size and a file name that stays inside the images folder.

    Args:
        position: in the list ``images``.
        id: unique among the rows.
        file_name: relative to the images folder, forward slashes; a link on the way may still lead out.
        height: px, as the file states it.
        width: px, as the file states it.
        entry: the file's own dictionary.
    """

    position: int
    id: int
    file_name: str
    height: int
    width: int
    entry: dict[str, Any]


@dataclass(frozen=True, slots=True)
class AnnotationRow:
    """An annotation of an ``ImageRow`` and of a category whose id is in the file.

    Args:
        position: in the list ``annotations``.
        id: as the file states it; None where it states none that is a whole number. Not necessarily unique.
        image: the image it is on.
        category_id: of a category in the file.
        iscrowd: whether it is a crowd region.
        entry: the file's own dictionary.
        outline: its judged segmentation; None when it has none.
        bbox_xywh: px, as the file states it, when that is four finite numbers.
    """

    position: int
    id: int | None
    image: ImageRow
    category_id: int
    iscrowd: bool
    entry: dict[str, Any]
    outline: Outline | None
    bbox_xywh: tuple[float, float, float, float] | None

    @property
    def rle(self) -> Rle | None:
        """Its mask, cut off at the image's edge; None unless the segmentation is sound and has a pixel."""
        return self.outline.rle if self.outline else None

    @property
    def area(self) -> int:
        """Pixels of ``rle``; 0 without one."""
        return self.outline.area if self.outline else 0

    @property
    def box_xyxy(self) -> tuple[float, float, float, float] | None:
        """Px, inside the image: of the pixels of ``rle``; without one, that of a sound ``bbox``; else None."""
        if self.outline is not None and self.outline.box_xyxy is not None:
            return self.outline.box_xyxy
        if self.bbox_xywh is None:
            return None
        x, y, w, h = self.bbox_xywh
        x0, y0, x1, y1 = max(x, 0.0), max(y, 0.0), min(x + w, self.image.width), min(y + h, self.image.height)
        return (x0, y0, x1, y1) if x0 < x1 and y0 < y1 else None


@dataclass(slots=False)
class Document:
    """One annotation file. Everything here can be read whatever the file holds; it is never written to.

    Args:
        path: the file.
        raw: what its JSON says, any value.
        images_dir: folder that its file names are relative to; None: not known, rules on image files are silent.
        broken: why the file is no JSON; None when it is.
        outlines: judged segmentations by the identity of their entry, kept while a file is repaired step by step.
    """

    path: Path
    raw: Any
    images_dir: Path | None = None
    broken: str | None = None
    outlines: dict[int, tuple[dict[str, Any], int, int, Outline]] = field(default_factory=dict, repr=False)

    def entries(self, name: ListName) -> Iterator[tuple[int, Any]]:
        """Position and raw value of what the list ``name`` holds; nothing when there is no such list."""
        values = self.raw.get(name) if isinstance(self.raw, dict) else None
        yield from enumerate(values if isinstance(values, list) else [])

    def objects(self, name: ListName) -> Iterator[tuple[int, dict[str, Any]]]:
        """As ``entries``, only those that are objects."""
        return ((position, value) for position, value in self.entries(name) if isinstance(value, dict))

    @cached_property
    def image_ids(self) -> dict[int, list[int]]:
        """Positions in ``images`` by whole-number id, of entries that may be broken otherwise."""
        return self._positions("images")

    @cached_property
    def category_ids(self) -> dict[int, list[int]]:
        """Positions in ``categories`` by whole-number id, of entries that may be broken otherwise."""
        return self._positions("categories")

    def _positions(self, name: ListName) -> dict[int, list[int]]:
        positions = defaultdict(list)
        for position, entry in self.objects(name):
            number = whole(entry.get("id"))
            if number is not None:
                positions[number].append(position)
        return dict(positions)

    @cached_property
    def images(self) -> list[ImageRow]:
        """The sound images, in the order of the file; of an id that several have, only the first."""
        rows = []
        for position, entry in self.objects("images"):
            number, size = whole(entry.get("id")), size_hw(entry)
            if number is None or size is None or file_name_fault(entry) or self.image_ids[number][0] != position:
                continue
            rows.append(ImageRow(position, number, str(PurePosixPath(entry["file_name"])), *size, entry))
        return rows

    @cached_property
    def categories(self) -> list[CategoryRow]:
        """The sound categories, in the order of the file; of an id that several have, only the first."""
        return [
            CategoryRow(position, number, entry["name"], entry)
            for position, entry in self.objects("categories")
            if (number := whole(entry.get("id"))) is not None
            and category_name_fault(entry) is None
            and self.category_ids[number][0] == position
        ]

    @cached_property
    def annotations(self) -> list[AnnotationRow]:
        """The sound annotations, in the order of the file.

        Those on an image id that several different images share are left out: nobody knows which one is meant.
        Where coordinates are fractions of the image (``is_normalised``), rows have neither masks nor boxes.
        """
        if self.is_normalised:
            return [replace(row, outline=row.outline and Outline(), bbox_xywh=None) for row in self._rows]
        return self._rows

    @cached_property
    def is_normalised(self) -> bool:
        """Whether every polygon lies between 0 and 1, in images where that is the first pixel or so."""
        large = [row for row in self._rows if min(row.image.height, row.image.width) > 8]
        extents = [row.outline.extent_xyxy for row in large if row.outline and row.outline.extent_xyxy]
        return bool(extents) and all(min(extent) >= 0 and max(extent) <= 1 for extent in extents)

    @cached_property
    def _rows(self) -> list[AnnotationRow]:
        images = {row.id: row for row in self.images if not self.is_ambiguous(row.id)}
        found = []
        for position, entry in self.objects("annotations"):
            image_id, category_id = whole(entry.get("image_id")), whole(entry.get("category_id"))
            if image_id in images and category_id in self.category_ids:
                found.append((position, entry, images[image_id], category_id))
        self._read_new_outlines([(entry, image) for _, entry, image, _ in found])
        return [
            AnnotationRow(
                position=position,
                id=whole(entry.get("id")),
                image=image,
                category_id=category_id,
                iscrowd=bool(crowd_flag(entry.get("iscrowd"))),
                entry=entry,
                outline=self.outlines[id(entry)][3] if has_segmentation(entry) else None,
                bbox_xywh=sound_box(entry.get("bbox")),
            )
            for position, entry, image, category_id in found
        ]

    def _read_new_outlines(self, entries: list[tuple[dict[str, Any], ImageRow]]) -> None:
        new = []
        for entry, image in entries:
            known = self.outlines.get(id(entry))
            if has_segmentation(entry) and (known is None or known[1:3] != (image.height, image.width)):
                new.append((entry, image))
        judged = read_outlines([(entry["segmentation"], image.height, image.width) for entry, image in new])
        for (entry, image), outline in zip(new, judged, strict=True):
            self.outlines[id(entry)] = entry, image.height, image.width, outline

    @cached_property
    def annotations_of(self) -> dict[int, list[AnnotationRow]]:
        """The sound annotations by image id, with an empty list for an image that has none."""
        grouped: dict[int, list[AnnotationRow]] = {row.id: [] for row in self.images}
        for row in self.annotations:
            grouped[row.image.id].append(row)
        return grouped

    @cached_property
    def references(self) -> dict[tuple[str, Any], list[int]]:
        """Positions of annotations by (``image_id`` or ``category_id``, whole number or text it holds)."""
        found = defaultdict(list)
        for position, entry in self.objects("annotations"):
            for key in ("image_id", "category_id"):
                value = entry.get(key)
                number = whole(value)
                if number is not None or isinstance(value, str | int):
                    found[key, value if number is None else number].append(position)
        return dict(found)

    @cached_property
    def unsound_ids(self) -> dict[ListName, set[Any]]:
        """Ids of images and categories that are text or numbers beyond measure, and the whole numbers in such text.

        The rules about these ids mend whatever refers to them as well.
        """
        found: dict[ListName, set[Any]] = {}
        for name in ("images", "categories"):
            values = [entry.get("id") for _, entry in self.objects(name)]
            unsound = {value for value in values if isinstance(value, str | int) and whole(value) is None}
            found[name] = unsound | {number for value in unsound if (number := whole_in_text(value)) is not None}
        return found

    @cached_property
    def shifted_category_ids(self) -> tuple[set[int], set[int]] | None:
        """Category ids that annotations use and those of the file, if they are the same but for a shift by one."""
        used = {value for key, value in self.references if key == "category_id" and isinstance(value, int)}
        known = set(self.category_ids)
        if not used or used == known or len(known) < 2:
            return None
        shifted = any({value + by for value in used} == known for by in (1, -1))
        return (used, known) if shifted else None

    def is_ambiguous(self, image_id: int) -> bool:
        """Whether images that differ share this id."""
        raw = [self.raw["images"][position] for position in self.image_ids[image_id]]
        return any(not same_image(raw[0], other) for other in raw[1:])
