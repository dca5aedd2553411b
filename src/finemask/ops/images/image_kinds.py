"""What an image file holds, before it is decoded: suffixes, stored size, kind of values, plain JPEG or 16-bit PNG."""

import io
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from threading import RLock

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile, UnidentifiedImageError, features

from finemask.ops.files.documents import check_plain_file
from finemask.ops.images.image_reading import AS_THE_FILE_SAYS, ImageReading, chosen_channels
from finemask.ops.images.tiff import TiffPage, known_channels, page_of, read_page, tiff_pages

EXIF_ORIENTATION = 0x0112
_PNG_TEXT = (b"Raw profile type exif\0", b"XML:com.adobe.xmp\0")  # that may state an orientation, as an eXIf chunk does
_NOT_DECODED = {"EPS", "IPTC", "MPEG"}  # Pillow tells what these are, or asks another program for their pixels
_LIFTED = RLock()  # the limit is one for all: a second thread would take None for it
_NEEDS = {"AVIF": "avif", "JPEG2000": "jpg_2000", "WEBP": "webp"}  # libraries that a build of Pillow may lack
_MODES = {
    "1": "black and white",
    "L": "8-bit grey",
    "LA": "8-bit grey with alpha",
    "RGB": "8-bit RGB",
    "RGBA": "8-bit RGBA",
    "P": "palette",
    "I;16": "16-bit grey",
    "I": "32-bit grey",
    "F": "float grey",
}

# of JPEG files:
_START, _END = b"\xff\xd8", b"\xff\xd9"
_RESTART = 0xD0  # .. 0xD7
_FRAME, _SCAN, _JFIF, _PROFILE = 0xC0, 0xDA, 0xE0, 0xE2
_HARMLESS = {0xC4, 0xDB, 0xDD, 0xFE, _JFIF}  # Huffman and quantisation tables, restart interval, comment
_THREE_COLOURS = b"\1\2\3"  # ids of components that are luminance and two of chrominance, unless Adobe says otherwise


@cache
def image_suffixes() -> frozenset[str]:
    """Suffixes of the image files that can be read here, lower case, with their dot."""
    suffixes = Image.registered_extensions()
    return frozenset(suffix for suffix, kind in suffixes.items() if kind in readable_formats())


@cache
def readable_formats() -> tuple[str, ...]:
    """Pillow's names of the formats that it decodes by itself, asking no other program (as for EPS it would)."""
    Image.init()
    return tuple(kind for kind in Image.OPEN if _is_decoded(kind))


def _is_decoded(kind: str) -> bool:
    factory = Image.OPEN[kind][0]
    stub = isinstance(factory, type) and issubclass(factory, ImageFile.StubImageFile)
    return not stub and kind not in _NOT_DECODED and (kind not in _NEEDS or bool(features.check(_NEEDS[kind])))


def is_plain(image: Image.Image) -> bool:
    """Whether Pillow reads all that matters of an image that it has just opened: one 8-bit picture, no TIFF file."""
    return image.format != "TIFF" and not image.mode.startswith(("I", "F")) and not holds_16_bits(image)


def stored_size(path: Path) -> tuple[tuple[int, int], int]:
    """Height and width of the stored pixels, and the EXIF orientation, 1 to 8; read off the header, of the first page.

    Raises:
        Exception: of any kind, where the file is damaged or no image: Pillow's format plugins raise nearly anything.
    """
    check_plain_file(path)
    try:
        with Image.open(path) as image:
            return (image.height, image.width), exif_orientation(image, path)
    except UnidentifiedImageError:
        # TIFF, of which Pillow knows some kinds only; anything else is not read, for it may be of any size.
        pages = tiff_pages(path.read_bytes()) if begins_as_tiff(path) else []
        if not pages:
            raise
        return pages[0].shape[:2], pages[0].orientation


def begins_as_tiff(path: Path) -> bool:
    """Whether a file's first bytes are those of TIFF or BigTIFF."""
    with path.open("rb") as file:
        return file.read(4) in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


def exif_orientation(image: Image.Image, path: Path) -> int:
    """The EXIF orientation, 1 to 8, of a file that Pillow has just opened; 1 when it states none.

    Pillow decodes a PNG file for it, which may be told behind the pixels; here these are skipped where it is not.
    """
    ahead = image.format == "PNG" and not _may_tell_behind_pixels(path)
    exif = Image.Image.getexif(image) if ahead else image.getexif()
    orientation = exif.get(EXIF_ORIENTATION, 1)
    return int(orientation) if orientation in range(1, 9) else 1


def _may_tell_behind_pixels(path: Path) -> bool:
    """Whether an orientation may stand behind the pixels of a PNG file; also of one that is cut off."""
    with path.open("rb", buffering=0) as file:
        at, end, pixels = 8, os.fstat(file.fileno()).st_size, False
        while at < end:
            file.seek(at)
            length, kind, text = struct.unpack(">I4s22s", file.read(30).ljust(30, b"\0"))
            if kind == b"IEND":
                return False
            if pixels and (kind == b"eXIf" or text.startswith(_PNG_TEXT)):
                return True
            pixels |= kind == b"IDAT"
            at += 12 + length
    return True


