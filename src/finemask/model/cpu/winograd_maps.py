"""How Winograd's method cuts feature maps into tiles, as sparse matrices.

Tiles of 6 × 6 pixels overlap by two and give 4 × 4 results. Features are rows, one a pixel, and so a transform of all
tiles of a piece is one matrix; see ``finemask.model.cpu.winograd``.
"""

from collections.abc import Iterator
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_array
from torch import Tensor

from finemask.model.cpu.sparse import csr_tensor

TILE = 4  # results along one side of a tile
_SIDE = TILE + 2  # pixels it reads
POINTS = _SIDE * _SIDE  # matrix products
ONES = _SIDE + 1  # the product that counts once in every result of its tile, for _OUT[:, 1] is all ones

_IN = np.array(
    [
        [4, 0, -5, 0, 1, 0],
        [0, -4, -4, 1, 1, 0],
        [0, 4, -4, -1, 1, 0],
        [0, -2, -1, 2, 1, 0],
        [0, 2, -1, -2, 1, 0],
        [0, 4, 0, -5, 0, 1],
    ],
    dtype=np.float64,
)
_OUT = np.array(
    [[1, 1, 1, 1, 1, 0], [0, 1, -1, 2, -2, 0], [0, 1, 1, 4, 4, 0], [0, 1, -1, 8, -8, 1]],
    dtype=np.float64,
)

_TILES_A_THREAD, _MOST_TILES = 64, 256  # at a time: with 256 channels, a tile takes 37 kB before the products and after


class TileMaps(NamedTuple):
    """The transforms of a piece of P pixels read, Q results written and T tiles, as sparse CSR matrices."""

    into_tiles: Tensor  # [36 · T, P]
    out_of_tiles: Tensor  # [Q, 36 · T]
    into_tiles_t: Tensor  # [P, 36 · T]
    out_of_tiles_t: Tensor  # [36 · T, Q]


class Piece(NamedTuple):
    """Rows of [B · H · W, channels] that one round reads and writes: some whole images, or a band of one."""

    reads: slice
    writes: slice
    maps: TileMaps


def tiles_along(length: int) -> int:
    """Tiles that cover so many results; the last may reach beyond them."""
    return -(-length // TILE)


def pieces_of(batch: int, height: int, width: int) -> Iterator[Piece]:
    """Cuts maps [B, channels, H, W] into pieces that stay in the caches."""
    at_once = min(_TILES_A_THREAD * torch.get_num_threads(), _MOST_TILES)
    across, image = tiles_along(width), height * width
    if across * tiles_along(height) <= at_once:
        images = max(1, at_once // (across * tiles_along(height)))
        for first in range(0, batch, images):
            number = min(images, batch - first)
            rows = slice(first * image, (first + number) * image)
            yield Piece(rows, rows, _maps(number, height, width, above=False, below=False))
        return
    band = TILE * max(1, at_once // across)
    for first in range(0, batch * image, image):
        for top in range(0, height, band):
            bottom = min(height, top + band)
            above, below = top > 0, bottom < height
            reads = slice(first + (top - above) * width, first + (bottom + below) * width)
            writes = slice(first + top * width, first + bottom * width)
            yield Piece(reads, writes, _maps(1, bottom - top, width, above=above, below=below))


@lru_cache(maxsize=64)
def _maps(images: int, height: int, width: int, *, above: bool, below: bool) -> TileMaps:
    """For some images, or one band of ``height`` results; above and below it, it may read a row of pixels more."""
    down, across = _along(height, above, below), _along(width, False, False)
    shape = (_SIDE, _SIDE, images, tiles_along(height), tiles_along(width))
    pixels, results = (images, height + above + below, width), (images, height, width)
    into_tiles = _crossed(down.reads, across.reads, images, shape, pixels)
    out_of_tiles = csr_array(_crossed(down.writes, across.writes, images, shape, results).T)
    matrices = (into_tiles, out_of_tiles, csr_array(into_tiles.T), csr_array(out_of_tiles.T))
    return TileMaps(*map(csr_tensor, matrices))


class _Entries(NamedTuple):
    """Where a transform along one axis is not zero."""

    points: NDArray[np.int64]  # 0..5
    tiles: NDArray[np.int64]
    places: NDArray[np.int64]  # pixel or result
    values: NDArray[np.float64]


class _Axis(NamedTuple):
    reads: _Entries
    writes: _Entries


def _along(length: int, before: bool, after: bool) -> _Axis:
    tile = np.arange(tiles_along(length))
    reads = (tile * TILE - 1 + before)[None, :, None] + np.arange(_SIDE)
    writes = (tile * TILE)[None, :, None] + np.arange(TILE)
    return _Axis(_entries(_IN, reads, length + before + after), _entries(_OUT.T, writes, length))


def _entries(matrix: NDArray[np.float64], places: NDArray[np.int64], length: int) -> _Entries:
    """A matrix [6, K], whose columns are at places [1, T, K]; those outside of 0..length - 1 are left out."""
    values = np.broadcast_to(matrix[:, None, :], (_SIDE, *places.shape[1:]))
    places = np.broadcast_to(places, values.shape)
    points, tiles, columns = np.nonzero((values != 0) & (places >= 0) & (places < length))
    return _Entries(points, tiles, places[points, tiles, columns], values[points, tiles, columns])


def _crossed(
    down: _Entries, across: _Entries, images: int, shape: tuple[int, ...], place_shape: tuple[int, ...]
) -> "csr_array[Any, Any]":
    """The transform along both axes for each image, [36 · tiles, places]; its rows are those of the products."""
    image = np.arange(images)[:, None, None]
    rows = np.ravel_multi_index(
        np.broadcast_arrays(down.points[:, None], across.points, image, down.tiles[:, None], across.tiles), shape
    )
    columns = np.ravel_multi_index(np.broadcast_arrays(image, down.places[:, None], across.places), place_shape)
    values = np.broadcast_to((down.values[:, None] * across.values).astype(np.float32), rows.shape)
    places = (rows.ravel().astype(np.int32), columns.ravel().astype(np.int32))  # what MKL counts with
    return csr_array((values.ravel(), places), shape=(int(np.prod(shape)), int(np.prod(place_shape))))
