"""Where image files really are, and what they hold: each is decoded once, whichever rule asks and however often."""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from finemask.coco.image_names import FileNames, Meant
from finemask.datatools.check.document import Document, ImageRow
from finemask.datatools.image_hash import NO_HASH, hash_open_image, hash_pixels
from finemask.errors import DataError, UndecidedImageError
from finemask.ops.images.decode import decode_image
from finemask.ops.images.image_kinds import exif_orientation, is_plain
from finemask.ops.images.image_reading import AS_THE_FILE_SAYS, ImageReading
from finemask.ops.images.tiff import TiffPage, page_of, tiff_pages

_ANY_READING = ImageReading(page=0, range="image")  # of more than 8 bits: how bright it is makes no difference
_THREADS = 8  # decoding lets go of the interpreter's lock
_REMEMBERED = 2**20  # files; a few hundred bytes each


class Fault(Enum):
    """What keeps a file from being an image."""

    MISSING = "missing"
    EMPTY = "empty"
    UNREADABLE = "unreadable"
    DAMAGED = "damaged"
    UNDECIDED = "undecided"


@dataclass(frozen=True, slots=True)
class ImageFacts:
    """One file.

    Args:
        fault: None when it can be decoded.
        reason: what is wrong, when something is.
        raw_hw: height and width of the stored pixels; None when not even the header can be read.
        orientation: EXIF orientation, 1 to 8; 1 when the file states none.
        hash: perceptual hash of the upright image; see ``finemask.datatools.image_hash``.
        choice: what has to be chosen before the image can be read, when it is undecided.
        example: a value for it.
    """

    fault: Fault | None = None
    reason: str = ""
    raw_hw: tuple[int, int] | None = None
    orientation: int = 1
    hash: int = NO_HASH
    choice: str | None = None
    example: str = ""

    @property
    def upright_hw(self) -> tuple[int, int] | None:
        """Height and width after the EXIF orientation is applied."""
        if self.raw_hw is None or self.orientation < 5:
            return self.raw_hw
        return self.raw_hw[::-1]


def facts_of(
    paths: Sequence[Path],
    progress: Callable[[int, int], object] | None = None,
    reading: ImageReading = AS_THE_FILE_SAYS,
) -> Iterator[ImageFacts]:
    """Facts of files in their order, read by several threads; known ones are not read again.

    Args:
        paths: the files.
        progress: told how many are done, of how many.
        reading: what training will read of files that hold more than one 8-bit picture.
    """
    with ThreadPoolExecutor(_THREADS) as pool:
        try:
            for done, facts in enumerate(pool.map(lambda path: facts_of_file(path, reading), paths), start=1):
                if progress is not None:
                    progress(done, len(paths))
                yield facts
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def hash_images(paths: Sequence[Path], progress: Callable[[], object] | None = None) -> NDArray[np.uint64]:
    """Perceptual hashes of many files, upright by their EXIF orientation.

    Args:
        paths: the files, n of them.
        progress: called after each file.

    Returns:
        uint64 [n]; ``NO_HASH`` for a file that cannot be read and for an image without structure.
    """
    found = facts_of(paths, None if progress is None else lambda done, total: progress(), _ANY_READING)
    return np.fromiter((facts.hash for facts in found), dtype=np.uint64, count=len(paths))


def facts_of_file(path: Path, reading: ImageReading = AS_THE_FILE_SAYS) -> ImageFacts:
    """Decodes a file, unless it has been decoded before and has not changed since."""
    try:
        state = path.stat()
    except OSError as error:
        return ImageFacts(Fault.MISSING, error.strerror or str(error))
    if state.st_size == 0:
        return ImageFacts(Fault.EMPTY, "the file has 0 bytes")
    return _decoded(path, state.st_mtime_ns, state.st_size, reading)


@lru_cache(_REMEMBERED)
def _decoded(path: Path, mtime_ns: int, size: int, reading: ImageReading) -> ImageFacts:
    raw_hw, orientation = None, 1
    try:
        if pages := _tiff_pages(path):  # of which Pillow knows some only
            page = page_of(pages, reading, str(path))
            raw_hw, orientation = page.shape[:2], page.orientation
            value = hash_pixels(decode_image(path, None, reading))
        else:
            with Image.open(path) as image:
                raw_hw = (image.height, image.width)
                quick = is_plain(image) and not reading.page  # asked first: looking for an orientation may decode
                orientation = exif_orientation(image, path)
                value = hash_open_image(image) if quick else hash_pixels(decode_image(path, None, reading))
    except UndecidedImageError as error:
        return ImageFacts(Fault.UNDECIDED, error.what, raw_hw, choice=error.choice, example=error.example)
    except Exception as error:  # Pillow's format plugins raise nearly anything on damaged files
        fault = Fault.UNREADABLE if raw_hw is None else Fault.DAMAGED
        reason = error.what if isinstance(error, DataError) else _reason(path, error)
        return ImageFacts(fault, reason, raw_hw)
    return ImageFacts(None, "", raw_hw, orientation, value)


def _tiff_pages(path: Path) -> list[TiffPage]:
    """All pages of a TIFF file; of any other file only the first bytes are read."""
    with path.open("rb") as file:
        start = file.read(4)
        return tiff_pages(start + file.read()) if start[:2] in (b"II", b"MM") else []


def _reason(path: Path, error: Exception) -> str:
    """In the words of the decoder that training uses."""
    try:
        decode_image(path)
    except DataError as known:
        return known.what
    except MemoryError:
        return "it does not fit into memory"
    return f"the image cannot be read ({error})"


@dataclass(frozen=True, slots=True)
class Place:
    """Where the file of an image is.

    Args:
        row: the image.
        path: the file as the annotations name it.
        exists: whether there is a file.
        leads_to: the file outside the images folder that a link leads to; None for a file inside.
        meant: the one file that the name differs from by its spelling only, when it does not exist itself.
    """

    row: ImageRow
    path: Path
    exists: bool
    leads_to: str | None = None
    meant: Meant | None = None

    @property
    def is_sound(self) -> bool:
        """Whether the file is there and inside."""
        return self.exists and self.leads_to is None


def places_of(document: Document) -> Iterator[Place]:
    """The place of each image; nothing when the folder of images is not known."""
    if document.images_dir is None:
        return
    root = Path(os.path.realpath(document.images_dir))
    folders: dict[str, _Folder] = {}
    names: FileNames | None = None
    for row in document.images:
        name = PurePosixPath(row.file_name)
        parent = str(name.parent)
        if parent not in folders:
            folders[parent] = _Folder(root / parent, root)
        folder = folders[parent]
        path = document.images_dir / row.file_name
        if name.name not in folder.is_link:
            names = names or FileNames.below(root)
            yield Place(row, path, False, meant=names.meant_by(row.file_name))
        elif folder.leads_out or folder.is_link[name.name]:
            real = Path(os.path.realpath(path))
            exists = real.is_file()
            yield Place(row, path, exists, str(real) if exists and not real.is_relative_to(root) else None)
        else:
            yield Place(row, path, True)


class _Folder:
    """A listing of a folder.

    Attributes:
        leads_out: whether the folder itself is outside of the root.
        is_link: by name, whether an entry is a link; folders are left out.
    """

    def __init__(self, path: Path, root: Path) -> None:
        self.leads_out = not Path(os.path.realpath(path)).is_relative_to(root)
        self.is_link: dict[str, bool] = {}
        try:
            with os.scandir(path) as entries:
                for entry in entries:
                    if not entry.is_dir(follow_symlinks=False):
                        self.is_link[entry.name] = entry.is_symlink()
        except (OSError, ValueError):
            return
