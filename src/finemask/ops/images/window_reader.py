"""Reading large images window by window, with the pixels that ``finemask.ops.images.decode`` gives for the whole.

Pillow decodes a file once and keeps it in its own form (4 bytes a pixel for colour); windows are cut from that, so
the image is never there twice. libvips, an optional extra, decodes strip by strip and holds one row of tiles only.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, Self, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from finemask.errors import ConfigError, DataError, MissingExtraError
from finemask.ops.images.decode import decode_image
from finemask.ops.images.image_kinds import any_size, exif_orientation, is_plain, stored_size
from finemask.ops.images.image_reading import AS_THE_FILE_SAYS, ImageReading, to_uint8

Reader: TypeAlias = Literal["auto", "pillow", "vips"]
Window: TypeAlias = tuple[int, int, int, int]
"""x0, y0, x1, y1 in px."""

LARGE_PX = 100_000_000
"""From this size on, ``auto`` reads by strips where it can."""

_BYTES_PER_PIXEL = 4  # of Pillow's colour images
_STRIP_ROWS = 64
_REMEDY = "Save it again as PNG, JPEG or TIFF, or take it out; finemask data check finds all such files"
_TRANSPOSED = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class WindowReader(ABC):
    """An open image. Asked for row by row, windows take the least: going back up may decode it again from its top."""

    is_rotated = False
    """Whether an EXIF orientation has to be applied."""
    size_hw: tuple[int, int]
    """Height and width, px."""

    @abstractmethod
    def read(self, window: Window) -> NDArray[np.uint8]:
        """RGB, uint8 [h, w, 3].

        Raises:
            DataError: the file is damaged.
        """

    @abstractmethod
    def close(self) -> None:
        """Frees the pixels."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()


def open_image(
    path: Path,
    size_hw: tuple[int, int],
    reader: Reader = "auto",
    free_memory_bytes: float | None = None,
    reading: ImageReading = AS_THE_FILE_SAYS,
) -> WindowReader:
    """Opens an image and reads no more than its header.

    Args:
        path: the file.
        size_hw: height and width that the annotations state. They decide about an EXIF rotation as in
            ``decode_image``.
        reader: ``pillow``; ``vips``; or ``auto``: vips where it is installed and the image has ``LARGE_PX`` or more.
        free_memory_bytes: what an image may take; unlimited if None.
        reading: page, range and channels of files that hold more than one 8-bit picture.

    Raises:
        DataError: it cannot be read, or has another size than ``size_hw``.
        MissingExtraError: it does not fit into the memory unless it is read by strips, for which pyvips is missing.
    """
    if reader not in get_args(Reader):
        raise ConfigError(f"reader={reader} is not known", remedy="There is: reader=auto, pillow or vips.")
    pillow = PillowReader(path, size_hw) if _is_plain(path, reading) else WholeReader(path, size_hw, reading)
    pixels = size_hw[0] * size_hw[1]
    installed = find_spec("pyvips") is not None
    size = f"{path.name}, {size_hw[1]} × {size_hw[0]} px,"
    if reader == "vips" or (reader == "auto" and pixels >= LARGE_PX and installed):
        if not installed:
            raise MissingExtraError("pyvips", "large", needed_for="reader=vips")
        vips = None if pillow.is_rotated else VipsReader.open(path, reading)
        if vips is not None:
            pillow.close()
            return vips
    if free_memory_bytes is not None and pixels * _BYTES_PER_PIXEL > free_memory_bytes:
        pillow.close()
        needed = f"{pixels * _BYTES_PER_PIXEL / 2**30:.1f} GiB of memory, {free_memory_bytes / 2**30:.1f} GiB are free"
        if installed:
            raise DataError(f"{size} needs {needed}, and libvips cannot read it by strips", where=path, remedy=_REMEDY)
        raise MissingExtraError("pyvips", "large", needed_for=f"{size} decoded whole takes {needed}; reading by strips")
    return pillow


