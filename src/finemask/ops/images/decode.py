"""The one image decoder: whatever comes in, uint8 RGB goes out.

Training, evaluation, prediction and serving all read images here, so a model sees at prediction exactly what
it was trained on. The rules depend on the *type* of a file and never on its content:

* 8-bit grey, palette, CMYK, YCbCr: converted to RGB.
* Alpha is dropped, not composited, as OpenCV and torchvision do: the colour stored under a transparent pixel
  counts.
* 16-bit integers are divided by 257 (65535 -> 255), rounded; those of colour images by 256. An image that uses a
  small part of that range (12-bit cameras, much microscopy) would be dark, and is refused where it would be black. It
  is not stretched by itself: a stretch by content would give the same object another brightness in every image, and
  another one again in a crop or a tile. Which range becomes 0..255 is chosen once, by ``ImageReading``.
* Floats are taken to be 0..1 and multiplied by 255. Anything outside that range is refused, unless a range is chosen.
* Of an animation the first frame is read. A TIFF file of several equal pages is refused, unless a page is chosen.
* Channels that the file does not call grey or RGB are refused, unless three or one of them are chosen.
* EXIF orientation is applied, unless the annotations were evidently made on the unrotated pixels (see
  ``size_hw``).

Pillow opens a file and decides by these rules; what it cannot read of TIFF, ``finemask.ops.images.tiff`` reads.
Undamaged baseline JPEG files in plain colours, the usual photographs, go to OpenCV at once: both are libjpeg-turbo, so
the pixels are the same, in two thirds of the time; only to open a photograph takes Pillow a tenth of that of decoding.
"""

import io
from pathlib import Path
from typing import Any, TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from finemask.errors import DataError, UndecidedImageError
from finemask.ops.files.documents import check_plain_file
from finemask.ops.images.image_kinds import (
    EXIF_ORIENTATION,
    begins_as_tiff,
    holds_16_bits,
    readable_formats,
    size_of_plain_jpeg,
    wide_colours,
)
from finemask.ops.images.image_reading import AS_THE_FILE_SAYS, ImageReading, chosen_channels, to_uint8
from finemask.ops.images.tiff import (
    WHITE_IS_ZERO,
    TiffPage,
    is_for_pillow,
    known_channels,
    page_of,
    read_page,
    tiff_pages,
)
from finemask.ops.wording import plural

ImageSource: TypeAlias = str | Path | bytes | Image.Image | NDArray[Any]

_REMEDY = "Open the file in a viewer; save it again as 8-bit PNG or JPEG, or take it out of the dataset"
_LARGE_FILE_BYTES = 2**30
_GREY, _COLOURS = (0,), (0, 1, 2)


