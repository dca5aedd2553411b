"""Rules on what annotations refer to."""

from collections.abc import Callable, Iterator
from typing import Any

from finemask.coco.values import show, whole, whole_in_text
from finemask.datatools.check.document import Document
from finemask.datatools.check.problems import Finding, ListName, Rule, SetValue, Severity, each_document
from finemask.datatools.check.rules.findings import about_entry, remove


def _reference_not_integer(document: Document) -> Iterator[Finding]:
    named = {"image_id": _by_name(document, "images"), "category_id": _by_name(document, "categories")}
    for position, entry in document.objects("annotations"):
        edits, seen = [], []
        for key, known in (("image_id", document.image_ids), ("category_id", document.category_ids)):
            value = entry.get(key)
            number = whole_in_text(value)
            if number is None and isinstance(value, str):
                number = named[key].get(value)
            if type(value) is not int and number in known and not _is_pending(document, key, value):
                edits.append(SetValue("annotations", position, key, number))
                seen.append(f"its {key} is {show(value)}")
        if edits:
            yield about_entry(document, "annotations", position, f"{', '.join(seen)}, not a whole number", *edits)


def _by_name(document: Document, name: ListName) -> dict[str, int | None]:
    """Ids by file name or category name; None for names that several have."""
    found: dict[str, int | None] = {}
    for _, entry in document.objects(name):
        text, number = entry.get("file_name" if name == "images" else "name"), whole(entry.get("id"))
        if isinstance(text, str) and text.strip():
            found[text] = None if text in found else number
    return found


def _is_pending(document: Document, key: str, value: Any) -> bool:
    """Whether the id that is meant is itself unsound, so that the rule about *it* mends both."""
    if not isinstance(value, str | int):
        return False
    unsound = document.unsound_ids["images" if key == "image_id" else "categories"]
    return value in unsound or whole_in_text(value) in unsound


def _unknown(key: str, known: str, what: str) -> Callable[[Document], Iterator[Finding]]:
    """A check of what annotations refer to."""

    def check(document: Document) -> Iterator[Finding]:
        ids = getattr(document, known)
        named = _by_name(document, "images" if key == "image_id" else "categories")
        if not any(document.entries("images" if key == "image_id" else "categories")):
            return  # without that list everything would refer to nothing
        shifted = document.shifted_category_ids if key == "category_id" else None
        skipped = shifted[0] if shifted else set()
        for position, entry in document.objects("annotations"):
            value = entry.get(key)
            number = whole_in_text(value)
            if number in ids or number in skipped or _is_pending(document, key, value):
                continue
            if isinstance(value, str) and named.get(value) in ids:
                continue  # a name instead of an id, which has a rule of its own
            seen = f"its {key} is {show(value)}" if key in entry else f"it has no {key}"
            message = f"{seen}; there is no such {what}" if key in entry else seen
            yield about_entry(document, "annotations", position, message, remove("annotations", position))

    return check


RULES = (
    Rule(
        "reference-not-integer",
        Severity.ERROR,
        "The image_id and category_id of annotations are whole numbers.",
        "Training or evaluation cannot start: 7, 7.0 and '7' are not the same to every reader.",
        each_document(_reference_not_integer),
        repair="writes the whole number, that of the image or category where its name stands instead",
    ),
    Rule(
        "annotation-without-image",
        Severity.ERROR,
        "The image of each annotation is in the file.",
        "Training cannot start: nobody knows where the object is.",
        each_document(_unknown("image_id", "image_ids", "image")),
        repair="removes the annotation",
    ),
    Rule(
        "annotation-without-category",
        Severity.ERROR,
        "The category of each annotation is in the file.",
        "Training cannot start: nobody knows what the object is.",
        each_document(_unknown("category_id", "category_ids", "category")),
        repair="removes the annotation",
    ),
)
