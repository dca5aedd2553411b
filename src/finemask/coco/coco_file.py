"""COCO annotation files: read into columns with the faults in them, or whole as tools hold them; and written.

Reading into columns goes entry by entry, and an entry is forgotten as soon as its numbers are in the columns: neither
its text nor its dictionaries ever exist as a whole. Reading goes on after a fault, without the entry concerned; which
faults matter is for the caller to say.
"""

import json
import shlex
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from finemask.coco.columns import PackedCoco
from finemask.coco.entry_lists import AnnotationList, CategoryList, EntryList, FileFault, ImageList
from finemask.coco.json_stream import JsonStream
from finemask.errors import DataError
from finemask.ops.files.atomic_files import write_json
from finemask.ops.files.documents import read_json

WHAT = "a COCO annotation file"


@dataclass(frozen=True)
class CocoFile:
    """What was read.

    Args:
        source: the file, or a name for messages.
        columns: all that is sound.
        faults: the first of each kind: those of the file itself, of images, categories, annotations.
    """

    source: str
    columns: PackedCoco
    faults: list[FileFault]

    def raise_first_fault(self, *, for_training: bool = True) -> None:
        """Raises the first fault that matters.

        Args:
            for_training: whether masks are to be learned. Where only numbers are wanted, an annotation may have a box
                alone, an image neither size nor file name, and the file no annotations.

        Raises:
            DataError: there is one.
        """
        for fault in self.faults:
            if for_training or not fault.training_only:
                command = f"finemask data check annotations={shlex.quote(self.source)}"
                remedy = fault.remedy or f"To see every fault, and how to repair: {command}"
                raise DataError(f"{fault.message} ({fault.rule})", where=self.source, remedy=remedy)


def read_coco_json(path: Path) -> CocoFile:
    """Reads an annotation file, whatever the order of its lists.

    Args:
        path: the file.

    Raises:
        DataError: it is not there, or no JSON.
    """
    lists: dict[str, EntryList] = {}
    with JsonStream(path, WHAT, "Check its path") as stream:
        for key in stream.members():
            # of a key that is there twice the last counts, as everywhere in JSON
            lists.pop(key, None)
            if key in _LISTS and stream.at_list():
                lists[key] = _LISTS[key]()
                lists[key].take(key, stream.entries())
        return _packed(lists, stream.kind, str(path), stream.sha256)


def read_coco_document(document: Any, source: str) -> CocoFile:
    """The same of parsed content, which is left as it is.

    Args:
        document: any JSON value.
        source: where it is from, for messages.
    """
    lists: dict[str, EntryList] = {}
    for key in _LISTS if isinstance(document, dict) else ():
        if isinstance(document.get(key), list):
            lists[key] = _LISTS[key]()
            lists[key].take(key, document[key])
    return _packed(lists, type(document), source, "")


_LISTS: dict[str, Callable[[], EntryList]] = {
    "images": ImageList,
    "annotations": AnnotationList,
    "categories": CategoryList,
}


def _packed(lists: Mapping[str, EntryList], kind: type, source: str, fingerprint: str) -> CocoFile:
    """The columns of what was read."""
    images, categories = lists.get("images") or ImageList(), lists.get("categories") or CategoryList()
    annotations = lists.get("annotations") or AnnotationList()
    assert isinstance(images, ImageList)
    assert isinstance(categories, CategoryList)
    assert isinstance(annotations, AnnotationList)
    images.note_repeats("image id", images.ids)
    categories.note_repeats("category id", categories.ids)
    categories.note_repeats("category name", [category.name for category in categories.found])
    can_refer = images.ids and categories.ids  # or what is wrong with them has been said
    columns = (annotations if can_refer else AnnotationList()).pack(images, categories, fingerprint)
    faults = _faults_of_lists(lists, kind)
    return CocoFile(source, columns, [*faults, *images.faults, *categories.faults, *annotations.faults])


def _faults_of_lists(lists: Mapping[str, EntryList], kind: type) -> Iterator[FileFault]:
    if kind is list:
        remedy = "Give the ground truth with annotations= and the results with predictions=."
        yield FileFault(
            f"this is a list, as a COCO results file is; {WHAT} was expected", "json-not-coco", remedy=remedy
        )
        return
    if kind is not dict:
        yield FileFault(f"this holds a {kind.__name__}; {WHAT} was expected", "json-not-coco")
        return
    for key in _LISTS:
        if key not in lists:
            message = f"this is not a COCO annotation file: it has no list named {key!r}"
            remedy = "It must hold the lists images, annotations and categories"
            yield FileFault(message, "json-not-coco", remedy=remedy)
        elif not lists[key].number:
            remedy = "Nothing can be learned or measured without it. Is this the file you meant?"
            yield FileFault(f"the list {key!r} is empty", "list-empty", key == "annotations", remedy)


CocoDocument: TypeAlias = dict[str, Any]
"""``images``, ``annotations`` and ``categories``, lists of dictionaries, and whatever else the file holds."""


def load_coco(path: Path) -> CocoDocument:
    """Reads an annotation file without judging its entries.

    Args:
        path: the file.

    Raises:
        DataError: it cannot be read, is no JSON, or lacks one of the three lists of objects.
    """
    document = read_json(path, "a COCO annotation file")
    for key in ("images", "annotations", "categories"):
        entries = document.get(key) if isinstance(document, dict) else None
        if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
            raise DataError(
                f"this is not a COCO annotation file: it has no list of objects named {key!r}",
                where=path,
                remedy=f"finemask data check {shlex.quote(f'annotations={path}')} names what is wrong with it",
            )
    assert isinstance(document, dict)
    return document


def save_coco(path: Path, document: CocoDocument) -> None:
    """Writes an annotation file, whole or not at all, without line breaks: large files stay small.

    Args:
        path: the file; its folder is made.
        document: what to write.
    """
    write_json(path, document, indent=None)


_DEEPEST = 50


def is_standard(value: Any) -> bool:
    """Whether a value can be written as standard JSON in UTF-8: no NaN, infinity, broken text, or endless nesting."""
    try:
        json.dumps(value, allow_nan=False, ensure_ascii=False).encode()
    except (ValueError, RecursionError):  # a UnicodeEncodeError is a ValueError
        return False
    return True


def standard(value: Any, depth: int = 0) -> Any:
    """The value with null for what JSON has not, and with text that UTF-8 can hold.

    Args:
        value: what Python's parser made of JSON.
        depth: of lists and objects around it.
    """
    if isinstance(value, str):
        return value.encode(errors="replace").decode()
    if isinstance(value, list | dict) and depth > _DEEPEST:
        return None
    if isinstance(value, list):
        return [standard(item, depth + 1) for item in value]
    if isinstance(value, dict):
        return {standard(key): standard(item, depth + 1) for key, item in value.items()}
    return value if is_standard(value) else None
