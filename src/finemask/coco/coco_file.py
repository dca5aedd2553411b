"""COCO documents as the tools hold them: the file's own dictionaries, so that what a tool does not know survives it."""

import json
import shlex
from pathlib import Path
from typing import Any, TypeAlias

from finemask.errors import DataError
from finemask.ops.files import read_json, write_json

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
