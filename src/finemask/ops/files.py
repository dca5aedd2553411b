"""Files: written whole or not at all; read as JSON with an answer for each way in which it is broken; folders of runs.

Those are ``OUTPUT/NAME/DATE_TIME``: which there are, and which is meant where one is named.
"""

import hashlib
import json
import logging
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath, PureWindowsPath
from threading import Lock
from typing import TYPE_CHECKING, Any

from finemask.errors import DataError

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

_LONGEST = 50  # characters of a temporary file's name that tell what it is to become: names have 255 bytes at most
_TEMPORARY = re.compile(r"\.(.+)-[a-z0-9_]{8}(\.[^.]*)?")  # as ``tempfile`` names them
_NO_FILES = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)
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


def python_beside(path: Path, word: str) -> Path:
    """The Python file of that kind beside another file, ``model_WORD.py`` for ``model.onnx``: one can import it."""
    stem = re.sub(r"\W", "_", path.stem)
    return path.with_name(f"{'_' if stem[:1].isdigit() else ''}{stem}_{word}.py")


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


log = logging.getLogger(__name__)

MODEL_FILE = "model.safetensors"  # in a run's folder: its best weights
FOLDS = "folds.json"  # in that of a run of folds: what they say
LATEST = "latest"  # a link beside the runs of a name, where links can be made
_STAMP = re.compile(r"(\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d)(?:_(\d+))?")


def is_run_folder(path: Path) -> bool:
    """Whether a folder is named as those of runs are."""
    return _STAMP.fullmatch(path.name) is not None


def runs_of(of_name: Path) -> list[Path]:
    """The folders of all runs of a name, the newest first."""
    found = []
    for path in of_name.iterdir() if of_name.is_dir() else ():
        if (stamp := _STAMP.fullmatch(path.name)) and path.is_dir():
            found.append((stamp[1], int(stamp[2] or 0), path))
    return [path for _, _, path in sorted(found, reverse=True)]


def newest_run(of_name: Path, holding: str) -> Path | None:
    """The newest run of a name in which there is such a file; ``None`` without one."""
    return next((run for run in runs_of(of_name) if (run / holding).is_file()), None)


def find_in_run(path: Path | str, file: str) -> Path:
    """The file that is meant where a run may be named instead.

    ``NAME/latest`` is found where no links can be made, too: it then means the newest run that has the file.

    Args:
        path: the file itself; a run's folder; the folder of all runs of a name, for the newest that has the file.
        file: name of the file in a run's folder, such as ``MODEL_FILE``.

    Returns:
        The file; ``path`` as it is where it leads to none.
    """
    path = Path(path)
    if path.is_dir():
        return path / file if (path / file).is_file() else _in_newest(path, file) or path
    for of_name in path.parents:
        rest = path.relative_to(of_name)
        if rest.parts[0] == LATEST and not (of_name / LATEST).is_dir() and runs_of(of_name):
            inside = rest.relative_to(LATEST)
            return _in_newest(of_name, file if inside == Path() else inside.as_posix()) or path
    return path


def _in_newest(of_name: Path, file: str) -> Path | None:
    run = newest_run(of_name, file)
    if run is None:
        return None
    if run != (newest := runs_of(of_name)[0]):
        log.warning("%s has no %s; taken: %s", newest, file, run / file)
    return run / file