def decode_image(
    source: ImageSource,
    size_hw: tuple[int, int] | None = None,
    reading: ImageReading = AS_THE_FILE_SAYS,
    formats: tuple[str, ...] | None = None,
) -> NDArray[np.uint8]:
    """Reads an image as uint8 RGB.

    Args:
        source: path, encoded bytes, PIL image, or a uint8 array: RGB [H, W, 3], RGBA [H, W, 4], grey [H, W] or
            [H, W, 1].
        size_hw: height and width that the annotations state. When the file carries an EXIF orientation, this
            decides whether the annotations were made on the rotated or on the raw pixels; rotated wins when
            both fit.
        reading: the page, range and channels of files that hold more than one 8-bit picture; arrays are taken as
            they are.
        formats: Pillow's names of those that may be read; all of ``readable_formats`` by default.

    Returns:
        uint8 [H, W, 3], RGB, C-contiguous, 0..255.

    Raises:
        DataError: the image cannot be read, or has another size than ``size_hw``.
        UndecidedImageError: it holds several pages, channels without a meaning or values without a range rule.
    """
    name = _name_of(source)
    if isinstance(source, np.ndarray):
        rgb = _rgb_of_array(source, name)
        _check_size(name, size_hw, rgb.shape[:2], rgb.shape[:2])
        return rgb
    if isinstance(source, bytes) and not source:
        raise DataError("the image is empty (0 bytes)", where=name, remedy=_REMEDY)
    try:
        if isinstance(source, Image.Image):
            return _rgb_of_image(source, size_hw, name, reading)
        encoded = source if isinstance(source, bytes) else _content_of(Path(source))
        if not reading.page and (photograph := _rgb_of_plain_jpeg(encoded)) is not None:
            _check_size(name, size_hw, photograph.shape[:2], photograph.shape[:2])
            return photograph if reading.channels is None else _picture(photograph, reading, name, _COLOURS)
        if pages := tiff_pages(encoded):
            page = page_of(pages, reading, name)
            if page.can_be_read and not is_for_pillow(page, reading):
                return _rgb_of_tiff(encoded, page, size_hw, name, reading)
            frame = page.number
        else:
            frame = reading.page or 0
        with Image.open(io.BytesIO(encoded), formats=formats or readable_formats()) as image:
            _seek(image, frame, name)
            if (wide := wide_colours(encoded, image)) is not None:
                orientation = _orientation(image, wide.shape[:2], size_hw, name)
                return _picture(_turned(wide, orientation), reading, name, _GREY if wide.shape[2] == 1 else _COLOURS)
            return _rgb_of_image(image, size_hw, name, reading)
    except DataError:
        raise
    except MemoryError:
        raise DataError("the image does not fit into memory", where=name, remedy="Tile it first") from None
    except FileNotFoundError:
        raise DataError("there is no such image", where=name, remedy="Check the path") from None
    except Image.DecompressionBombError as error:
        raise DataError(f"the image is too large: {error}", where=name, remedy="Tile it first") from None
    except UnidentifiedImageError:
        empty = isinstance(source, str | Path) and Path(source).stat().st_size == 0
        what = "the file is empty (0 bytes)" if empty else "not an image in a format that can be read"
        raise DataError(what, where=name, remedy=_REMEDY) from None
    except Exception as error:  # Pillow's format plugins raise nearly anything on damaged files
        raise DataError(f"the image cannot be read ({error})", where=name, remedy=_REMEDY) from error


def _content_of(path: Path) -> bytes:
    """The bytes of an image file.

    Raises:
        DataError: it is a pipe, a device, a folder; or a file too large to be read whole, and no image.
    """
    check_plain_file(path)
    if path.stat().st_size > _LARGE_FILE_BYTES and not begins_as_tiff(path):
        Image.open(path).close()  # reads no more than the header, and raises where there is none
    return path.read_bytes()


def _name_of(source: ImageSource) -> str:
    if isinstance(source, str | Path):
        return str(source)
    if isinstance(source, Image.Image):
        return str(getattr(source, "filename", "") or "PIL image")
    return "encoded image" if isinstance(source, bytes) else "image array"


def _check_size(
    name: str, size_hw: tuple[int, int] | None, upright_hw: tuple[int, ...], raw_hw: tuple[int, ...]
) -> None:
    """Raises unless the stated size is one of the two that the file can have."""
    if size_hw is None or tuple(size_hw) in (tuple(upright_hw), tuple(raw_hw)):
        return
    seen = f"{upright_hw[1]} × {upright_hw[0]}"
    if tuple(raw_hw) != tuple(upright_hw):
        seen += f" ({raw_hw[1]} × {raw_hw[0]} before its EXIF rotation)"
    raise DataError(
        f"the image is {seen} px, its annotations say {size_hw[1]} × {size_hw[0]} (width × height)",
        where=name,
        remedy="Use the image that was annotated, or correct height and width and scale the annotations",
    )


def _orientation(
    image: Image.Image | TiffPage, raw_hw: tuple[int, ...], size_hw: tuple[int, int] | None, name: str
) -> int:
    """The EXIF orientation that is to be undone; 1: none.

    Raises:
        DataError: the image has another size than ``size_hw``.
    """
    stated = image.orientation if isinstance(image, TiffPage) else image.getexif().get(EXIF_ORIENTATION, 1)
    upright_hw = tuple(raw_hw[::-1] if stated in (5, 6, 7, 8) else raw_hw)
    _check_size(name, size_hw, upright_hw, raw_hw)
    return stated if 2 <= stated <= 8 and (size_hw is None or tuple(size_hw) == upright_hw) else 1


def _turned(values: NDArray[Any], orientation: int) -> NDArray[Any]:
    """[H, W, C] as it is to be shown, by its EXIF orientation."""
    if orientation >= 5:
        values = values.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        values = values[::-1]
    if orientation in (2, 3, 6, 7):
        values = values[:, ::-1]
    return values


