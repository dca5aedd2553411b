"""TIFF files as arrays: every page, any number of channels, integers and floats of 8 to 64 bits.

Pillow reads the pictures among TIFF files and OpenCV some more; neither has more than four channels, and of channels
that are stored apart both give wrong pixels. Here the directory of a file is read, and its strips or tiles put together
as they are; libtiff, through Pillow, undoes the compressions that Python cannot.
"""

import io
import mmap
import struct
import zlib
from collections.abc import Sequence
from math import ceil
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from finemask.errors import UndecidedImageError
from finemask.ops.images.image_reading import ImageReading
from finemask.ops.wording import plural

_STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_FORMATS = {1: "B", 3: "H", 4: "I", 16: "Q"}  # of numbers in a directory: byte, short, long, long of BigTIFF
_DOUBLE = 12
_MOST_PAGES = 65536
_NONE, _PACKBITS, _DEFLATE = 1, 32773, (8, 32946)
_BY_LIBTIFF = (5, _PACKBITS, 34925, 50000)  # LZW, PackBits, LZMA, Zstandard
WHITE_IS_ZERO, BLACK_IS_ZERO, RGB = 0, 1, 2
"""Meanings of a page's values that an array can stand for; palettes, CMYK and others have to be converted."""


class TiffPage(NamedTuple):
    """A page, as its directory describes it.

    Args:
        number: of its directory in the file, from 0.
        shape: height, width, channels.
        dtype: of a value, in the file's byte order; None for other numbers of bits than 8, 16, 32 and 64.
        meaning: of the values: ``WHITE_IS_ZERO``, ``BLACK_IS_ZERO``, ``RGB``, or another number of the TIFF standard.
        extra: what the channels beyond grey or RGB are: 1 and 2 are alpha, 0 is not said.
        is_main: whether it is no smaller copy and no mask of another page.
        orientation: as in EXIF, 1 to 8.
        tags: the whole numbers of its directory by tag.
        reals: its doubles by tag.
    """

    number: int
    shape: tuple[int, int, int]
    dtype: np.dtype[Any] | None
    meaning: int
    extra: tuple[int, ...]
    is_main: bool
    orientation: int
    tags: dict[int, tuple[int, ...]]
    reals: dict[int, tuple[float, ...]]

    @property
    def can_be_read(self) -> bool:
        """Whether ``read_page`` can make an array of it."""
        compressions = (_NONE, *_DEFLATE, *_BY_LIBTIFF)
        return self.dtype is not None and self.tags.get(259, (_NONE,))[0] in compressions


def tiff_pages(encoded: bytes | mmap.mmap) -> list[TiffPage]:
    """All pages of a file, in order; none if it is no TIFF file. A file that is mapped need not fit into memory.

    Raises:
        ValueError: the file is damaged.
    """
    if encoded[:4] not in _STARTS:
        return []
    order, big = "<" if encoded[:2] == b"II" else ">", encoded[2:4] in (b"+\0", b"\0+")
    pages: list[TiffPage] = []
    seen: set[int] = set()
    left = len(encoded)  # that its directories may name: where they name the same ones again and again, it is none
    try:
        (at,) = struct.unpack_from(order + ("Q" if big else "I"), encoded, 8 if big else 4)
        while at and at not in seen and len(pages) < _MOST_PAGES:
            seen.add(at)
            tags, reals, at = _directory(encoded, at, order, big, left)
            left -= sum(map(len, (*tags.values(), *reals.values())))
            pages.append(_page(len(pages), tags, reals, order))
    except (struct.error, ValueError) as error:
        if not pages:  # what points nowhere behind a sound page is overlooked, as libtiff does
            raise ValueError(f"its directory is damaged: {error}") from None
    return pages


def stack_of(pages: Sequence[TiffPage]) -> list[TiffPage]:
    """The pages that stand for pictures of their own: no masks, and no copies of half the size or less."""
    main = [page for page in pages if page.is_main] or list(pages[:1])
    height, width, _ = main[0].shape
    return [page for page in main if page is main[0] or 2 * page.shape[0] > height or 2 * page.shape[1] > width]


