"""Where images come from: files, folders, globs, lists in text files, videos, URLs, arrays.

A source is first listed, which is quick and tells how much there is, and then read piece by piece. What is
listed need not be readable; reading raises then, so that the caller can report one file and go on.
"""

import glob
import logging
import re
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple, TypeAlias
from urllib.parse import unquote, urlsplit

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from finemask.errors import DataError
from finemask.inference.video import VIDEO_SUFFIXES, count_frames, read_frames
from finemask.ops.decode import decode_image, image_suffixes

log = logging.getLogger(__name__)

URL_TIMEOUT_S = 30.0
MAX_URL_BYTES = 256 * 2**20

One: TypeAlias = str | Path | bytes | Image.Image | NDArray[Any]
Source: TypeAlias = One | Sequence[One]


class NamedImage(NamedTuple):
    """An image that was read."""

    name: str  # with forward slashes; may hold folders, never leads upwards
    image: NDArray[np.uint8]  # uint8 [H, W, 3], RGB
    path: Path | None


@dataclass(frozen=True, slots=True)
class Item:
    """Something that holds one image or, if a video, several.

    Args:
        name: see ``NamedImage``.
        content: where it is, or itself.
        size_hw: height and width that annotations state; see ``decode_image``.
    """

    name: str
    content: One
    size_hw: tuple[int, int] | None = None

    @property
    def is_video(self) -> bool:
        """Whether it holds several images."""
        return isinstance(self.content, Path) and self.content.suffix.lower() in VIDEO_SUFFIXES

    def __len__(self) -> int:
        """Images in it, as far as is known beforehand."""
        return count_frames(Path(str(self.content))) if self.is_video else 1

    def read(self) -> Iterator[NamedImage]:
        """Its images, one after another.

        Raises:
            DataError: it cannot be read.
        """
        if self.is_video:
            path = Path(str(self.content))
            folder = PurePosixPath(self.name).with_suffix("")
            for number, frame in enumerate(read_frames(path), start=1):
                yield NamedImage(f"{folder}/{folder.name}_{number:06d}", frame, None)
        elif isinstance(self.content, str):
            yield NamedImage(self.name, decode_image(_download(self.content), self.size_hw), None)
        else:
            path_or_none = self.content if isinstance(self.content, Path) else None
            yield NamedImage(self.name, decode_image(self.content, self.size_hw), path_or_none)


def list_items(source: Source) -> list[Item]:
    """Everything a source holds, in the order it will be read, each under a name of its own.

    Folders are searched through, naturally sorted (``img2`` before ``img10``); hidden files are left out, and so are
    those whose suffix is not that of an image that can be read, or a video: these are counted in the log.
    Names keep the folders below the one asked for, so that equal file names in two folders stay apart. A text
    file holds one path or URL a line (``#`` starts a comment); relative paths are looked up from where you
    stand, then from beside the text file.

    Raises:
        DataError: a folder without images, a glob that matches nothing, an empty list. A single file that is
            missing is listed, and fails when it is read.
    """
    if isinstance(source, Sequence) and not isinstance(source, str | bytes):
        items = [item for one in source for item in _items_of(one)]
    else:
        items = list(_items_of(source))
    if not items:
        raise DataError("the source is empty", remedy="Give an image, a folder, a glob, a video or a URL.")
    return _under_own_names(items)


def _items_of(source: One) -> Iterator[Item]:
    if isinstance(source, np.ndarray | bytes):
        yield Item("image", source)
    elif isinstance(source, Image.Image):
        yield Item(Path(getattr(source, "filename", "") or "image").name, source)
    elif isinstance(source, str) and _is_url(source):
        yield Item(PurePosixPath(unquote(urlsplit(source).path)).name or "image", source)
    elif isinstance(source, str) and not source.strip():
        raise DataError("a path in the source is empty", remedy="Is it a variable of the shell that is not set?")
    elif isinstance(source, str | Path):
        yield from _items_of_path(Path(source).expanduser())
    else:
        raise DataError(
            f"an image cannot be read from a {type(source).__name__}",
            remedy="Give a path, a URL, a PIL image, or a uint8 array [H, W, 3] in RGB.",
        )


