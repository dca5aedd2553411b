"""Sources of images: files, folders, globs, lists in text and Parquet files, videos, URLs, arrays.

A source is first listed, which is quick and tells how much there is, and then read piece by piece. What is
listed need not be readable; reading raises then, so that the caller can report one file and go on.
"""

import glob
import logging
import math
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import takewhile
from pathlib import Path, PurePosixPath
from tempfile import NamedTemporaryFile
from typing import Any, BinaryIO, NamedTuple, TypeAlias, TypeGuard
from urllib.parse import unquote, urlsplit

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from finemask.errors import DataError
from finemask.inference.content.folder_walk import matching, walk
from finemask.inference.content.item_names import UniqueNames, natural, printable
from finemask.inference.content.path_lists import LIST_SUFFIXES, entries_of
from finemask.inference.content.remote_files import is_remote, list_remote
from finemask.inference.content.source_content import for_decoder
from finemask.inference.content.video_frames import (
    ALL_FRAMES,
    VIDEO_SUFFIXES,
    Camera,
    Frame,
    FrameChoice,
    count_frames,
    read_frames,
)
from finemask.inference.content.web_fetch import FetchLimits, fetch_into
from finemask.ops.images.decode import decode_image
from finemask.ops.images.image_kinds import image_suffixes, upright_size
from finemask.ops.images.image_reading import AS_THE_FILE_SAYS, ImageReading

log = logging.getLogger(__name__)

_VIDEOS = FetchLimits(2 * 2**30, total_s=3600.0, kinds=("video",))


class NamedImage(NamedTuple):
    """An image that was read."""

    name: str  # with forward slashes; may hold folders, never leads upwards
    image: NDArray[np.uint8]  # uint8 [H, W, 3], RGB
    path: Path | None
    frame: Frame | None = None  # of a video


class Unread(NamedTuple):
    """Something in a source that could not be read."""

    name: str  # as of ``NamedImage``
    error: DataError
    in_part: bool = False  # a video, some frames of which were read


class LargeImage(NamedTuple):
    """An image file that was not decoded: it is to be read window by window."""

    name: str  # as of ``NamedImage``
    path: Path
    size_hw: tuple[int, int]  # upright


@dataclass(frozen=True, slots=True)
class Opening:
    """How sources that are no image files are opened.

    Args:
        allow_private_urls: also fetch from addresses of this machine and of private networks.
        frames: which frames of videos and cameras are taken.
    """

    allow_private_urls: bool = False
    frames: FrameChoice = ALL_FRAMES


AS_USUAL = Opening()


@dataclass(frozen=True, slots=True)
class Item:
    """Something that holds one image or, if a video, several.

    Args:
        name: see ``NamedImage``.
        content: where it is, or itself.
        size_hw: height and width that annotations state; see ``decode_image``.
    """

    name: str
    content: "Path | str | bytes | BinaryIO | Image.Image | NDArray[Any] | Tensor | NamedImage | Camera"
    size_hw: tuple[int, int] | None = None

    @property
    def is_video(self) -> bool:
        """Whether it holds several images."""
        if isinstance(self.content, str):
            return _is_video_url(self.content)
        is_file = isinstance(self.content, Path) and self.content.suffix.lower() in VIDEO_SUFFIXES
        return is_file or isinstance(self.content, Camera)

    @property
    def frames(self) -> str:
        """What the names of a video's frames begin with."""
        folder = PurePosixPath(self.name).with_suffix("")
        return f"{folder}/{folder.name}_"

    def count(self, opening: Opening = AS_USUAL) -> int:
        """Images in it, as far as is known beforehand; a camera or a video behind a URL counts as one."""
        if self.is_video and isinstance(self.content, Path):
            return count_frames(self.content, opening.frames)
        return 1

    def large(self, whole_px: float) -> LargeImage | None:
        """Its file, where that is an image of more than ``whole_px`` pixels; None for all else, damaged files too."""
        if whole_px == math.inf or not isinstance(self.content, Path) or self.is_video:
            return None
        size_hw = self.size_hw or upright_size(self.content)
        if size_hw is None or size_hw[0] * size_hw[1] <= whole_px:
            return None
        return LargeImage(self.name, self.content, size_hw)

    def read(self, reading: ImageReading = AS_THE_FILE_SAYS, opening: Opening = AS_USUAL) -> Iterator[NamedImage]:
        """Its images, one after another.

        Args:
            reading: page, range and channels of files that hold more than one 8-bit picture.
            opening: of what is no image file.

        Raises:
            DataError: it cannot be read.
        """
        if self.is_video:
            with _video_of(self.content, opening) as video:
                for frame, image in read_frames(video, self.name, opening.frames):
                    yield NamedImage(f"{self.frames}{frame.number:06d}", image, None, frame)
        elif isinstance(self.content, Path):
            yield NamedImage(self.name, decode_image(self.content, self.size_hw, reading), self.content)
        else:
            path, content = None, self.content
            if isinstance(content, NamedImage):
                path, content = content.path, content.image
            try:
                given = for_decoder(content, opening.allow_private_urls)
                yield NamedImage(self.name, decode_image(given, self.size_hw, reading), path)
            except DataError as error:  # what the decoder calls "encoded image" has a name here
                if not _is_url(error.where or "") and not is_remote(error.where or ""):
                    error.where = content if isinstance(content, str) else self.name
                raise


