"""Rules on the file as such: is it COCO JSON at all, and can another program read it back?"""

from collections.abc import Iterator

from finemask.coco.coco_file import is_standard, standard
from finemask.coco.values import is_encodable, show
from finemask.datatools.check.document import LIST_NAMES, Document
from finemask.datatools.check.problems import Edit, Finding, RemoveKey, Rule, SetTop, SetValue, Severity, each_document
from finemask.datatools.check.rules.findings import about_entry, remove

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
                yield about_entry(
                    document, name, position, f"it is {show(entry)}, not an object", remove(name, position)
                )


def _not_standard(document: Document) -> Iterator[Finding]:
    if not isinstance(document.raw, dict):
        return
    for name in LIST_NAMES:
        for position, entry in document.objects(name):
            others = {key: value for key, value in entry.items() if key not in _JUDGED[name]}
            if others and not is_standard(others):
                wrong = [key for key, value in others.items() if not is_standard({key: value})]
                edits: list[Edit] = []
                for key in wrong:
                    if is_encodable(key):
                        edits.append(SetValue(name, position, key, standard(entry[key])))
                    else:
                        edits.append(RemoveKey(name, position, key))
                yield about_entry(document, name, position, _what_is_not_standard(wrong), *edits)
    for key, value in document.raw.items():
        if key not in LIST_NAMES and not is_standard({key: value}):
            yield Finding(_what_is_not_standard([key]), document, edits=(SetTop(key, standard(value)),))


def _what_is_not_standard(keys: list[str]) -> str:
    return f"the value of {', '.join(show(key) for key in keys)} holds NaN, infinity, broken text or too deep a nesting"


RULES = (
    Rule(
        "json-broken",
        Severity.ERROR,
        "The file is JSON in UTF-8.",
        "Training cannot start: the file cannot be read.",
        each_document(_json_broken),
    ),
    Rule(
        "json-not-coco",
        Severity.ERROR,
        "The file holds the lists images, annotations and categories.",
        "Training cannot start: this is not a COCO annotation file.",
        each_document(_not_coco),
    ),
    Rule(
        "list-empty",
        Severity.ERROR,
        "None of the three lists is empty.",
        "Training cannot start: nothing can be learned or measured.",
        each_document(_list_empty),
    ),
    Rule(
        "entry-not-object",
        Severity.ERROR,
        "Each entry of the three lists is an object.",
        "Training cannot start: the entry says nothing about an image, an annotation or a category.",
        each_document(_entry_not_object),
        repair="removes the entry",
    ),
    Rule(
        "json-not-standard",
        Severity.WARNING,
        "Values that finemask does not use are proper JSON: no NaN, no infinity, no broken text.",
        "None here; other programs refuse the whole file.",
        each_document(_not_standard),
        repair="writes null instead",
        harmless_here=True,
    ),
)