def _items_of_path(path: Path) -> Iterator[Item]:
    if path.is_dir():
        yield from _below(path, path.rglob("*"), "the folder holds no images")
    elif not path.exists() and glob.has_magic(str(path)):
        start = Path(*_until_magic(path.parts))
        # Path.glob would refuse patterns such as "**.jpg".
        found = (Path(name) for name in glob.glob(str(path), recursive=True))  # noqa: PTH207
        yield from _below(start, found, "nothing matches")
    elif path.suffix.lower() == ".txt":
        yield from _listed(path)
    else:
        yield Item(path.name, path)


def _below(folder: Path, found: Iterator[Path], otherwise: str) -> Iterator[Item]:
    suffixes = image_suffixes() | VIDEO_SUFFIXES
    paths = []
    others: Counter[str] = Counter()
    for path in found:
        inside = path.relative_to(folder)
        if any(part.startswith(".") for part in inside.parts) or not path.is_file():
            continue
        if path.suffix.lower() in suffixes:
            paths.append((inside, path))
        else:
            others[path.suffix.lower() or "without a suffix"] += 1
    skipped = ", ".join(
        f"{count:,} {suffix}" for suffix, count in sorted(others.items(), key=lambda pair: (-pair[1], pair[0]))
    )
    if not paths:
        there = f", only other files: {skipped}" if others else ""
        raise DataError(
            f"{otherwise}{there}", where=folder, remedy="Name a file of another suffix itself, or save it as PNG."
        )
    if others:
        log.warning("Files in %s that are no images or videos, by their suffix, are left out: %s", folder, skipped)
    for inside, path in sorted(paths, key=lambda pair: _natural(pair[0])):
        yield Item(inside.as_posix(), path)


def _listed(path: Path) -> Iterator[Item]:
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except FileNotFoundError:
        raise DataError("no such file", where=path, remedy="Check the path.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"not a list of paths ({error})", where=path) from error
    for line in lines:
        entry = line.strip()
        if not entry or entry.startswith("#"):
            continue
        if _is_url(entry):
            yield from _items_of(entry)
            continue
        beside = path.parent / entry
        target = beside if not Path(entry).exists() and beside.exists() else Path(entry)
        plain = not Path(entry).is_absolute() and ".." not in Path(entry).parts
        yield Item(Path(entry).as_posix() if plain else target.name, target)


def _under_own_names(items: list[Item]) -> list[Item]:
    """Names that stay apart even without their suffix and on file systems that do not tell cases apart."""
    taken: set[str] = set()
    named = []
    for item in items:
        name = PurePosixPath(item.name)
        stem, number = name.with_suffix("").as_posix(), 1
        candidate = stem
        while candidate.lower() in taken:
            number += 1
            candidate = f"{stem}_{name.suffix[1:]}" if number == 2 and name.suffix else f"{stem}_{number}"
        taken.add(candidate.lower())
        named.append(Item(candidate + name.suffix, item.content))
    return named


def _download(url: str) -> bytes:
    request = urllib.request.Request(url, headers={"User-Agent": "finemask"})  # some hosts refuse urllib's own
    try:
        with urllib.request.urlopen(request, timeout=URL_TIMEOUT_S) as response:
            content: bytes = response.read(MAX_URL_BYTES + 1)
    except (urllib.error.URLError, OSError, ValueError) as error:
        reason = getattr(error, "reason", None) or error
        raise DataError(f"cannot be downloaded ({reason})", where=url, remedy="Check the address.") from error
    if len(content) > MAX_URL_BYTES:
        raise DataError(
            f"larger than {MAX_URL_BYTES // 2**20} MiB", where=url, remedy="Download it, then give the file."
        )
    return content


def _is_url(text: str) -> bool:
    return text.lower().startswith(("http://", "https://"))


def _natural(path: Path) -> list[tuple[int, int, str]]:
    parts = re.split(r"(\d+)", path.as_posix().lower())
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in parts if part]


def _until_magic(parts: Sequence[str]) -> list[str]:
    plain = []
    for part in parts:
        if glob.has_magic(part):
            break
        plain.append(part)
    return plain
