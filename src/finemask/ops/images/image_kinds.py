"""What image files are: the suffixes that can be read, and the values of those that hold more than 8 bits."""

import io
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageFile, UnidentifiedImageError, features

from finemask.ops.images.decode import EXIF_ORIENTATION, holds_16_bits, known_channels, page_of, wide_colours
from finemask.ops.images.image_reading import AS_THE_FILE_SAYS, ImageReading, chosen_channels
from finemask.ops.images.tiff import TiffPage, read_page, tiff_pages

_NOT_DECODED = {"EPS", "IPTC", "MPEG"}  # Pillow tells what these are, or asks another program for their pixels
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


@cache
def image_suffixes() -> frozenset[str]:
    """Suffixes of the image files that can be read here, lower case, with their dot."""
    suffixes = Image.registered_extensions()
    return frozenset(suffix for suffix, kind in suffixes.items() if kind in Image.OPEN and _is_decoded(kind))


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
    try:
        with Image.open(path) as image:
            orientation = int(image.getexif().get(EXIF_ORIENTATION, 1))
            return (image.height, image.width), orientation if 1 <= orientation <= 8 else 1
    except UnidentifiedImageError:
        pages = tiff_pages(path.read_bytes())  # of which Pillow knows some only
        if not pages:
            raise
        return pages[0].shape[:2], pages[0].orientation


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
    what = (
        f"{channels} channels"
        if known is None or channels > 4
        else {1: "grey", 2: "grey with alpha", 3: "RGB"}.get(channels, "RGBA")
    )
    return f"TIFF, {value} {what}" + (f", page of {pages}" if pages > 1 else "")
