"""Files that are read whole: JSON and XML, with an answer for each way in which they are broken."""

import hashlib
import json
import stat
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from finemask.errors import DataError

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

_NO_FILES = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


def check_plain_file(path: Path) -> None:
    """Whether a path leads to a file: to open a pipe waits for somebody to write to it, and a device may never end.

    Raises:
        DataError: it leads to something else.
        OSError: it leads nowhere.
    """
    mode = path.stat().st_mode
    if not stat.S_ISREG(mode):
        is_folder = stat.S_ISDIR(mode)
        what = next((name for test, name in _NO_FILES if test(mode)), "something else")
        remedy = "Give the images in it." if is_folder else "Save the image as a file."
        raise DataError(f"this is {what}, not a file", where=path, remedy=remedy)


def sha256_of(path: Path) -> str:
    """Hexadecimal SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


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


def parse_xml(content: bytes, where: object, what: str) -> "Element":
    """Parses XML that has been read.

    Args:
        content: the text, in whatever encoding it says.
        where: it comes from, for messages.
        what: it should be, for messages.

    Raises:
        DataError: it is no XML, or declares a document type, which could make it expand without bound or read files.
    """
    from xml.etree.ElementTree import ParseError, TreeBuilder, XMLParser

    class NoDoctype(TreeBuilder):
        """The parser calls ``doctype`` as soon as it meets one, before any entity of it is used."""

        def doctype(self, name: str, pubid: str | None, system: str | None) -> None:
            raise ValueError(f"it declares a document type ({name})")

    parser = XMLParser(target=NoDoctype())
    try:
        parser.feed(content)
        root: Element = parser.close()
    except ValueError as error:
        raise DataError(
            f"this XML is refused: {error}", where=where, remedy="Annotation tools write none. Take the DOCTYPE out"
        ) from None
    except ParseError as error:
        raise DataError(f"broken XML ({error}); {what} was expected", where=where) from None
    return root


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