def upright_size(path: Path) -> tuple[int, int] | None:
    """Height and width of an image as it is to be shown; None where its header does not say: reading it says why."""
    try:
        with any_size():
            size_hw, orientation = stored_size(path)
    except Exception:  # see stored_size
        return None
    return size_hw[::-1] if orientation >= 5 else size_hw


@contextmanager
def any_size() -> Iterator[None]:
    """Lifts Pillow's limit while the header of a file is read: whoever asks judges its size. One thread at a time."""
    with _LIFTED:
        limit = Image.MAX_IMAGE_PIXELS
        Image.MAX_IMAGE_PIXELS = None
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS = limit


def kind_of(path: Path, reading: ImageReading = AS_THE_FILE_SAYS) -> tuple[str, tuple[float, float] | None]:
    """Format and kind of values of a file that can be decoded.

    Args:
        path: the file.
        reading: what is read of it.

    Returns:
        Words such as ``PNG, 8-bit grey``; and of values of more than 8 bits the least and the greatest one.
    """
    encoded, name = path.read_bytes(), str(path)
    pages = tiff_pages(encoded)
    page = page_of(pages, reading, name) if pages else None
    if page is not None and page.can_be_read and page.meaning <= 2 and (page.dtype != np.uint8 or page.shape[2] != 1):
        if page.dtype == np.uint8:
            return _kind_of_page(page, len(pages)), None
        values = chosen_channels(read_page(encoded, page), reading, name, known_channels(page))
        return _kind_of_page(page, len(pages)), (float(values.min()), float(values.max()))
    with Image.open(io.BytesIO(encoded)) as image:
        kind = f"{image.format}, {_MODES.get(image.mode, image.mode)}"
        if is_plain(image) or image.format == "TIFF":
            return kind, None
        wide = wide_colours(encoded, image)
        stored = np.asarray(image) if wide is None else wide
        return kind if wide is None else kind.replace("8-bit", "16-bit"), (float(stored.min()), float(stored.max()))


def _kind_of_page(page: TiffPage, pages: int) -> str:
    assert page.dtype is not None
    bits, channels = 8 * page.dtype.itemsize, page.shape[2]
    value = {"f": f"{bits}-bit float", "i": f"signed {bits}-bit"}.get(page.dtype.kind, f"{bits}-bit")
    known = known_channels(page)
    what = {1: "grey", 2: "grey with alpha", 3: "RGB"}.get(channels, "RGBA")
    what = f"{channels} channels" if known is None or channels > 4 else what
    return f"TIFF, {value} {what}" + (f", page of {pages}" if pages > 1 else "")


def holds_16_bits(image: Image.Image) -> bool:
    """Whether Pillow gives only the high byte of an image that it has opened and not yet decoded."""
    arguments = [str(tile[3]) for tile in getattr(image, "tile", None) or ()]
    return image.mode in ("RGB", "RGBA", "LA") and any(";16" in argument for argument in arguments)


def wide_colours(encoded: bytes, image: Image.Image) -> NDArray[np.uint16] | None:
    """16-bit colours [H, W, 3 or 4], or grey [H, W, 1], of a PNG file; None for all other files."""
    if image.format != "PNG" or not holds_16_bits(image):
        return None
    values = cv2.imdecode(np.frombuffer(encoded, dtype=np.uint8), cv2.IMREAD_UNCHANGED)
    wanted = (image.height, image.width)
    if values is None or values.dtype != np.uint16 or values.ndim != 3 or values.shape[:2] != wanted:
        raise ValueError("it is damaged")
    values = values[:, :, [2, 1, 0, 3][: values.shape[2]]]
    return np.asarray(values[:, :, :1] if image.mode == "LA" else values)


def size_of_plain_jpeg(encoded: bytes) -> tuple[int, int] | None:
    """Height and width, if these bytes are a whole baseline JPEG in plain colours that shows as it is stored.

    That is: 8 bits, YCbCr, one scan that nothing but restarts interrupts and that ends with the file; no EXIF, no
    Adobe segment, no second picture. Anything else, for example what is cut off, is left to a careful reader.
    """
    if not (encoded.startswith(_START) and encoded.endswith(_END)):
        return None
    size, at, end = None, 2, len(encoded)
    while at + 4 <= end and encoded[at] == 0xFF:
        marker, length = encoded[at + 1], int.from_bytes(encoded[at + 2 : at + 4], "big")
        body = encoded[at + 4 : at + 2 + length]
        at += 2 + length
        if marker == _SCAN:
            # the scan must be of all components at once; a second one would show as a marker in the first
            return size if body[:1] == b"\3" and _is_uninterrupted(encoded, at) else None
        if marker == _FRAME and size is None and body[:1] == b"\x08" and body[6::3] == _THREE_COLOURS:
            size = int.from_bytes(body[1:3], "big"), int.from_bytes(body[3:5], "big")
        elif marker not in _HARMLESS and not (marker == _PROFILE and body.startswith(b"ICC_PROFILE")):
            return None
    return None


def _is_uninterrupted(encoded: bytes, start: int) -> bool:
    """Whether only stuffing and restarts follow 0xFF from here to the mark at the file's end."""
    scan = np.frombuffer(encoded, dtype=np.uint8)[start:]
    if len(scan) <= len(_END):
        return False
    marked = scan[:-2] == 0xFF
    marked &= scan[1:-1] != 0
    markers = scan[1:-1][marked] if marked.any() else scan[:0]
    return bool((markers & 0xF8 == _RESTART).all())
