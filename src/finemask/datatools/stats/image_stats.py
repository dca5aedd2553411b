"""Image statistics that need pixels: file kinds, brightness, contrast and sharpness."""

from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from finemask.coco.index import CocoIndex
from finemask.errors import DataError
from finemask.ops.images.image_kinds import kind_of

SIDE_PX = 512
"""Longer side that sharpness is measured at; smaller images are not enlarged."""

_LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)
_THREADS = 4  # decoding lets go of the interpreter's lock


@dataclass(frozen=True, slots=True)
class ImageStats:
    """Statistics of one image as it is on disk.

    Args:
        row: in the index.
        brightness: mean luminance, 0..255.
        contrast: standard deviation of the luminance.
        sharpness: variance of the Laplacian of the luminance at ``SIDE_PX``.
        kind: format and mode of the file, such as ``PNG, 8-bit grey``.
        size_bytes: of the file.
        values: the least and the greatest one, where they have more than 8 bits.
    """

    row: int
    brightness: float
    contrast: float
    sharpness: float
    kind: str
    size_bytes: int
    values: tuple[float, float] | None


@dataclass(frozen=True, slots=True)
class OpenedImages:
    """The images that were opened: what was measured of them, and which could not be read.

    Args:
        images: in the order of the file.
        unreadable: file name and reason of each image that training could not use.
        kinds: number of images of each kind, most frequent first.
    """

    images: list[ImageStats]
    unreadable: list[tuple[str, str]]
    kinds: dict[str, int]


def measure_images(index: CocoIndex, most: int | None, advance: Callable[[], object] | None = None) -> OpenedImages:
    """Measures images, decoded as training does.

    Args:
        index: the file; its folder of images must be known.
        most: images to measure, spread evenly over the file; None: all.
        advance: called after each image.
    """
    rows = chosen_rows(len(index), most)
    measured, unreadable = [], []
    with ThreadPoolExecutor(_THREADS) as pool:
        for row, outcome in zip(rows, pool.map(lambda row: _measure(index, row), rows), strict=True):
            if isinstance(outcome, ImageStats):
                measured.append(outcome)
            else:
                unreadable.append((index.image_path(row).relative_to(index.images_dir).as_posix(), outcome))
            if advance is not None:
                advance()
    return OpenedImages(measured, unreadable, dict(Counter(image.kind for image in measured).most_common()))


def chosen_rows(count: int, most: int | None) -> list[int]:
    """At most ``most`` of ``range(count)``, evenly spread."""
    if most is None or count <= most:
        return list(range(count))
    rows: list[int] = np.linspace(0, count - 1, most).round().astype(int).tolist()
    return rows


def sharpness_of(luma: NDArray[np.float32]) -> float:
    """Variance of the four-neighbour Laplacian of a luminance [H, W]: low where nothing has a crisp edge."""
    if min(luma.shape) < 3:
        return 0.0
    middle = luma[1:-1, 1:-1]
    laplacian = luma[:-2, 1:-1] + luma[2:, 1:-1] + luma[1:-1, :-2] + luma[1:-1, 2:] - 4 * middle
    return float(laplacian.var())


def thumbnail(index: CocoIndex, row: int, side_px: int) -> Image.Image:
    """A small RGB picture of an image that can be read."""
    picture = Image.fromarray(index.read_image(row))
    picture.thumbnail((side_px, side_px), Image.Resampling.LANCZOS)
    return picture


def _measure(index: CocoIndex, row: int) -> ImageStats | str:
    path = index.image_path(row)
    try:
        rgb = index.read_image(row)
        kind, values = kind_of(path, index.reading)
        size = path.stat().st_size
    except DataError as error:
        return error.what
    except OSError as error:
        return error.strerror or str(error)
    luma = rgb.astype(np.float32) @ _LUMA
    small = Image.fromarray(luma)
    small.thumbnail((SIDE_PX, SIDE_PX), Image.Resampling.BOX)
    sharpness = sharpness_of(np.asarray(small))
    return ImageStats(row, float(luma.mean()), float(luma.std()), sharpness, kind, size, values)
