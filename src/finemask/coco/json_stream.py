"""Reads a large JSON file entry by entry.

``json.loads`` needs the whole text and builds every object of it before the first can be looked at. Here a window
of the text moves over the file, and each entry of a long list is handed out and forgotten. The entries themselves
are parsed by the standard library's scanner, so its speed and its error messages stay.
"""

import codecs
import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from finemask.errors import DataError
from finemask.ops.files.documents import broken_json, nested_too_deeply, not_utf8, read_bytes

_READ_BYTES = 2**20
_BLANKS = re.compile(r"[ \t\n\r]*")
_AFTER_A_VALUE = frozenset(" \t\n\r,]}")


class JsonStream:
    """An object in a JSON file, read member by member.

    ``for key in stream.members()`` gives the keys; after each, take its value by ``value()``, or, when
    ``at_list()``, by iterating over ``entries()`` to the end. What is not taken is skipped.

    Args:
        path: the file, UTF-8 with or without a byte order mark.
        what: what it should be, for messages: ``"a COCO annotation file"``.
        remedy: what to do when it is not there.

    Attributes:
        kind: of what the file holds, known once ``members`` is through.

    Raises:
        DataError: the file cannot be read; from every method: it is no UTF-8, or no JSON, at which line and column.
    """

    def __init__(self, path: Path, what: str, remedy: str | None = None) -> None:
        self._path, self._what = path, what
        try:
            self._file = path.open("rb")
        except OSError:
            read_bytes(path, what, remedy)  # which says what is wrong
            raise
        self._decode = codecs.getincrementaldecoder("utf-8-sig")().decode
        self._scan = json.JSONDecoder().scan_once  # type: ignore[attr-defined]  # what raw_decode calls
        self._hash = hashlib.sha256()
        self._text, self._at, self._ended = "", 0, False
        self._line, self._column = 1, 1  # of the first character of the window
        self._value_taken = True
        self.kind: type = dict

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._file.close()

    @property
    def sha256(self) -> str:
        """Hexadecimal SHA-256 of the bytes read so far: of the file, once ``members`` is through."""
        return self._hash.hexdigest()

    def members(self) -> Iterator[str]:
        """Keys of the object, in the order of the file; none if the file holds something else."""
        if self._peek() == "{":
            yield from self._keys()
        else:
            self.kind = type(self.value())
        if self._peek():
            raise self._broken("Extra data", self._at)

    def at_list(self) -> bool:
        """Whether the value that comes next is a list."""
        return self._peek() == "["

    def value(self) -> Any:
        """Parses the value that comes next."""
        self._peek()
        while True:
            try:
                value, end = self._scan(self._text, self._at)
            except StopIteration as error:
                if self._read_on():
                    continue
                raise self._broken("Expecting value", error.value) from None
            except json.JSONDecodeError as error:
                if self._read_on():
                    continue
                raise self._broken(error.msg, error.pos) from None
            except RecursionError:
                raise nested_too_deeply(self._path, self._what) from None
            except ValueError:  # Python's guard against quadratic time
                raise DataError("this JSON holds a number of thousands of digits", where=self._path) from None
            # the rest of a number may lie beyond the window
            closed = type(value) in (dict, list, str) or self._text[end : end + 1] in _AFTER_A_VALUE
            if closed or not self._read_on():
                self._at, self._value_taken = end, True
                return value

    def entries(self) -> Iterator[Any]:
        """The entries of the list that comes next, each parsed when it is asked for."""
        assert self._peek() == "[", "only a list has entries"
        self._at, self._value_taken = self._at + 1, True
        if self._peek() == "]":
            self._at += 1
            return
        while True:
            yield self.value()
            if self._text[self._at : self._at + 1] == ",":
                self._at += 1
            elif self._comma_or("]"):
                return

    def _keys(self) -> Iterator[str]:
        self._at += 1
        if self._peek() == "}":
            self._at += 1
            return
        while True:
            if self._peek() != '"':
                raise self._broken("Expecting property name enclosed in double quotes", self._at)
            key = self.value()
            if self._peek() != ":":
                raise self._broken("Expecting ':' delimiter", self._at)
            self._at += 1
            self._value_taken = False
            yield key
            if not self._value_taken:
                self._skip()
            if self._comma_or("}"):
                return

    def _skip(self) -> None:
        if self.at_list():
            for _ in self.entries():
                pass
        else:
            self.value()

    def _comma_or(self, end: str) -> bool:
        """Passes over what follows an entry; whether it was the end of the list or object."""
        found = self._peek()
        if found not in (",", end):
            raise self._broken("Expecting ',' delimiter", self._at)
        self._at += 1
        return found == end

    def _peek(self) -> str:
        """The next character that is not blank; empty at the end of the file."""
        while True:
            if (next_one := self._text[self._at : self._at + 1]) and next_one not in " \t\n\r":
                return next_one
            blanks = _BLANKS.match(self._text, self._at)
            assert blanks is not None, "it matches nothing at all as well"
            self._at = blanks.end()
            if self._at < len(self._text):
                return self._text[self._at]
            if not self._read_on():
                return ""

    def _read_on(self) -> bool:
        """Moves the window: forgets what is behind, adds as much again; False at the end of the file."""
        if self._ended:
            return False
        self._line, self._column = self._place(self._at)
        rest = self._text[self._at :]
        # a value longer than the window is scanned anew each time, so the window doubles
        content = self._file.read(max(_READ_BYTES, len(rest)))
        self._hash.update(content)
        self._ended = not content
        try:
            self._text = rest + self._decode(content, final=self._ended)
        except UnicodeDecodeError as error:
            raise not_utf8(self._path, self._what, error) from None
        self._at = 0
        return True

    def _place(self, position: int) -> tuple[int, int]:
        """Line and column in the file, from 1, of a position in the window."""
        lines = self._text.count("\n", 0, position)
        if lines == 0:
            return self._line, self._column + position
        return self._line + lines, position - self._text.rindex("\n", 0, position)

    def _broken(self, message: str, position: int) -> DataError:
        return broken_json(self._path, *self._place(position), message)
