"""Reading a JSON file that a person gave us, with an answer for each way in which it can be broken."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from finemask.errors import DataError


def read_json(path: Path, what: str) -> Any:
    """Parses a file.

    Args:
        path: the file.
        what: what it should be, for the message: ``"a COCO annotation file"``.

    Raises:
        DataError: it cannot be read, is no UTF-8 or no JSON.
    """
    return parse_json(read_bytes(path, what), path, what)


def read_bytes(path: Path, what: str, remedy: str | None = None) -> bytes:
    """The content of a file.

    Args:
        path: the file.
        what: what it should be, for messages.
        remedy: what to do when it is not there.

    Raises:
        DataError: it cannot be read.
    """
    path = Path(path)
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise DataError(f"there is no such file; {what} was expected", where=path, remedy=remedy) from None
    except IsADirectoryError:
        raise DataError(f"this is a folder; {what} was expected", where=path, remedy=remedy) from None
    except OSError as error:
        raise DataError(f"this cannot be read ({error.strerror})", where=path) from error


def parse_json(
    content: bytes, path: Path, what: str, *, object_hook: Callable[[dict[str, Any]], Any] | None = None
) -> Any:
    """Parses JSON that has been read.

    Args:
        content: UTF-8, with or without a byte order mark.
        path: where it comes from, for messages.
        what: what it should be, for messages.
        object_hook: as in ``json.loads``: called with each object as soon as it is complete.

    Raises:
        DataError: it is no UTF-8 or no JSON.
    """
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise not_utf8(path, what, error) from None
    del content  # a caller that let go of it too has one copy less while the text is parsed
    try:
        return json.loads(text, object_hook=object_hook)
    except json.JSONDecodeError as error:
        raise broken_json(path, error.lineno, error.colno, error.msg) from None
    except RecursionError:
        raise nested_too_deeply(path, what) from None


def broken_json(path: Path, line: int, column: int, why: str) -> DataError:
    """What to raise where the text of a file is no JSON; line and column count from 1."""
    return DataError(
        f"broken JSON at line {line}, column {column}: {why}",
        where=path,
        remedy="The file may be cut off or edited by hand. Write or download it again",
    )


def not_utf8(path: Path, what: str, error: UnicodeDecodeError) -> DataError:
    """What to raise where the bytes of a file that should be ``what`` are no text."""
    return DataError(f"this is not UTF-8 text ({error.reason}); {what} was expected", where=path)


def nested_too_deeply(path: Path, what: str) -> DataError:
    """What to raise where the parser gave up on the depth of a file that should be ``what``."""
    return DataError(f"this JSON is nested too deeply for {what}", where=path)
