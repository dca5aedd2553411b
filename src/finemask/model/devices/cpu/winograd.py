"""3 × 3 convolutions on a CPU with a third of the multiplications.

Winograd's minimal filtering F(4 × 4, 3 × 3), as Lavin and Gray 2016 (arXiv 1509.09308) have it for convolutions: tiles
of 6 × 6 pixels, which overlap by two, are transformed, 36 matrix products mix the channels, and the inverse transform
gives 4 × 4 results, for 36 multiplications a channel instead of 144. Transforms are constant and nearly empty, and
features are rows, one a pixel: so each transform is one sparse matrix product, and so are the gradients. Work goes in
pieces that stay in the processor's caches: the same in one piece for all pixels would be slower than a plain
convolution.

In float32 a result differs from the exact one by some 1e-5 of the largest, or 2e-6 of the norm; the gradients likewise.
"""

from collections.abc import Iterator
from functools import cached_property, lru_cache
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from finemask.model.devices.cpu.roi_align import SparseMatrix

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


class TileMaps:
    """The transforms of a piece of P pixels read, Q results written and T tiles, as sparse CSR matrices.

    Attributes:
        into_tiles: [36 · T, P].
        out_of_tiles: [Q, 36 · T].
    """

    def __init__(self, into_tiles: SparseMatrix, out_of_tiles: SparseMatrix) -> None:
        self._into_tiles, self._out_of_tiles = into_tiles, out_of_tiles
        self.into_tiles, self.out_of_tiles = into_tiles.tensor(), out_of_tiles.tensor()

    @cached_property
    def into_tiles_t(self) -> Tensor:
        """[P, 36 · T]."""
        return self._into_tiles.transposed().tensor()

    @cached_property
    def out_of_tiles_t(self) -> Tensor:
        """[36 · T, Q]."""
        return self._out_of_tiles.transposed().tensor()


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
    into_tiles = _csr(*_crossed(down.reads, across.reads, images, shape, pixels))
    values, rows, columns, size = _crossed(down.writes, across.writes, images, shape, results)
    return TileMaps(into_tiles, _csr(values, columns, rows, size[::-1]))


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
) -> tuple[NDArray[np.float32], NDArray[np.intp], NDArray[np.intp], tuple[int, int]]:
    """The transform along both axes for each image, [36 · tiles, places]; its rows are those of the products."""
    image = np.arange(images)[:, None, None]
    rows = np.ravel_multi_index(
        np.broadcast_arrays(down.points[:, None], across.points, image, down.tiles[:, None], across.tiles), shape
    )
    columns = np.ravel_multi_index(np.broadcast_arrays(image, down.places[:, None], across.places), place_shape)
    values = np.broadcast_to((down.values[:, None] * across.values).astype(np.float32), rows.shape)
    return values.ravel(), rows.ravel(), columns.ravel(), (int(np.prod(shape)), int(np.prod(place_shape)))


def _csr(
    values: NDArray[np.float32], rows: NDArray[np.intp], columns: NDArray[np.intp], shape: tuple[int, int]
) -> SparseMatrix:
    """Entries in any order, each place once: row by row, from left to right."""
    order = np.argsort(rows * shape[1] + columns, kind="stable")  # most of it is in order
    starts = np.zeros(shape[0] + 1, dtype=np.int32)
    np.cumsum(np.bincount(rows, minlength=shape[0]), out=starts[1:])
    return SparseMatrix(values[order], columns[order].astype(np.int32), starts, shape)


_WEIGHT = np.array(
    [
        [1 / 4, 0, 0],
        [-1 / 6, -1 / 6, -1 / 6],
        [-1 / 6, 1 / 6, -1 / 6],
        [1 / 24, 1 / 12, 1 / 6],
        [1 / 24, -1 / 12, 1 / 6],
        [0, 0, 1],
    ],
    dtype=np.float64,
)
_FEWEST_TILES, _FEWEST_CHANNELS = 96, 128  # below these a plain convolution is as quick


def winograd_pays(x: Tensor, weight: Tensor) -> bool:
    """Whether a 3 × 3 convolution of x [B, C, H, W] with weight [O, C, 3, 3] is quicker this way."""
    batch, _, height, width = x.shape
    return (
        x.device.type == "cpu"
        and x.dtype == weight.dtype == torch.float32
        and not torch.is_autocast_enabled("cpu")
        and min(weight.shape[:2]) >= _FEWEST_CHANNELS
        and batch * tiles_along(height) * tiles_along(width) >= _FEWEST_TILES
        and torch.backends.mkl.is_available()  # whose sparse products are quick; without it they are not
    )


