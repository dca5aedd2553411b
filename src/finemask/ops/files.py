"""Writing files whole or not at all, and matching the file names of two programs."""

import hashlib
import json
import os
import tempfile
import unicodedata
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

from finemask.errors import DataError


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """A temporary name beside ``path`` that becomes ``path`` when the block ends well, and vanishes when it does not.

    The suffix is kept, since writers choose a format by it.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.stem}-", suffix=path.suffix, dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)  # mkstemp's 0600 would surprise whoever shares the folder
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Writes UTF-8 text, whole or not at all."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any, *, indent: int | None = 1) -> None:
    """Writes JSON, whole or not at all. NaN and infinity are refused: they are not JSON."""
    write_text(path, json.dumps(value, indent=indent, allow_nan=False, ensure_ascii=False) + "\n")


def sha256_of(path: Path) -> str:
    """Hexadecimal SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def match_file_names(names: Sequence[str], known: Sequence[str]) -> list[int | None]:
    """Position among ``known`` of each name; None where there is none.

    Two names mean one file when all folders of the shorter one are the last of the longer: ``val/a.png`` is
    ``/data/val/a.png`` and ``a.png``, but not ``train/a.png``. Of several that fit, the one with most folders in common
    is meant. Backslashes are slashes, and letters with accents are the same in either Unicode form.

    Args:
        names: relative or absolute paths.
        known: names to find them among.

    Raises:
        DataError: a name fits several, or several names fit one.
    """
    parts_known = [_parts(name) for name in known]
    by_last: dict[str, list[int]] = {}
    for position, parts in enumerate(parts_known):
        by_last.setdefault(parts[-1], []).append(position)
    found: list[int | None] = []
    taken: dict[int, tuple[int, int]] = {}  # position of the known name: folders in common, position of the name
    for number, name in enumerate(names):
        parts = _parts(name)
        fits = {at: common for at in by_last.get(parts[-1], ()) if (common := _common(parts, parts_known[at]))}
        best = max(fits.values(), default=0)
        chosen = [at for at, common in fits.items() if common == best]
        if len(chosen) > 1:
            raise DataError(f"the image {name} may be any of {', '.join(known[at] for at in chosen[:3])}")
        found.append(chosen[0] if chosen else None)
        if not chosen:
            continue
        common_before, other = taken.get(chosen[0], (0, 0))
        if common_before == best:
            raise DataError(f"the images {names[other]} and {name} both may be {known[chosen[0]]}")
        if common_before > best:
            found[number] = None
            continue
        if common_before:
            found[other] = None
        taken[chosen[0]] = (best, number)
    return found


def _parts(name: str) -> tuple[str, ...]:
    parts = PurePosixPath(unicodedata.normalize("NFC", name.replace("\\", "/"))).parts
    return parts or ("",)


def _common(a: tuple[str, ...], b: tuple[str, ...]) -> int:
    """Parts of the shorter path, if it is the end of the longer one; else 0."""
    shorter = min(len(a), len(b))
    return shorter if a[-shorter:] == b[-shorter:] else 0