class PillowReader(WindowReader):
    """Decodes a file once, when the first window is asked for.

    Args:
        path: the file.
        size_hw: as in ``open_image``.

    Raises:
        DataError: it cannot be read, or has another size than ``size_hw``.
    """

    def __init__(self, path: Path, size_hw: tuple[int, int]) -> None:
        self._path, self.size_hw = path, size_hw
        with _readable(path), any_size():
            self._image = Image.open(path)
        with _readable(path):
            orientation = exif_orientation(self._image, path)
        raw_hw = (self._image.height, self._image.width)
        try:
            self._orientation = _orientation_to_undo(path, raw_hw, orientation, size_hw)
        except DataError:
            self.close()
            raise
        self.is_rotated = self._orientation != 1

    def read(self, window: Window) -> NDArray[np.uint8]:
        """RGB, uint8 [h, w, 3]; any window, in any order."""
        with _readable(self._path):
            piece = self._image.crop(_raw_window(window, self._orientation, *self.size_hw))
            piece.info = {}  # or its orientation would be applied once more
            if self._orientation in _TRANSPOSED:
                piece = piece.transpose(_TRANSPOSED[self._orientation])
            return decode_image(piece)

    def close(self) -> None:
        """Frees the pixels."""
        self._image.close()


class WholeReader(WindowReader):
    """Decodes a file that is more than one 8-bit picture, when the first window is asked for.

    Its values are judged as a whole: a dark corner of 16 bits is no image that was scaled wrongly.

    Args:
        path: the file.
        size_hw: as in ``open_image``.
        reading: as in ``open_image``.

    Raises:
        DataError: it cannot be read, or has another size than ``size_hw``.
    """

    def __init__(self, path: Path, size_hw: tuple[int, int], reading: ImageReading) -> None:
        self._path, self.size_hw, self._reading = path, size_hw, reading
        self._pixels: NDArray[np.uint8] | None = None
        with _readable(path), any_size():
            raw_hw, orientation = stored_size(path)
        self.is_rotated = _orientation_to_undo(path, raw_hw, orientation, size_hw) != 1

    def read(self, window: Window) -> NDArray[np.uint8]:
        """RGB, uint8 [h, w, 3]; any window, in any order."""
        if self._pixels is None:
            with _readable(self._path), any_size():
                self._pixels = decode_image(self._path, self.size_hw, self._reading)
        x0, y0, x1, y1 = window
        return np.ascontiguousarray(self._pixels[y0:y1, x0:x1])

    def close(self) -> None:
        """Frees the pixels."""
        self._pixels = None


class ArrayReader(WindowReader):
    """Windows of pixels that are in memory.

    Args:
        pixels: RGB, uint8 [H, W, 3].
    """

    def __init__(self, pixels: NDArray[np.uint8]) -> None:
        self._pixels, self.size_hw = pixels, pixels.shape[:2]

    def read(self, window: Window) -> NDArray[np.uint8]:
        """RGB, uint8 [h, w, 3]; any window, in any order."""
        x0, y0, x1, y1 = window
        return np.ascontiguousarray(self._pixels[y0:y1, x0:x1])

    def close(self) -> None:
        """Nothing: whoever gave the pixels has them still."""


class VipsReader(WindowReader):
    """Reads a file strip by strip through libvips and holds the rows of one window.

    Args:
        path: the file.
        image: a ``pyvips.Image`` opened for sequential access.
        reading: as in ``open_image``, with a range that is decided.
    """

    def __init__(self, path: Path, image: Any, reading: ImageReading) -> None:
        self._path, self._reading, self.size_hw = path, reading, (image.height, image.width)
        self._start(image)

    def _start(self, image: Any) -> None:
        """From the top."""
        self._image, self._region = image, import_module("pyvips").Region.new(image)
        self._rows = np.empty((0, image.width, 3), dtype=np.uint8)
        self._top = self._bottom = 0

    @classmethod
    def open(cls, path: Path, reading: ImageReading = AS_THE_FILE_SAYS) -> Self | None:
        """None for what only ``decode_image`` reads as it does: CMYK, floats, chosen channels, several pages, ….

        Raises:
            DataError: the file cannot be read.
            UndecidedImageError: its values are nearly black; they are looked through once for this.
        """
        pyvips = import_module("pyvips")
        try:
            image = _sequential(path)
        except pyvips.Error:
            return None
        colour = image.interpretation in ("srgb", "rgb", "rgb16") and image.bands in (3, 4)
        grey = image.interpretation in ("b-w", "grey16") and image.bands in (1, 2)
        several = image.get_typeof("n-pages") != 0 and image.get("n-pages") > 1
        if not (colour or grey) or several or reading.page or reading.channels is not None:
            return None
        if image.format == "uchar":
            return cls(path, image, reading)
        if image.format != "ushort" or reading.range == "image":
            return None
        if reading.range == "auto":
            greatest = np.full((1, 1, 3 if colour else 1), _greatest(path, image.bands), dtype=np.uint16)
            to_uint8(greatest, reading, str(path))
            reading = replace(reading, range="full")
        return cls(path, image, reading)

    def read(self, window: Window) -> NDArray[np.uint8]:
        """RGB, uint8 [h, w, 3].

        Raises:
            DataError: the file is damaged.
        """
        x0, y0, x1, y1 = window
        if y0 < self._top:
            self._start(_sequential(self._path))
        if y0 > self._top or y1 > self._bottom:
            kept = self._rows[y0 - self._top : self._bottom - self._top]
            rows = np.empty((y1 - y0, *self._rows.shape[1:]), dtype=np.uint8)
            rows[: len(kept)] = kept
            del kept
            self._rows = rows
            for y in range(max(y0, self._bottom), y1, _STRIP_ROWS):
                self._fetch(y, min(y + _STRIP_ROWS, y1), y0)
            self._top, self._bottom = y0, y1
        return np.ascontiguousarray(self._rows[:, x0:x1])

    def _fetch(self, start: int, stop: int, top: int) -> None:
        pyvips = import_module("pyvips")
        try:
            data = self._region.fetch(0, start, self._image.width, stop - start)
        except pyvips.Error as error:
            raise DataError(f"the image cannot be read ({error})", where=self._path, remedy=_REMEDY) from None
        values: NDArray[Any] = np.frombuffer(data, np.uint8 if self._image.format == "uchar" else np.uint16)
        values = values.reshape(stop - start, self._image.width, self._image.bands)
        values = values[:, :, :3] if self._image.bands > 2 else values[:, :, :1]  # alpha is dropped
        self._rows[start - top : stop - top] = to_uint8(values, self._reading, str(self._path))

    def close(self) -> None:
        """Frees the pixels."""
        self._rows, self._region, self._image = self._rows[:0], None, None