def winograd_conv2d(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """A 3 × 3 convolution with a border of one zero, differentiable once.

    Args:
        x: float32 [B, C, H, W] on the CPU, best in channels-last order.
        weight: float32 [O, C, 3, 3].
        bias: float32 [O].

    Returns:
        float32 [B, O, H, W], in channels-last order.
    """
    convolved: Tensor = _Winograd.apply(x, weight, weight.new_zeros(len(weight)) if bias is None else bias)
    return convolved


class _Winograd(torch.autograd.Function):
    """Of x [B, C, H, W], weight [O, C, 3, 3] and bias [O]."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        batch, _, height, width = x.shape
        rows = _rows(x)
        ctx.save_for_backward(rows, weight)  # not the transformed weights, which are four times as large
        ctx.shape = (batch, height, width)
        return _convolved(rows, ctx.shape, _mixing(weight), bias)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        rows, weight = ctx.saved_tensors
        batch, height, width = ctx.shape
        out_channels, channels = weight.shape[:2]
        wanted = gradients[0].permute(0, 2, 3, 1).reshape(-1, out_channels)
        wants_x, wants_weight, wants_bias = ctx.needs_input_grad
        mixing = _mixing(weight).mT
        of_rows = torch.zeros_like(rows) if wants_x else None
        of_mixing = mixing.new_zeros(POINTS, channels, out_channels) if wants_weight else None
        of_bias = mixing.new_zeros(out_channels) if wants_bias else None
        pieces = list(pieces_of(batch, height, width))
        before, after = _buffers(pieces, channels, out_channels)
        for piece in pieces:
            of_products = _transformed(piece.maps.out_of_tiles_t, wanted[piece.writes], after)
            if of_bias is not None:
                of_bias += of_products[ONES].sum(0)
            if of_mixing is not None:
                tiles = _transformed(piece.maps.into_tiles, rows[piece.reads], before)
                of_mixing.baddbmm_(tiles.mT, of_products)
            if of_rows is not None:
                tiles = before[: POINTS * of_products.shape[1]].view(POINTS, -1, channels)
                torch.bmm(of_products, mixing, out=tiles)
                read = of_rows[piece.reads]
                torch.addmm(read, piece.maps.into_tiles_t, tiles.flatten(0, 1), out=read)  # bands overlap
        of_x = None if of_rows is None else of_rows.view(batch, height, width, channels).permute(0, 3, 1, 2)
        of_weight = None
        if of_mixing is not None:
            of_weight = (_kernel().mT @ of_mixing.view(POINTS, -1)).view(3, 3, channels, -1).permute(3, 2, 0, 1)
        return of_x, of_weight, of_bias


def _rows(x: Tensor) -> Tensor:
    """Maps [B, C, H, W] as rows [B · H · W, C]."""
    return x.permute(0, 2, 3, 1).reshape(-1, x.shape[1])


def _convolved(rows: Tensor, shape: tuple[int, int, int], mixing: Tensor, bias: Tensor) -> Tensor:
    """The convolution of maps [B, H, W] of rows [B · H · W, C] by transformed weights: [B, O, H, W]."""
    batch, height, width = shape
    out_channels = mixing.shape[2]
    pieces = list(pieces_of(batch, height, width))
    before, after = _buffers(pieces, rows.shape[1], out_channels)
    convolved = torch.empty(batch, out_channels, height, width, memory_format=torch.channels_last)
    results = convolved.permute(0, 2, 3, 1).view(-1, out_channels)
    for piece in pieces:
        tiles = _transformed(piece.maps.into_tiles, rows[piece.reads], before)
        products = torch.bmm(tiles, mixing, out=after[: POINTS * tiles.shape[1]].view(POINTS, -1, out_channels))
        products[ONES] += bias
        torch.mm(piece.maps.out_of_tiles, products.flatten(0, 1), out=results[piece.writes])
    return convolved


def _kernel() -> Tensor:
    """The transform of weights along both axes, [36, 9]."""
    return torch.from_numpy(np.kron(_WEIGHT, _WEIGHT).astype(np.float32))


def _mixing(weight: Tensor) -> Tensor:
    """Weights [O, C, 3, 3] as 36 matrices [36, C, O]."""
    out_channels, channels = weight.shape[:2]
    return (_kernel() @ weight.permute(2, 3, 1, 0).reshape(9, -1)).view(POINTS, channels, out_channels)


def _buffers(pieces: list[Piece], channels: int, out_channels: int) -> tuple[Tensor, Tensor]:
    """Room for the largest piece's tiles before and after the products: fresh memory would cost more than they do."""
    rows = max((piece.maps.into_tiles.shape[0] for piece in pieces), default=0)
    return torch.empty(rows, channels), torch.empty(rows, out_channels)


def _transformed(matrix: Tensor, rows: Tensor, buffer: Tensor) -> Tensor:
    """A sparse matrix [36 · T, N] times rows [N, channels], written into the buffer: [36, T, channels]."""
    found = torch.mm(matrix, rows, out=buffer[: matrix.shape[0]])
    return found.view(POINTS, -1, rows.shape[1])


class WinogradConv2d(nn.Conv2d):
    """A 3 × 3 convolution with a border of one zero: the same parameters and values, quicker on a CPU.

    Attributes:
        keeps_mixing: whether it keeps its transformed weights, four times the size of its own, as long as these are as
            they were: for a model that predicts. Where gradients are wanted they are made anew all the same.
    """

    keeps_mixing = False
    _kept: tuple[object, Tensor] = (None, torch.empty(0))

    def forward(self, input: Tensor) -> Tensor:
        """Features [B, C, H, W] to [B, O, H, W]."""
        in_a_graph = torch.compiler.is_compiling() or torch.jit.is_tracing()  # type: ignore[attr-defined, no-untyped-call]
        if in_a_graph or not winograd_pays(input, self.weight):
            return super().forward(input)
        if torch.is_grad_enabled() or not self.keeps_mixing or self.weight.is_inference():  # such has no version
            return winograd_conv2d(input, self.weight, self.bias)
        batch, _, height, width = input.shape
        bias = self.weight.new_zeros(len(self.weight)) if self.bias is None else self.bias
        return _convolved(_rows(input), (batch, height, width), self._mixing(), bias)

    def _mixing(self) -> Tensor:
        """The transformed weights."""
        state = self.weight.data_ptr(), self.weight._version
        if self._kept[0] != state:
            self._kept = state, _mixing(self.weight)
        return self._kept[1]


def winograd_fits(convolution: nn.Conv2d) -> bool:
    """Whether ``WinogradConv2d`` can stand for a convolution: 3 × 3, stride 1, a border of one zero, one group."""
    return (
        convolution.kernel_size == (3, 3)
        and convolution.stride == (1, 1)
        and convolution.padding == (1, 1)
        and convolution.dilation == (1, 1)
        and convolution.groups == 1
        and convolution.padding_mode == "zeros"
    )
