"""Rules on ids and on what refers to them."""

from collections.abc import Callable, Iterator

from finemask.coco.entries import same_image
from finemask.coco.values import WHOLE_LIMIT, show, whole, whole_in_text
from finemask.datatools.check.document import Document
from finemask.datatools.check.problems import (
    Edit,
    Finding,
    ListName,
    RemoveEntry,
    Rule,
    SetValue,
    Severity,
    each_document,
)
from finemask.datatools.check.rules.findings import about_entry, remove


class _FreshIds:
    """Ids that nobody has, from the greatest known one on."""

    def __init__(self, taken: set[int]) -> None:
        self._taken = taken
        greatest = max(taken, default=0)
        self._next = max(greatest, 0) + 1 if greatest < WHOLE_LIMIT // 2 else 1

    def take(self, wish: int | None = None) -> int:
        """``wish`` if it is free, else the next free one."""
        number = wish
        if number is None or number in self._taken:
            while self._next in self._taken:
                self._next += 1
            number = self._next
        self._taken.add(number)
        return number


def _invalid_ids(name: ListName, key: str) -> Callable[[Document], Iterator[Finding]]:
    """A check of the ids of images or categories; ``key`` is how annotations call them."""

    def check(document: Document) -> Iterator[Finding]:
        fresh = _FreshIds(_ids(document, name))
        for position, entry in document.objects(name):
            value = entry.get("id")
            if type(value) is int and whole(value) is not None:
                continue
            if value is None:
                message = "it has no id, so nothing can refer to it"
                yield about_entry(document, name, position, message, RemoveEntry(name, position))
                continue
            message = f"its id is {show(value)}, not a whole number"
            number = whole(value)
            if number is None and not isinstance(value, str | int):
                yield about_entry(document, name, position, message, RemoveEntry(name, position))
                continue
            edits: list[Edit] = []
            if number is None:
                number = fresh.take(whole_in_text(value))
                referring = document.references.get((key, value), ())
                edits = [SetValue("annotations", other, key, number) for other in referring]
            yield about_entry(document, name, position, message, SetValue(name, position, "id", number), *edits)

    return check


def _image_id_repeated(document: Document) -> Iterator[Finding]:
    fresh = _FreshIds(set(document.image_ids))
    for number, positions in document.image_ids.items():
        first = document.raw["images"][positions[0]]
        for position in positions[1:]:
            entry = document.raw["images"][position]
            names = f"{show(first.get('file_name'))} and {show(entry.get('file_name'))}"
            if same_image(first, entry):
                message = f"the image id {number} is there twice, for the same file {show(first.get('file_name'))}"
                yield about_entry(document, "images", position, message, remove("images", position))
            elif ("image_id", number) not in document.references:
                message = f"the image id {number} is there twice, for {names}, which have no annotations"
                edit = SetValue("images", position, "id", fresh.take())
                yield about_entry(document, "images", position, message, edit)
            else:
                message = f"the image id {number} is there twice, for {names}: whose are its annotations?"
                yield about_entry(document, "images", position, message)


def _category_id_repeated(document: Document) -> Iterator[Finding]:
    fresh = _FreshIds(set(document.category_ids))
    for number, positions in document.category_ids.items():
        first = document.raw["categories"][positions[0]].get("name")
        for position in positions[1:]:
            name = document.raw["categories"][position].get("name")
            message = f"the category id {number} is there twice, as {show(first)} and {show(name)}"
            if name == first:
                yield about_entry(document, "categories", position, message, remove("categories", position))
            elif ("category_id", number) not in document.references:
                edit = SetValue("categories", position, "id", fresh.take())
                yield about_entry(document, "categories", position, f"{message}, without annotations", edit)
            else:
                yield about_entry(document, "categories", position, f"{message}: which one is meant?")


def _annotation_id_missing(document: Document) -> Iterator[Finding]:
    missing = [position for position, entry in document.objects("annotations") if entry.get("id") is None]
    if missing:
        fresh = _FreshIds(_ids(document, "annotations"))
        edits = tuple(SetValue("annotations", position, "id", fresh.take(position + 1)) for position in missing)
        total = len(document.raw["annotations"])
        yield Finding(f"{len(missing)} of {total} annotations have no id", document, edits=edits)


def _annotation_id_invalid(document: Document) -> Iterator[Finding]:
    fresh = _FreshIds(_ids(document, "annotations"))
    for position, entry in document.objects("annotations"):
        value = entry.get("id")
        if value is None or (type(value) is int and whole(value) is not None):
            continue
        number = whole(value)
        if number is None:
            number = fresh.take(whole_in_text(value))
        message = f"its id is {show(value)}, not a whole number"
        yield about_entry(document, "annotations", position, message, SetValue("annotations", position, "id", number))


def _annotation_id_repeated(document: Document) -> Iterator[Finding]:
    fresh = _FreshIds(_ids(document, "annotations"))
    seen: set[int] = set()
    for position, entry in document.objects("annotations"):
        number = whole(entry.get("id"))
        if number is None:
            continue
        if number in seen:
            edit = SetValue("annotations", position, "id", fresh.take())
            yield about_entry(document, "annotations", position, f"the annotation id {number} is there twice", edit)
        seen.add(number)


def _ids(document: Document, name: ListName) -> set[int]:
    numbers = (whole(entry.get("id")) for _, entry in document.objects(name))
    return {number for number in numbers if number is not None}


RULES = (
    Rule(
        "image-id-invalid",
        Severity.ERROR,
        "Each image has an id, and it is a whole number.",
        "Training cannot start: annotations cannot be matched to the image.",
        each_document(_invalid_ids("images", "image_id")),
        repair="gives it a whole number, in its annotations as well; removes an image without an id",
    ),
    Rule(
        "category-id-invalid",
        Severity.ERROR,
        "Each category has an id, and it is a whole number.",
        "Training cannot start: annotations cannot be matched to the category.",
        each_document(_invalid_ids("categories", "category_id")),
        repair="gives it a whole number, in its annotations as well; removes a category without an id",
    ),
    Rule(
        "annotation-id-missing",
        Severity.WARNING,
        "Each annotation has an id.",
        "None here: finemask numbers them; messages cannot name the annotation, other programs refuse the file.",
        each_document(_annotation_id_missing),
        repair="numbers them",
        harmless_here=True,
    ),
    Rule(
        "annotation-id-invalid",
        Severity.ERROR,
        "The id of an annotation is a whole number.",
        "Training cannot start: the annotation cannot be named.",
        each_document(_annotation_id_invalid),
        repair="gives it a whole number",
    ),
    Rule(
        "image-id-repeated",
        Severity.ERROR,
        "No two images have the same id.",
        "The annotations of one image would be learned on the picture of another.",
        each_document(_image_id_repeated),
        repair="removes the second entry for the same file; numbers anew what has no annotations",
    ),
    Rule(
        "category-id-repeated",
        Severity.ERROR,
        "No two categories have the same id.",
        "Two classes would be learned as one.",
        each_document(_category_id_repeated),
        repair="removes the second entry of the same name; numbers anew what has no annotations",
    ),
    Rule(
        "annotation-id-repeated",
        Severity.ERROR,
        "No two annotations have the same id.",
        "Evaluation would count one of them twice and lose the other.",
        each_document(_annotation_id_repeated),
        repair="gives the later one a new id",
    ),
)