def page_of(pages: list[TiffPage], reading: ImageReading, name: str) -> TiffPage:
    """The page of a TIFF file that is chosen, or the only one.

    Raises:
        UndecidedImageError: there are several, or there is no such page.
    """
    stack = stack_of(pages)
    if reading.page is None and len(stack) == 1:
        return stack[0]
    choices = stack if reading.page is None else pages
    if reading.page is not None and reading.page < len(pages):
        return pages[reading.page]
    height, width, _ = pages[0].shape
    has = plural(len(choices), "page")
    which = "" if reading.page is None else f"; page {reading.page}, counted from 0, was chosen"
    each = "" if len(choices) == 1 else " each" if len({page.shape[:2] for page in choices}) == 1 else " and others"
    raise UndecidedImageError(
        f"it has {has} of {width} × {height} px{each}{which}",
        choice="page",
        example="0",
        where=name,
        otherwise=f", up to {len(pages) - 1}" if len(pages) > 1 else "",
    )


def known_channels(page: TiffPage) -> tuple[int, ...] | None:
    """The channels of a page that its file calls grey, or red, green and blue; None if it does not say."""
    if page.meaning == RGB and page.shape[2] >= 3:
        return (0, 1, 2)
    with_alpha = page.extra and all(kind in (1, 2) for kind in page.extra)
    return (0,) if page.shape[2] == 1 or with_alpha else None


def is_for_pillow(page: TiffPage, reading: ImageReading) -> bool:
    """Whether Pillow reads a page as it should be: 8 bits, grey or colours, perhaps with alpha."""
    if page.meaning not in (WHITE_IS_ZERO, BLACK_IS_ZERO, RGB):
        return True
    channels, together = page.shape[2], page.tags.get(284, (1,))[0] == 1
    grey = channels == 1 or (channels == 2 and together and page.extra in ((1,), (2,)))
    colours = page.meaning == RGB and channels >= 3 and (together or channels == 3)
    is_chosen = reading.channels is not None and channels > 1
    return page.dtype == np.uint8 and (grey or colours) and not is_chosen