_OneOrMany: TypeAlias = (
    str
    | os.PathLike[str]
    | bytes
    | bytearray
    | memoryview
    | BinaryIO
    | Image.Image
    | NDArray[Any]
    | Tensor
    | NamedImage
)
ImageLike: TypeAlias = _OneOrMany | Item
Source: TypeAlias = ImageLike | Iterable[ImageLike]


def list_items(source: Source) -> list[Item]:
    """Everything a source holds, in the order it will be read, each under a name of its own.

    Folders are searched through, naturally sorted (``img2`` before ``img10``); hidden files are left out, and so are
    those whose suffix is not that of an image that can be read, or a video: these are counted in the log.
    Names keep the folders below the one asked for, so that equal file names in two folders stay apart. A text
    file holds one path or URL a line (``#`` starts a comment), a Parquet file has a column ``path``; relative paths
    are looked up from where you stand, then from beside the list.

    Raises:
        DataError: a folder without images, a glob that matches nothing, an empty list. A single file that is
            missing is listed, and fails when it is read.
    """
    items = []
    for item in items_in(source):
        if isinstance(item, Unread):
            raise item.error
        items.append(item)
    if not items:
        raise DataError("the source is empty", remedy="Give an image, a folder, a glob, a video or a URL.")
    return items


def items_in(source: Source) -> Iterator[Item | Unread]:
    """As ``list_items``, one after another; of a source that is a generator, no more are asked for than are taken."""
    unique = UniqueNames()
    for one in _elements(source):
        if isinstance(one, Item):
            yield one
            continue
        try:
            for item in _items_of(one):
                yield replace(item, name=unique(item.name))
        except DataError as error:
            yield Unread(str(one) if isinstance(one, str | os.PathLike) else "image", error)


def is_single(source: Source) -> bool:
    """Whether a source can hold one image only; folders and globs hold several even when there is but one."""
    if not isinstance(source, str | os.PathLike):
        return not _is_several(source)
    if _is_url(str(source)):
        return not _is_video_url(str(source))
    if is_remote(str(source)):
        return PurePosixPath(str(source)).suffix.lower() in image_suffixes() and not glob.has_magic(str(source))
    path = Path(source).expanduser()
    if _camera(path) is not None:
        return False
    is_listing = path.suffix.lower() in LIST_SUFFIXES | VIDEO_SUFFIXES
    return not is_listing and (path.is_file() or not (path.is_dir() or glob.has_magic(str(path))))


def _is_several(source: Source) -> TypeGuard[Iterable[ImageLike]]:
    if isinstance(
        source, str | bytes | bytearray | memoryview | Image.Image | np.ndarray | Tensor | NamedImage | Mapping
    ):
        return False
    return isinstance(source, Iterable) and not (isinstance(source, os.PathLike) or hasattr(source, "read"))


def _elements(source: Source) -> Iterable[ImageLike]:
    return source if _is_several(source) else [source]  # type: ignore[list-item] # it is one, then


