"""What images are called: names that can be printed, that stay apart, in the order a person expects."""

import os
import re
from pathlib import Path, PurePosixPath


def printable(name: str) -> str:
    """A file's name as text: bytes that are no UTF-8 become question marks in a diamond."""
    return os.fsencode(name).decode("utf-8", "replace")


def natural(path: Path | PurePosixPath) -> list[tuple[int, int, str]]:
    """What paths are sorted by: ``img2`` before ``img10``."""
    parts = re.split(r"(\d+)", path.as_posix().lower())
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in parts if part]


class UniqueNames:
    """Names that stay apart even without their suffix and on file systems that do not tell cases apart."""

    def __init__(self) -> None:
        self._taken: set[str] = set()
        self._numbers: dict[str, int] = {}

    def __call__(self, wanted: str) -> str:
        """The name, or one like it that nothing else has."""
        name = PurePosixPath(wanted)
        stem = name.with_suffix("").as_posix()
        number, candidate = self._numbers.get(stem.lower(), 1), stem
        while candidate.lower() in self._taken:
            number += 1
            candidate = f"{stem}_{name.suffix[1:]}" if number == 2 and name.suffix else f"{stem}_{number}"
        self._taken.add(candidate.lower())
        self._numbers[stem.lower()] = number if number > 2 else 1  # the second is called by its suffix
        return candidate + name.suffix
