"""Rules on ids, and on what annotations refer to by them."""

from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Any

from finemask.coco.entries import (
    ID_LIMIT,
    Fault,
    id_fault,
    reference_fault,
    same_image,
    show,
    whole,
    whole_in_text,
)
from finemask.datatools.check.document import Document
from finemask.datatools.check.problems import (
    Edit,
    Finding,
    ListName,
    RemoveEntry,
    SetValue,
    about_entry,
    each_document,
    error_rule,
    warning_rule,
)

_NOT_WHOLE = ", not a whole number"


class _FreshIds:
    """Ids that no entry of a list has, from the greatest known one on."""

    def __init__(self, document: Document, name: ListName) -> None:
        numbers = (whole(entry.get("id")) for _, entry in document.objects(name))
        self._taken = {number for number in numbers if number is not None}
        greatest = max(self._taken, default=0)
        self._next = max(greatest, 0) + 1 if greatest < ID_LIMIT // 2 else 1

    def take(self, wish: int | None = None) -> int:
        """``wish`` if it is free, else the next free one."""
        number = wish
        if number is None or number in self._taken:
            while self._next in self._taken:
                self._next += 1
            number = self._next
        self._taken.add(number)
        return number


def _invalid_ids(name: ListName, key: str | None = None) -> Callable[[Document], Iterator[Finding]]:
    """A check of the ids of a list; ``key`` is how annotations refer to them, None where nothing does."""
    kind = {"images": "image", "categories": "category", "annotations": "annotation"}[name]

    def check(document: Document) -> Iterator[Finding]:
        fresh = _FreshIds(document, name)
        for position, entry in document.objects(name):
            value = entry.get("id")
            number = whole(value)
            fault = id_fault(value, kind)
            if fault is None or fault.rule != f"{kind}-id-invalid":
                continue
            edits: list[Edit] = [RemoveEntry(name, position)]
            if key is None or number is not None or isinstance(value, str | int):
                new = fresh.take(whole_in_text(value)) if number is None else number
                edits = [SetValue(name, position, "id", new)]
                if key is not None and number is None:
                    referring = document.references.get((key, value), ())
                    edits += [SetValue("annotations", other, key, new) for other in referring]
            yield about_entry(document, name, position, fault.message, *edits)

    return check


def _image_id_repeated(document: Document) -> Iterator[Finding]:
    fresh = _FreshIds(document, "images")
    for number, positions in document.image_ids.items():
        first = document.raw["images"][positions[0]]
        for position in positions[1:]:
            entry = document.raw["images"][position]
            names = f"{show(first.get('file_name'))} and {show(entry.get('file_name'))}"
            if same_image(first, entry):
                message = f"the image id {number} is there twice, for the same file {show(first.get('file_name'))}"
                yield about_entry(document, "images", position, message, RemoveEntry("images", position))
            elif ("image_id", number) not in document.references:
                message = f"the image id {number} is there twice, for {names}, which have no annotations"
                edit = SetValue("images", position, "id", fresh.take())
                yield about_entry(document, "images", position, message, edit)
            else:
                message = f"the image id {number} is there twice, for {names}: whose are its annotations?"
                yield about_entry(document, "images", position, message)


def _category_id_repeated(document: Document) -> Iterator[Finding]:
    fresh = _FreshIds(document, "categories")
    for number, positions in document.category_ids.items():
        first = document.raw["categories"][positions[0]].get("name")
        for position in positions[1:]:
            name = document.raw["categories"][position].get("name")
            message = f"the category id {number} is there twice, as {show(first)} and {show(name)}"
            if name == first:
                yield about_entry(document, "categories", position, message, RemoveEntry("categories", position))
            elif ("category_id", number) not in document.references:
                edit = SetValue("categories", position, "id", fresh.take())
                yield about_entry(document, "categories", position, f"{message}, without annotations", edit)
            else:
                yield about_entry(document, "categories", position, f"{message}: which one is meant?")


def _annotation_id_missing(document: Document) -> Iterator[Finding]:
    missing = [position for position, entry in document.objects("annotations") if entry.get("id") is None]
    if missing:
        fresh = _FreshIds(document, "annotations")
        edits = tuple(SetValue("annotations", position, "id", fresh.take(position + 1)) for position in missing)
        total = len(document.raw["annotations"])
        yield Finding(f"{len(missing)} of {total} annotations have no id", document, edits=edits)


def _annotation_id_repeated(document: Document) -> Iterator[Finding]:
    fresh = _FreshIds(document, "annotations")
    seen: set[int] = set()
    for position, entry in document.objects("annotations"):
        number = whole(entry.get("id"))
        if number is None:
            continue
        if number in seen:
            edit = SetValue("annotations", position, "id", fresh.take())
            yield about_entry(document, "annotations", position, f"the annotation id {number} is there twice", edit)
        seen.add(number)


