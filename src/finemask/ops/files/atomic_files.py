"""Files that are written whole or not at all, and the names that they may have."""

import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath, PureWindowsPath
from threading import Lock
from typing import Any

_LONGEST = 50  # characters of a temporary file's name that tell what it is to become: names have 255 bytes at most
_TEMPORARY = re.compile(r"\.(.+)-[a-z0-9_]{8}(\.[^.]*)?")  # as ``tempfile`` names them
_ASKING = Lock()  # the umask can only be asked for by setting it
_MAY_LEAVE = re.compile(r"^[/\\]|\.\.|:")


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """A temporary name beside ``path`` that becomes ``path`` when the block ends well, and vanishes when it does not.

    The suffix is kept, since writers choose a format by it.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.stem[:_LONGEST]}-", suffix=path.suffix, dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        with _ASKING:
            umask = os.umask(0)
            os.umask(umask)
        temporary.chmod(0o666 & ~umask)  # mkstemp's 0600 would surprise whoever shares the folder
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def made_folder(folder: Path) -> Iterator[None]:
    """A folder that is there within the block; if the block fails, those that were made for it go, unless in use."""
    made = [one for one in (folder, *folder.parents) if not one.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    try:
        yield
    except BaseException:
        with suppress(OSError):  # something is in it
            for one in made:
                one.rmdir()
        raise


def temporaries_in(folder: Path) -> Iterator[tuple[Path, str]]:
    """What ``atomic_path`` leaves in a folder when its process is killed, and the name each was to have had.

    Of a long name only the beginning is known.
    """
    for path in folder.iterdir() if folder.is_dir() else ():
        if found := _TEMPORARY.fullmatch(path.name):
            yield path, found[1] + path.suffix


def write_text(path: Path, text: str) -> None:
    """Writes UTF-8 text, whole or not at all."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any, *, indent: int | None = 1) -> None:
    """Writes JSON, whole or not at all. NaN and infinity are refused: they are not JSON."""
    write_text(path, json.dumps(value, indent=indent, allow_nan=False, ensure_ascii=False) + "\n")


def copy_file(source: Path, path: Path) -> None:
    """Copies the bytes of a file, whole or not at all."""
    with atomic_path(path) as temporary:
        shutil.copyfile(source, temporary)


def link_file(source: Path, path: Path) -> bool:
    """Makes a hard link: a symbolic one would lead out of its folder, and break when the source moves.

    Returns:
        Whether there is one now; not on another disk, or where the file system or the owner does not allow it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists() and path.samefile(source):
        return True
    path.unlink(missing_ok=True)
    try:
        os.link(source.resolve(), path)
    except OSError:
        return False
    return True


def earlier_files(report: Path, mark: str = "files") -> list[str] | None:
    """What an earlier run wrote beside its report, by the names under ``files`` there that stay in the folder.

    None where there is no such report, or another program's: ours has the key ``mark``.
    """
    try:
        document = json.loads(report.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    if not (isinstance(document, dict) and mark in document and isinstance(document.get("files"), list)):
        return None
    return [name for name in document["files"] if isinstance(name, str) and not leaves_folder(name)]


def python_beside(path: Path, word: str) -> Path:
    """The Python file of that kind beside another file, ``model_WORD.py`` for ``model.onnx``: one can import it."""
    stem = re.sub(r"\W", "_", path.stem)
    return path.with_name(f"{'_' if stem[:1].isdigit() else ''}{stem}_{word}.py")


def leaves_folder(file_name: str) -> bool:
    """Whether a file name leads out of the folder it is relative to, as far as the name alone tells.

    Backslashes separate folders here on every system: a file that is harmless on one must not lead out on another.
    """
    if not _MAY_LEAVE.search(file_name):
        return False
    posix = PurePosixPath(file_name.replace("\\", "/"))
    return posix.is_absolute() or bool(PureWindowsPath(file_name).drive) or ".." in posix.parts


def safe_file_name(name: str) -> str:
    """A class's name as part of a file's: what sets file names at risk becomes hyphens."""
    return re.sub(r"[^0-9A-Za-z_-]+", "-", name).strip("-") or "class"