def _rgb_of_image(
    image: Image.Image, size_hw: tuple[int, int] | None, name: str, reading: ImageReading
) -> NDArray[np.uint8]:
    halved = holds_16_bits(image)  # asked first: Pillow looks for an orientation by decoding
    if _orientation(image, (image.height, image.width), size_hw, name) != 1:
        image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I") or image.mode == "F":
        return _picture(np.asarray(image)[:, :, None], reading, name, _GREY)
    if image.mode in ("LA", "La"):
        image = image.convert("LA").convert("L")  # L, not RGB, so that alpha is dropped and nothing else happens
    if reading.channels is None and not halved:
        return np.array(image if image.mode == "RGB" else image.convert("RGB"))
    values = np.array(image if image.mode in ("L", "RGB", "RGBA") else image.convert("RGB"))
    values = values.reshape(image.height, image.width, -1)
    if halved and reading.range not in ("auto", "full"):
        what = "of these 16-bit colours only the high byte can be read here, so no range of them can be chosen"
        raise DataError(what, where=name, remedy="Give the file itself; or save it as an uncompressed TIFF file")
    if halved:
        values = values.astype(np.uint16) << 8
    return _picture(values, reading, name, _GREY if values.shape[2] == 1 else _COLOURS)


def _rgb_of_tiff(
    encoded: bytes, page: TiffPage, size_hw: tuple[int, int] | None, name: str, reading: ImageReading
) -> NDArray[np.uint8]:
    """What Pillow cannot read of TIFF, or only in part."""
    height, width, _ = page.shape
    if height * width > 2 * (Image.MAX_IMAGE_PIXELS or height * width):
        raise Image.DecompressionBombError(f"{width} × {height} px")
    orientation = _orientation(page, (height, width), size_hw, name)
    values = read_page(encoded, page)
    if page.meaning == WHITE_IS_ZERO and page.dtype == np.uint8:
        values = 255 - values
    return _picture(_turned(values, orientation), reading, name, known_channels(page))


def _picture(
    values: NDArray[Any], reading: ImageReading, name: str, known: tuple[int, ...] | None
) -> NDArray[np.uint8]:
    """RGB of values [H, W, C] of any type; ``known``: the channels that are grey, or red, green and blue."""
    scaled = to_uint8(chosen_channels(values, reading, name, known), reading, name)
    return np.ascontiguousarray(scaled if scaled.shape[2] == 3 else np.repeat(scaled, 3, axis=2))


def _seek(image: Image.Image, frame: int, name: str) -> None:
    if not frame:
        return
    if frame >= (frames := getattr(image, "n_frames", 1)):
        otherwise = f", up to {frames - 1}" if frames > 1 else ""
        what = f"it has {plural(frames, 'page')}; page {frame}, counted from 0, was chosen"
        raise UndecidedImageError(what, choice="page", example="0", where=name, otherwise=otherwise)
    image.seek(frame)


def _rgb_of_plain_jpeg(encoded: bytes) -> NDArray[np.uint8] | None:
    """The pixels where OpenCV makes the same of a file as Pillow; None for all other files."""
    size = size_of_plain_jpeg(encoded)
    if size is None or not 0 < size[0] * size[1] <= (Image.MAX_IMAGE_PIXELS or 0):
        return None
    flags = cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION
    rgb = cv2.imdecode(np.frombuffer(encoded, dtype=np.uint8), flags)
    if rgb is None or rgb.shape != (*size, 3):
        return None
    return np.asarray(rgb, dtype=np.uint8)


def _rgb_of_array(values: NDArray[Any], name: str) -> NDArray[np.uint8]:
    fits = values.dtype == np.uint8 and (values.ndim == 2 or (values.ndim == 3 and values.shape[2] in (1, 3, 4)))
    if not fits or 0 in values.shape:
        raise DataError(
            f"an image array must be uint8, RGB or RGBA [H, W, 3 or 4], or grey [H, W] or [H, W, 1]; this is "
            f"{values.dtype} {list(values.shape)}",
            where=name,
            remedy="Convert it, for example an array [3, H, W] with .transpose(1, 2, 0)",
        )
    if values.ndim == 2 or values.shape[2] == 1:
        return np.repeat(values.reshape(*values.shape[:2], 1), 3, axis=2)
    return np.array(values[:, :, :3], order="C")  # memory of its own: the caller may go on with the array
