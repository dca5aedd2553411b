"""3 × 3 convolutions on a CPU with a third of the multiplications.

Winograd's minimal filtering F(4 × 4, 3 × 3), as Lavin and Gray 2016 (arXiv 1509.09308) have it for convolutions: tiles
of 6 × 6 pixels are transformed, 36 matrix products mix the channels, and the inverse transform gives 4 × 4 results, for
36 multiplications a channel instead of 144. Transforms are constant and nearly empty, so each is one sparse matrix
product on channels-last rows, and so are their gradients. Work goes in pieces that stay in the processor's caches: the
same in one piece for all pixels would be slower than a plain convolution.

In float32 a result differs from the exact one by some 1e-5 of the largest, or 2e-6 of the norm; the gradients likewise.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from finemask.model.cpu.winograd_maps import ONES, POINTS, Piece, pieces_of, tiles_along

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
        batch, channels, height, width = x.shape
        out_channels = len(weight)
        rows, mixing = x.permute(0, 2, 3, 1).reshape(-1, channels), _mixing(weight)
        ctx.save_for_backward(rows, weight)  # not the transformed weights, which are four times as large
        ctx.shape = (batch, height, width)
        pieces = list(pieces_of(batch, height, width))
        before, after = _buffers(pieces, channels, out_channels)
        convolved = torch.empty(batch, out_channels, height, width, memory_format=torch.channels_last)
        results = convolved.permute(0, 2, 3, 1).view(-1, out_channels)
        for piece in pieces:
            tiles = _transformed(piece.maps.into_tiles, rows[piece.reads], before)
            products = torch.bmm(tiles, mixing, out=after[: POINTS * tiles.shape[1]].view(POINTS, -1, out_channels))
            products[ONES] += bias
            torch.mm(piece.maps.out_of_tiles, products.flatten(0, 1), out=results[piece.writes])
        return convolved

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
    """A 3 × 3 convolution with a border of one zero: the same parameters and values, quicker on a CPU."""

    def forward(self, input: Tensor) -> Tensor:
        """Features [B, C, H, W] to [B, O, H, W]."""
        in_a_graph = torch.compiler.is_compiling() or torch.jit.is_tracing()  # type: ignore[attr-defined, no-untyped-call]
        if not in_a_graph and winograd_pays(input, self.weight):
            return winograd_conv2d(input, self.weight, self.bias)
        return super().forward(input)


def use_winograd(module: nn.Module) -> None:
    """Replaces every convolution in a module for which there is a quicker way; parameters stay the same objects."""
    for name, child in module.named_children():
        if type(child) is nn.Conv2d and _fits(child):
            quicker = WinogradConv2d(child.in_channels, child.out_channels, 3, padding=1, device="meta")
            quicker.weight, quicker.bias = child.weight, child.bias
            setattr(module, name, quicker)
        else:
            use_winograd(child)


def _fits(convolution: nn.Conv2d) -> bool:
    return (
        convolution.kernel_size == (3, 3)
        and convolution.stride == (1, 1)
        and convolution.padding == (1, 1)
        and convolution.dilation == (1, 1)
        and convolution.groups == 1
        and convolution.padding_mode == "zeros"
    )
