"""Rules on the document: is it COCO JSON at all?"""

from collections.abc import Iterator

from finemask.coco.coco_file import is_standard, standard
from finemask.coco.entries import is_encodable, show
from finemask.datatools.check.document import LIST_NAMES, Document
from finemask.datatools.check.problems import (
    Finding,
    RemoveEntry,
    RemoveKey,
    SetTop,
    SetValue,
    about_entry,
    each_document,
    error_rule,
    warning_rule,
)

# Values under these keys have rules of their own, which know better what to do.
_JUDGED = {
    "images": {"id", "file_name", "height", "width"},
    "annotations": {"id", "image_id", "category_id", "segmentation", "bbox", "area", "iscrowd"},
    "categories": {"id", "name"},
}


def _json_broken(document: Document) -> Iterator[Finding]:
    if document.broken is not None:
        yield Finding(document.broken, document)


def _not_coco(document: Document) -> Iterator[Finding]:
    if document.broken is not None:
        return
    raw = document.raw
    if isinstance(raw, list):
        results = any(isinstance(entry, dict) and "score" in entry for entry in raw)
        hint = "as a COCO results file does" if results else "it must hold an object"
        yield Finding(f"the file holds a list, {hint}; images, annotations and categories are needed", document)
    elif not isinstance(raw, dict):
        yield Finding(f"the file holds {show(raw)}, not an object with images, annotations and categories", document)
    else:
        for name in LIST_NAMES:
            if name not in raw:
                yield Finding(f"the file has no list {name!r}", document)
            elif not isinstance(raw[name], list):
                yield Finding(f"{name!r} is {show(raw[name])}, not a list", document)


def _list_empty(document: Document) -> Iterator[Finding]:
    for name in LIST_NAMES:
        if isinstance(document.raw, dict) and document.raw.get(name) == []:
            yield Finding(f"the list {name!r} is empty", document)


def _entry_not_object(document: Document) -> Iterator[Finding]:
    for name in LIST_NAMES:
        for position, entry in document.entries(name):
            if not isinstance(entry, dict):
                message = f"it is {show(entry)}, not an object"
                yield about_entry(document, name, position, message, RemoveEntry(name, position))


def _not_standard(document: Document) -> Iterator[Finding]:
    if not isinstance(document.raw, dict):
        return
    for name in LIST_NAMES:
        for position, entry in document.objects(name):
            others = {key: value for key, value in entry.items() if key not in _JUDGED[name]}
            if others and not is_standard(others):
                wrong = [key for key, value in others.items() if not is_standard({key: value})]
                edits = [
                    SetValue(name, position, key, standard(entry[key]))
                    if is_encodable(key)
                    else RemoveKey(name, position, key)
                    for key in wrong
                ]
                yield about_entry(document, name, position, _what_is_not_standard(wrong), *edits)
    for key, value in document.raw.items():
        if key not in LIST_NAMES and not is_standard({key: value}):
            yield Finding(_what_is_not_standard([key]), document, edits=(SetTop(key, standard(value)),))


def _what_is_not_standard(keys: list[str]) -> str:
    return f"the value of {', '.join(show(key) for key in keys)} holds NaN, infinity, broken text or too deep a nesting"


RULES = (
    error_rule(
        "json-broken",
        "The file is JSON in UTF-8.",
        "Training cannot start: the file cannot be read.",
        each_document(_json_broken),
    ),
    error_rule(
        "json-not-coco",
        "The file holds the lists images, annotations and categories.",
        "Training cannot start: this is not a COCO annotation file.",
        each_document(_not_coco),
    ),
    error_rule(
        "list-empty",
        "None of the three lists is empty.",
        "Training cannot start: nothing can be learned or measured.",
        each_document(_list_empty),
    ),
    error_rule(
        "entry-not-object",
        "Each entry of the three lists is an object.",
        "Training cannot start: the entry says nothing about an image, an annotation or a category.",
        each_document(_entry_not_object),
        repair="removes the entry",
    ),
    warning_rule(
        "json-not-standard",
        "Values that finemask does not use are proper JSON: no NaN, no infinity, no broken text.",
        "None here; other programs refuse the whole file.",
        each_document(_not_standard),
        repair="writes null instead",
        harmless_here=True,
    ),
)