def _is_plain(path: Path, reading: ImageReading) -> bool:
    try:
        with any_size(), Image.open(path) as image:
            return is_plain(image) and not reading.page and reading.channels is None
    except UnidentifiedImageError:
        return False  # whoever reads it says what it is
    except OSError:
        return True


def _sequential(path: Path) -> Any:
    return import_module("pyvips").Image.new_from_file(str(path), access="sequential", fail_on="error")


def _greatest(path: Path, bands: int) -> int:
    """The greatest value of a file, alpha apart."""
    pyvips = import_module("pyvips")
    try:
        image = _sequential(path)
        return int((image.extract_band(0, n=3) if bands > 2 else image.extract_band(0)).max())
    except pyvips.Error as error:
        raise DataError(f"the image cannot be read ({error})", where=path, remedy=_REMEDY) from None


def _raw_window(window: Window, orientation: int, height: int, width: int) -> Window:
    """Where the pixels of an upright image of [height, width] lie in the file, by its EXIF orientation."""
    x0, y0, x1, y1 = window
    if orientation in (2, 3, 6, 7):
        x0, x1 = width - x1, width - x0
    if orientation in (3, 4, 7, 8):
        y0, y1 = height - y1, height - y0
    return (y0, x0, y1, x1) if orientation in (5, 6, 7, 8) else (x0, y0, x1, y1)


def _orientation_to_undo(path: Path, raw_hw: tuple[int, int], orientation: int, size_hw: tuple[int, int]) -> int:
    """The EXIF orientation, or 1 where the annotations were made on the stored pixels.

    Raises:
        DataError: the image has another size than the annotations state.
    """
    upright_hw = raw_hw[::-1] if orientation in (5, 6, 7, 8) else raw_hw
    if tuple(size_hw) not in (upright_hw, raw_hw):
        raise DataError(
            f"the image is {upright_hw[1]} × {upright_hw[0]} px, its annotations say {size_hw[1]} × {size_hw[0]} "
            "(width × height)",
            where=path,
            remedy="finemask data check finds out which of the two is wrong",
        )
    return orientation if orientation in _TRANSPOSED and tuple(size_hw) == upright_hw else 1


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Names the file in whatever goes wrong with it."""
    try:
        yield
    except DataError as error:
        raise DataError(error.what, where=path, remedy=error.remedy) from error
    except UnidentifiedImageError:
        raise DataError("not an image in a format that can be read", where=path, remedy=_REMEDY) from None
    except MemoryError:
        raise DataError(
            "the image does not fit into the memory",
            where=path,
            remedy="Install the extra that reads by strips: pip install 'finemask[large]'",
        ) from None
    except FileNotFoundError:
        raise DataError("there is no such image", where=path, remedy="Check images=") from None
    except Exception as error:  # Pillow's format plugins raise nearly anything on damaged files
        raise DataError(f"the image cannot be read ({error})", where=path, remedy=_REMEDY) from error
