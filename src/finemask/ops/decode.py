"""The one image decoder: whatever comes in, uint8 RGB goes out.

Training, evaluation, prediction and serving all read images here, so a model sees at prediction exactly what
it was trained on. The rules depend on the *type* of a file and never on its content:

* 8-bit grey, palette, CMYK, YCbCr: converted to RGB.
* Alpha is dropped, not composited, as OpenCV and torchvision do: the colour stored under a transparent pixel
  counts.
* 16-bit integers are divided by 257 (65535 -> 255), rounded. An image that uses a small part of that range
  (12-bit cameras, much microscopy) therefore stays dark. It is not stretched: a stretch by content would give
  the same object another brightness in every image, and another one again in a crop or a tile. Stretch such
  files once, all by the same factor, before training, and do the same before prediction. (Pillow reads 16-bit
  *RGB* by its high byte, which differs from the division by at most one level.)
* Floats are taken to be 0..1 and multiplied by 255. Anything outside that range is refused.
* Of a file with several frames the first is read.
* EXIF orientation is applied, unless the annotations were evidently made on the unrotated pixels (see
  ``size_hw``).

Pillow opens a file and decides by these rules. Undamaged baseline JPEG files in plain colours, the usual photographs,
go to OpenCV at once: both are libjpeg-turbo, so the pixels are the same, in two thirds of the time.
"""

import io
from functools import cache
from pathlib import Path
from typing import Any, TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile, ImageOps, UnidentifiedImageError, features

from finemask.errors import DataError
from finemask.ops.jpeg import size_of_plain_jpeg

ImageSource: TypeAlias = str | Path | bytes | Image.Image | NDArray[Any]

_EXIF_ORIENTATION = 0x0112
_REMEDY = "Open the file in a viewer; save it again as 8-bit PNG or JPEG, or take it out of the dataset"
_NOT_DECODED = {"EPS", "IPTC", "MPEG"}  # Pillow tells what these are, or asks another program for their pixels
_NEEDS = {"AVIF": "avif", "JPEG2000": "jpg_2000", "WEBP": "webp"}  # libraries that a build of Pillow may lack


@cache
def image_suffixes() -> frozenset[str]:
    """Suffixes of the image files that can be read here, lower case, with their dot."""
    suffixes = Image.registered_extensions()
    return frozenset(suffix for suffix, kind in suffixes.items() if kind in Image.OPEN and _is_decoded(kind))


def _is_decoded(kind: str) -> bool:
    factory = Image.OPEN[kind][0]
    stub = isinstance(factory, type) and issubclass(factory, ImageFile.StubImageFile)
    return not stub and kind not in _NOT_DECODED and (kind not in _NEEDS or bool(features.check(_NEEDS[kind])))


def decode_image(source: ImageSource, size_hw: tuple[int, int] | None = None) -> NDArray[np.uint8]:
    """Reads an image as uint8 RGB.

    Args:
        source: path, encoded bytes, PIL image, or a uint8 array: RGB [H, W, 3], RGBA [H, W, 4], grey [H, W] or
            [H, W, 1].
        size_hw: height and width that the annotations state. When the file carries an EXIF orientation, this
            decides whether the annotations were made on the rotated or on the raw pixels; rotated wins when
            both fit.

    Returns:
        uint8 [H, W, 3], RGB, C-contiguous, 0..255.

    Raises:
        DataError: the image cannot be read, holds values without a range rule, or has another size than
            ``size_hw``.
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
            return _rgb_of_image(source, size_hw, name)
        encoded = source if isinstance(source, bytes) else Path(source).read_bytes()
        if (photograph := _rgb_of_plain_jpeg(encoded)) is not None:
            _check_size(name, size_hw, photograph.shape[:2], photograph.shape[:2])
            return photograph
        with Image.open(io.BytesIO(encoded)) as image:
            return _rgb_of_image(image, size_hw, name)
    except (DataError, MemoryError):
        raise
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


def _rgb_of_image(image: Image.Image, size_hw: tuple[int, int] | None, name: str) -> NDArray[np.uint8]:
    raw_hw = (image.height, image.width)
    orientation = image.getexif().get(_EXIF_ORIENTATION, 1)
    upright_hw = raw_hw[::-1] if orientation in (5, 6, 7, 8) else raw_hw
    _check_size(name, size_hw, upright_hw, raw_hw)
    if 2 <= orientation <= 8 and (size_hw is None or tuple(size_hw) == upright_hw):
        image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I"):
        return _rgb_of_integers(np.asarray(image), name)
    if image.mode == "F":
        return _rgb_of_floats(np.asarray(image), name)
    if image.mode in ("LA", "La"):
        image = image.convert("LA").convert("L")  # L, not RGB, so that alpha is dropped and nothing else happens
    return np.array(image if image.mode == "RGB" else image.convert("RGB"))


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


def _rgb_of_integers(values: NDArray[Any], name: str) -> NDArray[np.uint8]:
    """Grey integers of more than 8 bits, taken as 16-bit."""
    if values.size and not (values.min() >= 0 and values.max() <= 65535):
        raise DataError(
            f"32-bit values from {values.min()} to {values.max()} do not fit 16 bits",
            where=name,
            remedy="Save the image with 8 or 16 bits",
        )
    return _grey_to_rgb(((values.astype(np.uint32) + 128) // 257).astype(np.uint8))


def _rgb_of_floats(values: NDArray[Any], name: str) -> NDArray[np.uint8]:
    """Grey floats, taken as 0..1."""
    if values.size and not (values.min() >= 0 and values.max() <= 1):  # NaN fails both
        raise DataError(
            f"floating-point values must be 0 to 1, these are {values.min():g} to {values.max():g}",
            where=name,
            remedy="Save all images with 8 or 16 bits, scaled by one common factor",
        )
    return _grey_to_rgb(np.rint(values * 255).astype(np.uint8))


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
        return _grey_to_rgb(values.reshape(values.shape[:2]))
    return np.array(values[:, :, :3], order="C")  # memory of its own: the caller may go on with the array


def _grey_to_rgb(grey: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.repeat(grey[:, :, None], 3, axis=2)
