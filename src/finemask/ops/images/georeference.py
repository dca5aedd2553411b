"""Where on the earth the pixels of a picture are: the tags of GeoTIFF, or a world file beside the picture."""

import logging
import mmap
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from finemask.ops.images.tiff import TiffPage, tiff_pages

log = logging.getLogger(__name__)

_SCALE, _TIEPOINTS, _TRANSFORMATION, _KEYS = 33550, 33922, 34264, 34735
_RASTER_TYPE, _GEOGRAPHIC, _PROJECTED, _LINEAR_UNIT = 1025, 2048, 3072, 3076
_METRES = {9001: 1.0, 9002: 0.3048, 9003: 1200 / 3937}  # by EPSG number: metre, foot, US survey foot
_PIXEL_IS_POINT = 2
_OWN_CODE = 32767  # "user-defined": no EPSG number


@dataclass(frozen=True, slots=True)
class Georeference:
    """An affine map from a picture to the world.

    Args:
        matrix: a, b, c, d, e, f: world x = a · x + b · y + c and world y = d · x + e · y + f, where x and y are in px
            from the picture's upper left corner, so that the middle of its first pixel is at (0.5, 0.5).
        epsg: number of the coordinate reference system; None where the file does not say.
        unit_m: unit of the world's coordinates, m; None where the file does not say, or where it is an angle.
    """

    matrix: tuple[float, float, float, float, float, float]
    epsg: int | None = None
    unit_m: float | None = None

    @property
    def pixel_m(self) -> float | None:
        """Side of a square as large as a pixel, m; None where the unit is not known."""
        return None if self.unit_m is None else self.pixel_size * self.unit_m

    @property
    def pixel_size(self) -> float:
        """Side of a square as large as a pixel, in units of the world's coordinates."""
        a, b, _, d, e, _ = self.matrix
        return float(np.sqrt(abs(a * e - b * d)))

    def to_world(self, points: NDArray[np.floating]) -> NDArray[np.float64]:
        """Points [P, 2], x and y in px from the upper left corner, as x and y of the world."""
        a, b, c, d, e, f = self.matrix
        x, y = np.asarray(points, dtype=np.float64).T
        return np.stack([a * x + b * y + c, d * x + e * y + f], axis=1)


def read_georeference(path: Path, size_hw: tuple[int, int]) -> Georeference | None:
    """Where the pixels of a picture are: what a GeoTIFF says of itself, else a world file beside it; None for neither.

    What is there and cannot be used is said in the log.

    Args:
        path: the picture. World files are of its name, with the suffix's first and last letter and a ``w`` (``.tfw``,
            ``.pgw``, ``.jgw``), with the suffix and a ``w`` (``.tifw``), or with ``.wld``.
        size_hw: upright height and width; of a TIFF file, the page of that size speaks.
    """
    try:
        found = _of_tiff(path, size_hw)
    except (OSError, ValueError):
        found = None  # no TIFF file, or not as a whole: it was decoded by something else
    return found or next((_of_world_file(one) for one in _world_files(path) if one.is_file()), None)


def _of_tiff(path: Path, size_hw: tuple[int, int]) -> Georeference | None:
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        pages = [page for page in tiff_pages(content) if page.reals.keys() & {_SCALE, _TRANSFORMATION}]
    page = next((page for page in pages if page.shape[:2] == size_hw), None)
    if page is None:
        return None
    if page.orientation != 1:
        log.warning("%s: its map coordinates are left out, as the picture is stored turned", path)
        return None
    keys = _geo_keys(page)
    a, b, c, d, e, f = _matrix(page)
    if keys.get(_RASTER_TYPE) == _PIXEL_IS_POINT:  # they are of the middle of a pixel, not of its corner
        c, f = c - (a + b) / 2, f - (d + e) / 2
    code = keys.get(_PROJECTED) or keys.get(_GEOGRAPHIC)
    unit_m = _METRES.get(keys.get(_LINEAR_UNIT, 0)) if keys.get(_PROJECTED) else None
    return Georeference((a, b, c, d, e, f), code if code and code != _OWN_CODE else None, unit_m)


def _matrix(page: TiffPage) -> tuple[float, float, float, float, float, float]:
    """The affine map that the tags of a page state."""
    if len(m := page.reals.get(_TRANSFORMATION, ())) == 16:
        return m[0], m[1], m[3], m[4], m[5], m[7]
    scale, tie = page.reals.get(_SCALE, ()), page.reals.get(_TIEPOINTS, ())
    if len(scale) < 2 or len(tie) < 6:
        raise ValueError("its tags of GeoTIFF are incomplete")
    x, y, _, world_x, world_y, _ = tie[:6]
    return scale[0], 0.0, world_x - x * scale[0], 0.0, -scale[1], world_y + y * scale[1]


def _geo_keys(page: TiffPage) -> dict[int, int]:
    """The keys of a page that hold a number themselves."""
    entries = page.tags.get(_KEYS, ())
    return {entries[at]: entries[at + 3] for at in range(4, len(entries) - 3, 4) if entries[at + 1] == 0}


def _world_files(path: Path) -> list[Path]:
    suffix = path.suffix[1:]
    suffixes = [f"{suffix[0]}{suffix[-1]}w", f"{suffix}w", "wld"] if suffix else ["wld"]
    return [path.with_suffix(f".{one}") for lower in suffixes for one in dict.fromkeys((lower, lower.upper()))]


def _of_world_file(path: Path) -> Georeference | None:
    """Six numbers, one a line: the map of the middle of a pixel, column by column."""
    try:
        a, d, b, e, c, f = (float(line.replace(",", ".")) for line in path.read_text(encoding="utf-8").split())
    except (OSError, ValueError):
        log.warning("%s: not a world file, six numbers were expected; coordinates are in pixels", path)
        return None
    return Georeference((a, b, c - (a + b) / 2, d, e, f - (d + e) / 2))
