"""An image on its way in: the body of a request, the part of a form, an address; and what is refused of it unread."""

import asyncio
import io
import json
import time
from collections.abc import Callable
from functools import cache
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from finemask.errors import DataError, MissingExtraError, UndecidedImageError
from finemask.ops.images.decode import decode_image
from finemask.ops.images.image_kinds import readable_formats
from finemask.ops.images.image_reading import ImageReading
from finemask.ops.images.tiff import TiffPage, tiff_pages
from finemask.serving.refusals import RefusalError

if TYPE_CHECKING:
    from starlette.requests import Request

_FORMATS = ("JPEG", "MPO", "PNG", "TIFF", "WEBP", "BMP", "GIF", "AVIF", "JPEG2000", "PPM")  # by Pillow's names
_JPEG, _SCAN = b"\xff\xd8", b"\xff\xda"
_MOST_SCANS = 100  # of a progressive JPEG file, which has about ten: each takes as long as an image
_TILE = (322, 323)  # tags of TIFF: width and height
_RAW = "application/octet-stream"
_MAX_NAME = 200
_MOST_PARTS, _MOST_HEADERS = 20, 80  # of a form: each costs time


class ReceivedImage(NamedTuple):
    """The file of an image as a client sent it."""

    content: bytes
    name: str | None


async def read_body(request: "Request", max_bytes: int, hold: Callable[[int], None], deadline: float) -> bytes:
    """The body of a request.

    Args:
        request: none of whose body was read.
        max_bytes: of it.
        hold: is told of every piece.
        deadline: of ``time.monotonic``.

    Raises:
        RefusalError: it is too large, or comes too slowly, or not in full.
    """
    from starlette.requests import ClientDisconnect

    stated = request.headers.get("content-length", "")
    if stated.isdecimal() and int(stated) > max_bytes:
        raise body_too_large(max_bytes)
    body = bytearray()
    try:
        async with asyncio.timeout(deadline - time.monotonic()):
            async for piece in request.stream():
                if len(body) + len(piece) > max_bytes:
                    raise body_too_large(max_bytes)
                hold(len(piece))
                body += piece
    except TimeoutError:
        raise RefusalError(
            408, "too-slow", f"the request was not complete in time: {len(body):,} bytes of it came",
            remedy="Send it faster, or a smaller image.", headers={"connection": "close"},
        ) from None  # fmt: skip
    except ClientDisconnect:
        raise client_gone() from None
    return bytes(body)


def client_gone() -> RefusalError:
    """What is written down where nobody is left to be answered."""
    return RefusalError(499, "client-gone", "the client has gone")


def body_too_large(max_bytes: int) -> RefusalError:
    """The refusal of a body over the limit."""
    return RefusalError(
        413,
        "body-too-large",
        f"the request is larger than {max_bytes:,} bytes",
        remedy="Send a smaller file, or start the server with a larger max_mb.",
    )


def image_of(body: bytes, content_type: str) -> ReceivedImage:
    """The image in a body: the field ``image`` of a form, or the body itself.

    Args:
        body: of the request.
        content_type: of the request.

    Raises:
        RefusalError: there is none.
    """
    kind = content_type.partition(";")[0].strip().lower()
    if kind == "multipart/form-data":
        return _image_of_form(body, content_type)
    if kind.startswith("image/") or kind == _RAW:
        if not body:
            raise RefusalError(400, "no-image", "the request has no body", remedy="Send the bytes of an image file.")
        return ReceivedImage(body, None)
    shown = f"the content type {kind}" if kind else "a body without a content type"
    raise RefusalError(
        415,
        "unsupported-content-type",
        f"{shown} is not understood",
        remedy="Send the bytes of an image as image/jpeg, image/png, … or application/octet-stream, "
        "or a form (multipart/form-data) with the field image.",
    )


def address_of(body: bytes) -> str:
    """The address in a body of JSON, ``{"url": "https://…"}``.

    Raises:
        RefusalError: it has none.
    """
    content = json_of(body)
    address = content.get("url") if isinstance(content, dict) else None
    if not isinstance(address, str) or not address.lower().startswith(("http://", "https://")):
        raise RefusalError(400, "bad-json", "the body names no address", remedy='Send {"url": "https://…"}.')
    return address


def json_of(body: bytes) -> Any:
    """The content of a body of JSON.

    Raises:
        RefusalError: it is none.
    """
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as error:
        raise RefusalError(400, "bad-json", f"the body is not JSON ({error})") from None