def _items_of(source: _OneOrMany) -> Iterator[Item]:
    if isinstance(source, NamedImage):
        yield Item(source.name, source)
    elif isinstance(source, bytes | bytearray | memoryview):
        yield Item("image", bytes(source))
    elif isinstance(source, np.ndarray | Tensor):
        yield Item("image", source)
    elif isinstance(source, Image.Image):
        yield Item(Path(getattr(source, "filename", "") or "image").name, source)
    elif isinstance(source, str) and _is_url(source):
        yield Item(PurePosixPath(unquote(urlsplit(source).path)).name or "image", source)
    elif isinstance(source, str) and is_remote(source):
        yield from (Item(printable(name), address) for name, address in list_remote(source))
    elif isinstance(source, str) and not source.strip():
        raise DataError("a path in the source is empty", remedy="Is it a variable of the shell that is not set?")
    elif isinstance(source, str | os.PathLike):
        yield from _items_of_path(Path(source).expanduser())
    elif hasattr(source, "read"):
        name = getattr(source, "name", None)
        yield Item((isinstance(name, str) and Path(name).name) or "image", source)
    else:
        raise DataError(
            f"an image cannot be read from a {type(source).__name__}",
            remedy="Give a path, a URL, a PIL image, a uint8 array [H, W, 3] in RGB, a tensor [3, H, W], encoded "
            "bytes, a file opened with 'rb', or several of these.",
        )


def _items_of_path(path: Path) -> Iterator[Item]:
    if path.is_dir():
        yield from _images_below(path, walk(path), "the folder holds no images")
    elif not path.exists() and glob.has_magic(str(path)):
        start = Path(*takewhile(lambda part: not glob.has_magic(part), path.parts))
        yield from _images_below(start, matching(path), "nothing matches")
    elif path.suffix.lower() in LIST_SUFFIXES:
        yield from _listed(path)
    elif (camera := _camera(path)) is not None:
        yield Item(f"camera_{camera.number}", camera)
    else:
        yield Item(printable(path.name), path)


def _camera(path: Path) -> Camera | None:
    """The camera that a number of one or two digits stands for, where there is no such file."""
    text = str(path)
    return Camera(int(text)) if text.isdecimal() and len(text) <= 2 and not path.exists() else None


def _is_video_url(url: str) -> bool:
    return PurePosixPath(unquote(urlsplit(url).path)).suffix.lower() in VIDEO_SUFFIXES


@contextmanager
def _video_of(content: Any, opening: Opening) -> Iterator[Path | Camera]:
    """A video as OpenCV opens it; one behind a URL is fetched into a temporary file."""
    if not isinstance(content, str):
        yield content
        return
    suffix = PurePosixPath(unquote(urlsplit(content).path)).suffix
    with NamedTemporaryFile(suffix=suffix) as file:
        fetch_into(file, content, _VIDEOS, opening.allow_private_urls)
        file.flush()
        try:
            yield Path(file.name)
        except DataError as error:
            error.where = content
            raise


def _images_below(folder: Path, found: Iterator[Path], otherwise: str) -> Iterator[Item]:
    suffixes = image_suffixes() | VIDEO_SUFFIXES
    paths, others = [], []
    for path in found:
        inside = path.relative_to(folder)
        if any(part.startswith(".") for part in inside.parts) or _is_folder(path):
            continue
        if path.suffix.lower() in suffixes:  # a pipe or a link that leads nowhere, too: reading it says so
            paths.append((inside, path))
        else:
            others.append(path.suffix.lower() or "without a suffix")
    skipped = ", ".join(f"{number:,} {suffix}" for suffix, number in Counter(sorted(others)).most_common())
    if not paths:
        there = f", only other files: {skipped}" if others else ""
        raise DataError(
            f"{otherwise}{there}", where=folder, remedy="Name a file of another suffix itself, or save it as PNG."
        )
    if others:
        log.warning("Files in %s that are no images or videos, by their suffix, are left out: %s", folder, skipped)
    for inside, path in sorted(paths, key=lambda pair: natural(pair[0])):
        yield Item(printable(inside.as_posix()), path)


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:
        return False


def _listed(path: Path) -> Iterator[Item]:
    for entry in entries_of(path):
        if _is_url(entry) or is_remote(entry):
            yield from _items_of(entry)
            continue
        beside = path.parent / entry
        target = beside if not Path(entry).exists() and beside.exists() else Path(entry)
        plain = not Path(entry).is_absolute() and ".." not in Path(entry).parts
        yield Item(Path(entry).as_posix() if plain else target.name, target)


def _is_url(text: str) -> bool:
    return text.lower().startswith(("http://", "https://"))