def _reference_not_integer(document: Document) -> Iterator[Finding]:
    found: dict[int, dict[str, Fault]] = defaultdict(dict)
    for key in ("image_id", "category_id"):
        for position, fault in _reference_faults(document, key, "reference-not-integer"):
            found[position][key] = fault
    for position in sorted(found):
        seen = [fault.message.removesuffix(_NOT_WHOLE) for fault in found[position].values()]
        edits = [SetValue("annotations", position, key, fault.repaired) for key, fault in found[position].items()]
        yield about_entry(document, "annotations", position, ", ".join(seen) + _NOT_WHOLE, *edits)


def _reference_faults(document: Document, key: str, rule: str) -> Iterator[tuple[int, Fault]]:
    """Positions of annotations whose ``key`` a rule finds fault with, less those that a rule about the id mends."""
    name: ListName = "images" if key == "image_id" else "categories"
    ids = document.image_ids if name == "images" else document.category_ids
    names = _by_name(document, name)
    for position, entry in document.objects("annotations"):
        fault = reference_fault(entry, key, ids, names)
        if fault is not None and fault.rule == rule and not _is_pending(document, name, entry.get(key)):
            yield position, fault


def _by_name(document: Document, name: ListName) -> dict[str, int | None]:
    """Ids by file name or category name; None for names that several have."""
    found: dict[str, int | None] = {}
    for _, entry in document.objects(name):
        text, number = entry.get("file_name" if name == "images" else "name"), whole(entry.get("id"))
        if isinstance(text, str) and text.strip():
            found[text] = None if text in found else number
    return found


def _is_pending(document: Document, name: ListName, value: Any) -> bool:
    """Whether the id that is meant is itself unsound, so that the rule about *it* mends both."""
    unsound = document.unsound_ids[name]
    return isinstance(value, str | int) and (value in unsound or whole_in_text(value) in unsound)


def _unknown(key: str) -> Callable[[Document], Iterator[Finding]]:
    """A check of what annotations refer to."""

    def check(document: Document) -> Iterator[Finding]:
        if not any(document.entries("images" if key == "image_id" else "categories")):
            return  # without that list everything would refer to nothing
        shifted = document.shifted_category_ids if key == "category_id" else None
        skipped = shifted[0] if shifted else set()
        for position, fault in _reference_faults(document, key, f"annotation-without-{key.removesuffix('_id')}"):
            if whole_in_text(document.raw["annotations"][position].get(key)) not in skipped:
                edit = RemoveEntry("annotations", position)
                yield about_entry(document, "annotations", position, fault.message, edit)

    return check


RULES = (
    error_rule(
        "image-id-invalid",
        "Each image has an id, and it is a whole number.",
        "Training cannot start: annotations cannot be matched to the image.",
        each_document(_invalid_ids("images", "image_id")),
        repair="gives it a whole number, in its annotations as well; removes an image without an id",
    ),
    error_rule(
        "category-id-invalid",
        "Each category has an id, and it is a whole number.",
        "Training cannot start: annotations cannot be matched to the category.",
        each_document(_invalid_ids("categories", "category_id")),
        repair="gives it a whole number, in its annotations as well; removes a category without an id",
    ),
    warning_rule(
        "annotation-id-missing",
        "Each annotation has an id.",
        "None here: finemask numbers them; messages cannot name the annotation, other programs refuse the file.",
        each_document(_annotation_id_missing),
        repair="numbers them",
        harmless_here=True,
    ),
    error_rule(
        "annotation-id-invalid",
        "The id of an annotation is a whole number.",
        "Training cannot start: the annotation cannot be named.",
        each_document(_invalid_ids("annotations")),
        repair="gives it a whole number",
    ),
    error_rule(
        "image-id-repeated",
        "No two images have the same id.",
        "The annotations of one image would be learned on the picture of another.",
        each_document(_image_id_repeated),
        repair="removes the second entry for the same file; numbers anew what has no annotations",
    ),
    error_rule(
        "category-id-repeated",
        "No two categories have the same id.",
        "Two classes would be learned as one.",
        each_document(_category_id_repeated),
        repair="removes the second entry of the same name; numbers anew what has no annotations",
    ),
    error_rule(
        "annotation-id-repeated",
        "No two annotations have the same id.",
        "Evaluation would count one of them twice and lose the other.",
        each_document(_annotation_id_repeated),
        repair="gives the later one a new id",
    ),
    error_rule(
        "reference-not-integer",
        "The image_id and category_id of annotations are whole numbers.",
        "Training or evaluation cannot start: 7, 7.0 and '7' are not the same to every reader.",
        each_document(_reference_not_integer),
        repair="writes the whole number, that of the image or category where its name stands instead",
    ),
    error_rule(
        "annotation-without-image",
        "The image of each annotation is in the file.",
        "Training cannot start: nobody knows where the object is.",
        each_document(_unknown("image_id")),
        repair="removes the annotation",
    ),
    error_rule(
        "annotation-without-category",
        "The category of each annotation is in the file.",
        "Training cannot start: nobody knows what the object is.",
        each_document(_unknown("category_id")),
        repair="removes the annotation",
    ),
)