def _image_of_form(body: bytes, content_type: str) -> ReceivedImage:
    try:
        from python_multipart.exceptions import FormParserError
        from python_multipart.multipart import MultipartParser, parse_options_header
    except ImportError as error:
        raise MissingExtraError("python-multipart", "serve", needed_for="the server") from error
    boundary = parse_options_header(content_type)[1].get(b"boundary", b"")
    found: list[tuple[str, bytes]] = []  # of each field: its disposition, its content
    name, value, content = bytearray(), bytearray(), bytearray()
    disposition = ""

    parts = headers = 0

    def begin() -> None:
        nonlocal disposition, parts
        disposition = ""
        content.clear()
        parts += 1
        if parts > _MOST_PARTS:
            raise RefusalError(400, "bad-form", f"the form has more than {_MOST_PARTS} parts")

    def header_end() -> None:
        nonlocal disposition, headers
        headers += 1
        if headers > _MOST_HEADERS:
            raise RefusalError(400, "bad-form", f"the parts of the form have more than {_MOST_HEADERS} headers")
        if bytes(name).lower() == b"content-disposition":
            disposition = bytes(value).decode("utf-8", "replace")
        name.clear()
        value.clear()

    parser = None
    try:
        parser = MultipartParser(
            boundary,
            {
                "on_part_begin": begin,
                "on_header_field": lambda data, start, end: name.extend(data[start:end]),
                "on_header_value": lambda data, start, end: value.extend(data[start:end]),
                "on_header_end": header_end,
                "on_part_data": lambda data, start, end: content.extend(data[start:end]),
                "on_part_end": lambda: found.append((disposition, bytes(content))),
            },
        )
        parser.write(body)
        parser.finalize()
    except (FormParserError, ValueError) as error:
        raise RefusalError(400, "bad-form", f"the form cannot be read ({error})") from None
    for stated, image in found:
        options = parse_options_header(stated)[1]
        if options.get(b"name") == b"image":
            if not image:
                raise RefusalError(400, "no-image", "the field image is empty")
            return ReceivedImage(image, plain_name(options.get(b"filename", b"").decode("utf-8", "replace")))
    raise RefusalError(400, "no-image", "the form has no field image", remedy="With curl: -F image=@photo.jpg")


def plain_name(name: str) -> str | None:
    """The last part of a path that a client sent, without what cannot be printed; None: nothing is left."""
    last = PurePosixPath(name.replace("\\", "/")).name
    shown = "".join(letter for letter in last if letter.isprintable())[:_MAX_NAME]
    return None if shown in ("", ".", "..") else shown


@cache
def accepted_formats() -> tuple[str, ...]:
    """What is taken from strangers: Pillow's readers of rarer formats are not shown to them."""
    return tuple(kind for kind in _FORMATS if kind in readable_formats())


def check_image(content: bytes, max_pixels: int) -> None:
    """Looks at the head of an image file, before anything is decoded.

    Raises:
        RefusalError: it is no image that can be read here, or one of too many pixels, or one made to take long.
    """
    try:
        size = _size_of(content)
    except Image.DecompressionBombError:
        raise RefusalError(413, "image-too-large", f"the image has more than {max_pixels:,} px") from None
    if size is None:
        raise RefusalError(
            415,
            "not-an-image",
            "this is not an image in a format that can be read",
            remedy="Send JPEG, PNG, TIFF, WebP or BMP.",
        )
    width, height = size
    if width * height > max_pixels:
        raise RefusalError(
            413,
            "image-too-large",
            f"the image has {width:,} × {height:,} px; {max_pixels:,} may be in one",
            remedy="Send it smaller or in pieces, or start the server with a larger max_megapixels.",
        )
    if content.startswith(_JPEG) and (scans := content.count(_SCAN)) > _MOST_SCANS:
        raise RefusalError(
            422,
            "unreadable-image",
            f"the image goes over its pixels {scans} times; {_MOST_SCANS} times may be",
            remedy="Save it again as an ordinary JPEG file.",
        )


def decode_received(content: bytes, reading: ImageReading) -> NDArray[np.uint8]:
    """An image that ``check_image`` let pass, uint8 [H, W, 3], RGB.

    Raises:
        RefusalError: it is damaged, or holds more than one picture of 8 bits.
    """
    try:
        return decode_image(content, None, reading, accepted_formats())
    except UndecidedImageError as error:
        remedy = f"Send one 8-bit picture, or start the server with image.{error.choice}={error.example}."
        raise RefusalError(422, "undecided-image", error.what, remedy=remedy) from None
    except DataError as error:
        remedy = "Send it again, or save it again as PNG or JPEG."
        raise RefusalError(422, "unreadable-image", error.what, remedy=remedy) from None


def _size_of(content: bytes) -> tuple[int, int] | None:
    """Width and height by the head of a file, of what takes most memory in it; None for what is no image."""
    try:
        if pages := tiff_pages(content):
            return max((_size_of_page(page) for page in pages), key=lambda size: size[0] * size[1])
        with Image.open(io.BytesIO(content), formats=accepted_formats()) as image:
            return image.size
    except Image.DecompressionBombError:
        raise
    except Exception:  # a damaged file may be damaged in any way
        return None


def _size_of_page(page: TiffPage) -> tuple[int, int]:
    """Width and height in pixels of up to 8 bytes; those of a tile, where that is larger than its page."""
    height, width, channels = page.shape
    tile_width, tile_height = (page.tags.get(tag, (0,))[0] for tag in _TILE)
    size = max((width, height), (tile_width, tile_height), key=lambda one: one[0] * one[1])
    value_bytes = 8 if page.dtype is None else page.dtype.itemsize
    return size[0] * max(1, channels * value_bytes // 8), size[1]