def read_page(encoded: bytes, page: TiffPage) -> NDArray[Any]:
    """The values of a page as they are stored.

    Args:
        encoded: the file.
        page: one of its pages that ``can_be_read``.

    Returns:
        [H, W, C], in the machine's byte order.

    Raises:
        ValueError: the file is damaged, or cut off.
    """
    assert page.dtype is not None
    height, width, channels = page.shape
    tags = page.tags
    apart = channels if tags.get(284, (1,))[0] == 2 else 1  # one plane a channel
    tiled = 322 in tags and 323 in tags
    piece_w = tags[322][0] if tiled else width
    piece_h = tags[323][0] if tiled else max(1, min(tags.get(278, (height,))[0], height))
    across, down = ceil(width / max(1, piece_w)), ceil(height / max(1, piece_h))
    offsets, counts = (tags.get(key, ()) for key in ((324, 325) if tiled else (273, 279)))
    if min(len(offsets), len(counts)) < across * down * apart or 0 in page.shape:
        raise ValueError("its directory names too few strips or tiles")
    values = np.empty(page.shape, dtype=page.dtype.newbyteorder("="))
    for k in range(across * down * apart):
        plane, place = divmod(k, across * down)
        y, x = place // across * piece_h, place % across * piece_w
        rows = piece_h if tiled else min(piece_h, height - y)
        piece = _piece(encoded[offsets[k] : offsets[k] + counts[k]], page, (rows, piece_w, channels // apart))
        first = plane * (channels // apart)
        shown = values[y : y + rows, x : x + piece_w, first : first + channels // apart]
        shown[:] = piece[: shown.shape[0], : shown.shape[1]]
    return values


def _directory(
    encoded: bytes | mmap.mmap, at: int, order: str, big: bool, most: int
) -> tuple[dict[int, tuple[int, ...]], dict[int, tuple[float, ...]], int]:
    """The whole numbers of a directory by tag, its doubles, ``most`` of both, and where the next one begins."""
    head, entry = ("Q", "HHQQ") if big else ("H", "HHII")
    (count,) = struct.unpack_from(order + head, encoded, at)
    at += struct.calcsize(order + head)
    step, inline = struct.calcsize(order + entry), 8 if big else 4
    tags: dict[int, tuple[int, ...]] = {}
    reals: dict[int, tuple[float, ...]] = {}
    for start in range(at, at + count * step, step):
        tag, kind, length, value = struct.unpack_from(order + entry, encoded, start)
        letter = "d" if kind == _DOUBLE else _FORMATS.get(kind)
        if letter is None:
            continue
        size = struct.calcsize(order + letter) * length
        place = start + step - inline if size <= inline else value
        if place + size > len(encoded):
            raise ValueError("the file is cut off")
        most -= length
        if most < 0:
            raise ValueError("it names more numbers than the file has")
        values = struct.unpack_from(f"{order}{length}{letter}", encoded, place)
        if kind == _DOUBLE:
            reals[tag] = values
        else:
            tags[tag] = values
    (following,) = struct.unpack_from(order + ("Q" if big else "I"), encoded, at + count * step)
    return tags, reals, int(following)


def _page(number: int, tags: dict[int, tuple[int, ...]], reals: dict[int, tuple[float, ...]], order: str) -> TiffPage:
    def first(tag: int, otherwise: int) -> int:
        return (tags.get(tag) or (otherwise,))[0]

    channels = first(277, 1)
    bits, kinds = set(tags.get(258, (1,))), set(tags.get(339, (1,)))
    letter = {1: "u", 2: "i", 3: "f", 4: "u"}.get(kinds.pop(), "") if len(kinds) == 1 else ""
    width = bits.pop() if len(bits) == 1 else 0
    sound = letter and width in ((16, 32, 64) if letter == "f" else (8, 16, 32, 64))
    return TiffPage(
        number,
        (first(257, 0), first(256, 0), channels),
        np.dtype(f"{order}{letter}{width // 8}") if sound else None,
        first(262, BLACK_IS_ZERO),
        tags.get(338, ()),
        not first(254, 0) & 0b101,
        first(274, 1) if first(274, 1) in range(1, 9) else 1,
        tags,
        reals,
    )


def _piece(part: bytes, page: TiffPage, shape: tuple[int, int, int]) -> NDArray[Any]:
    """A strip or tile, [h, w, c], in the machine's byte order."""
    assert page.dtype is not None
    compression = page.tags.get(259, (_NONE,))[0]
    predictor = 1 if compression in (_NONE, _PACKBITS) else page.tags.get(317, (1,))[0]  # of the others only
    rows, row_bytes = shape[0], shape[1] * shape[2] * page.dtype.itemsize
    if compression in _DEFLATE:
        part = zlib.decompressobj().decompress(part, rows * row_bytes)
    elif compression in _BY_LIBTIFF:
        part = _by_libtiff(part, compression, rows, row_bytes)
    if len(part) < rows * row_bytes:
        raise ValueError("the file is cut off")
    stored = np.frombuffer(part, dtype=np.uint8, count=rows * row_bytes)
    if predictor == 3:  # of floats: differences of bytes, the highest of all values first
        summed = np.cumsum(stored.reshape(rows, -1, shape[2]), axis=1, dtype=np.uint8)
        significant = summed.reshape(rows, page.dtype.itemsize, -1).transpose(0, 2, 1)
        return np.ascontiguousarray(significant).view(page.dtype.newbyteorder(">")).reshape(shape)
    values = stored.view(page.dtype).reshape(shape)
    if predictor == 2:
        native = page.dtype.newbyteorder("=")
        return np.cumsum(values.astype(native), axis=1, dtype=native)
    return values


def _by_libtiff(part: bytes, compression: int, rows: int, row_bytes: int) -> bytes:
    """Decompresses a strip: as the only one of a grey image, whose pixels are its bytes."""
    tags = [(256, row_bytes), (257, rows), (258, 8), (259, compression), (262, 1)]
    tags += [(273, 8), (277, 1), (278, rows), (279, len(part))]
    directory = struct.pack("<H", len(tags)) + b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    padded = part + b"\0" * (len(part) % 2)
    whole = b"II*\0" + struct.pack("<I", 8 + len(padded)) + padded + directory + b"\0\0\0\0"
    try:
        with Image.open(io.BytesIO(whole)) as image:
            return image.tobytes()
    except Exception as error:  # Pillow's format plugins raise nearly anything on damaged files
        raise ValueError(f"a strip cannot be decompressed ({error})") from None
