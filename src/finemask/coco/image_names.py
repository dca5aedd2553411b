"""File names of images: which file a name must have meant, which of two lists are the same, and what is not there."""

import os
import shlex
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import NamedTuple
from urllib.parse import unquote

from finemask.errors import DataError
from finemask.ops.images.image_kinds import image_suffixes


class Meant(NamedTuple):
    """The one file that a name must have meant.

    Args:
        file: relative to the folder, forward slashes.
        cause: what the two differ by, in words: ``backslashes``, ``letter case and file extension``.
    """

    file: str
    cause: str


class FileNames:
    """The files of a folder, found by names that other systems and tools have spelt in other ways.

    Args:
        files: relative to the folder, forward slashes.
    """

    def __init__(self, files: Iterable[str]) -> None:
        self._by_name, self._by_stem = defaultdict[str, list[str]](list), defaultdict[str, list[str]](list)
        self._ending_in = defaultdict[str, list[str]](list)
        for file in files:
            name = _spelt_alike(file)
            self._by_name[name].append(file)
            self._ending_in[name.rpartition("/")[2]].append(file)
            if PurePosixPath(name).suffix in image_suffixes():
                self._by_stem[_without_suffix(name)].append(file)
        # a.jpg beside a.png: one of the two may be a mask, so nothing is found by another extension here
        if any(len(alike) > 1 for alike in self._by_stem.values()):
            self._by_stem.clear()

    @classmethod
    def below(cls, folder: Path) -> "FileNames":
        """Those of a folder and its folders; links to folders are not followed."""
        return cls(
            (Path(parent) / name).relative_to(folder).as_posix()
            for parent, _, names in os.walk(folder)
            for name in names
        )

    def meant_by(self, file_name: str) -> Meant | None:
        """The file that a name differs from by its spelling only; None if there is none, or more than one.

        Looked at are, one after the other: names that differ by kind of slash, percent escapes, Unicode form or letter
        case; by the extension as well; by leading folders, which one of the two has more of.
        """
        parts = PurePosixPath(file_name.replace("\\", "/")).parts
        inside = [part for part in parts if part not in ("/", "..") and not PureWindowsPath(part).drive]
        name = _spelt_alike("/".join(inside))
        for found in (
            self._by_name.get(name, []),
            self._by_stem.get(_without_suffix(name), []),
            self._elsewhere(name),
        ):
            if found:
                return Meant(found[0], _differ_by(file_name, found[0])) if len(found) == 1 else None
        return None

    def _elsewhere(self, name: str) -> list[str]:
        """Files whose path ends as the name does, or the other way round; those that share most with it."""
        parts = PurePosixPath(name).parts
        shared = {
            file: _common_end(PurePosixPath(_spelt_alike(file)).parts, parts)
            for file in self._ending_in.get(name.rpartition("/")[2], [])
        }
        return [file for file, common in shared.items() if common == max(shared.values()) > 0]


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
    parts_known = [_plain_parts(name) for name in known]
    by_last: dict[str, list[int]] = {}
    for position, parts in enumerate(parts_known):
        by_last.setdefault(parts[-1], []).append(position)
    found: list[int | None] = []
    taken: dict[int, tuple[int, int]] = {}  # position of the known name: folders in common, position of the name
    for number, name in enumerate(names):
        parts = _plain_parts(name)
        fits = {at: common for at in by_last.get(parts[-1], ()) if (common := _common_end(parts, parts_known[at]))}
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


def _plain_parts(name: str) -> tuple[str, ...]:
    return PurePosixPath(unicodedata.normalize("NFC", name.replace("\\", "/"))).parts or ("",)


def _common_end(a: tuple[str, ...], b: tuple[str, ...]) -> int:
    """Parts of the shorter path, if it is the end of the longer one; else 0."""
    shorter = min(len(a), len(b))
    return shorter if a[-shorter:] == b[-shorter:] else 0


def check_images_exist(annotations: Path, images_dir: Path, file_names: Sequence[str]) -> None:
    """Raises unless every file is in the folder.

    Args:
        annotations: the file that names them, for the message.
        images_dir: folder that the names are relative to.
        file_names: relative, with forward slashes.

    Raises:
        DataError: says how many are missing, the first three, and which files they must have meant.
    """
    if not images_dir.is_dir():
        raise DataError("there is no such folder of images", where=images_dir, remedy="Check the path of the images")
    listed: dict[str, set[str]] = {}
    missing = []
    for file_name in file_names:
        folder, _, name = file_name.rpartition("/")
        if folder not in listed:
            listed[folder] = _names_in(images_dir / folder)
        if name not in listed[folder]:
            missing.append(file_name)
    if not missing:
        return
    first = ", ".join(missing[:3]) + (", …" if len(missing) > 3 else "")
    what = f"{len(missing):,} of {len(file_names):,} images are not in {images_dir}: {first}"
    remedy = "Check data.images: file names are relative to that folder"
    if (images_dir.parent / missing[0]).is_file():
        remedy = "The file names already contain the folder: set data.images=."
    else:
        names = FileNames.below(images_dir)
        meant = [(name, found) for name in missing if (found := names.meant_by(name)) is not None]
        if meant:
            name, found = meant[0]
            what += f"; {len(meant):,} of them have files of another name there: {name!r} is {found.file!r}, which "
            what += f"differs by {found.cause}"
            fixed = annotations.with_name(f"{annotations.stem}_fixed.json")
            keys = {"annotations": annotations, "images": images_dir, "fix": fixed}
            words = " ".join(f"{key}={shlex.quote(str(path))}" for key, path in keys.items())
            remedy = f"To see every fault, and to repair: finemask data check {words}"
    raise DataError(f"{what} (image-missing)", where=annotations, remedy=remedy)


def _names_in(folder: Path) -> set[str]:
    try:
        with os.scandir(folder) as entries:
            return {entry.name for entry in entries}
    except (OSError, ValueError):
        return set()


def _without_suffix(name: str) -> str:
    path = PurePosixPath(name)
    return name.removesuffix(path.suffix) if path.suffix.lower() in image_suffixes() else name


_SPELLINGS: tuple[tuple[str, Callable[[str], str]], ...] = (
    ("backslashes", lambda name: name.replace("\\", "/")),
    ("percent escapes such as %20", unquote),
    ("Unicode form", lambda name: unicodedata.normalize("NFC", name)),
    ("letter case", str.casefold),
)


def _spelt_alike(name: str, leave_out: str = "") -> str:
    """A name without what systems and tools spell differently."""
    for what, spelling in _SPELLINGS:
        if what != leave_out:
            name = spelling(name)
    return str(PurePosixPath(name))


def _differ_by(name: str, file: str) -> str:
    """What has to be overlooked for two names to be one: the kinds of difference, in words."""
    one, other = (PurePosixPath(_spelt_alike(text)) for text in (name, file))
    shared = min(len(one.parts), len(other.parts))

    def compared(text: str, leave_out: str) -> tuple[str, ...]:
        spelt = _spelt_alike(text, leave_out)
        return PurePosixPath(spelt if one.suffix == other.suffix else _without_suffix(spelt)).parts[-shared:]

    causes = [what for what, _ in _SPELLINGS if compared(name, what) != compared(file, what)]
    causes += ["file extension"] if one.suffix != other.suffix else []
    causes += ["folder"] if len(one.parts) != len(other.parts) else []
    return " and ".join([", ".join(causes[:-1]), causes[-1]] if len(causes) > 1 else causes)
