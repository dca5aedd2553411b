"""RoIAlign over all pyramid levels and images at once: one sparse matrix product on a CPU, one call elsewhere.

A pooled value is a weighted sum of feature pixels, so pooling is ``A @ rows`` with one row of A a bin and one row of
features a pixel, and its gradient is ``Aᵀ @ gradient``. torchvision's CPU kernel for the gradient is scalar and runs on
one thread; its CUDA kernels are parallel, and are called for all levels together, see ``devices/gpu/sheet.py``.
"""

import warnings
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchvision.ops import MultiScaleRoIAlign
from torchvision.ops.poolers import LevelMapper, _filter_input, _setup_scales

from finemask.model.devices.gpu.sheet import PyramidMaps, smallest_sides


class SparseMatrix(NamedTuple):
    """A sparse matrix, row by row (CSR): what scipy calls a ``csr_array``, and predicting does without scipy."""

    values: NDArray[np.float32]
    columns: NDArray[np.int32]  # of each value; int32 is what MKL counts with
    starts: NDArray[np.int32]  # of each row among the values, and the end of the last
    shape: tuple[int, int]

    def tensor(self) -> Tensor:
        """The same as a sparse CSR tensor, without a copy."""
        with torch.no_grad(), warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta")
            return torch.sparse_csr_tensor(
                torch.from_numpy(self.starts),
                torch.from_numpy(self.columns),
                torch.from_numpy(self.values),
                size=self.shape,
                check_invariants=False,
            )

    def transposed(self) -> "SparseMatrix":
        """Its transpose, in a time linear in its entries, where torch would sort them."""
        from scipy.sparse import csr_array  # only training asks; the import takes as long as a prediction

        of_scipy: Any = csr_array((self.values, self.columns, self.starts), shape=self.shape).T.tocsr()
        return SparseMatrix(of_scipy.data, of_scipy.indices, of_scipy.indptr, self.shape[::-1])


class PyramidRoIAlign(MultiScaleRoIAlign):
    """torchvision's ``MultiScaleRoIAlign``: the same arguments, levels and values, quicker on a CPU.

    Lin et al. 2017 (arXiv 1612.03144), equation 1, assigns boxes to levels; He et al. 2017 (arXiv 1703.06870) define
    RoIAlign. ``sampling_ratio`` must be positive: the adaptive grid differs from box to box.
    """

    scales: list[float] | None
    map_levels: LevelMapper | None

    def forward(self, x: dict[str, Tensor], boxes: list[Tensor], image_shapes: list[tuple[int, int]]) -> Tensor:
        """Feature maps by name and boxes [R, 4] of each image to [sum of R, C, P, P]."""
        levels = _filter_input(x, self.featmap_names)
        on_cpu = levels[0].device.type == "cpu"
        if on_cpu and self.sampling_ratio <= 0:
            pooled: Tensor = super().forward(x, boxes, image_shapes)
            return pooled
        if self.scales is None or self.map_levels is None:
            self.scales, self.map_levels = _setup_scales(
                levels, image_shapes, self.canonical_scale, self.canonical_level
            )
        if not on_cpu:
            sheet = (x if isinstance(x, PyramidMaps) else PyramidMaps(x)).sheet(self.featmap_names)
            sides = smallest_sides(self.map_levels)
            on_sheet = sheet.pool(boxes, self.scales, sides, self.output_size[0], self.sampling_ratio)
            return on_sheet.to(levels[0].dtype)
        matrix = _pooling_matrix(
            levels,
            boxes,
            self.map_levels(boxes).numpy(),
            self.scales,
            self.output_size[0],
            self.sampling_ratio,
        )
        channels = levels[0].shape[1]
        rows = torch.cat([level.permute(0, 2, 3, 1).reshape(-1, channels) for level in levels])
        with torch.autocast("cpu", enabled=False):  # which would have a sparse product in half precision: there is none
            bins: Tensor = _SparseProduct.apply(rows.float(), matrix).to(rows.dtype)
        side = self.output_size[0]
        return bins.reshape(-1, side, side, channels).permute(0, 3, 1, 2)


class _SparseProduct(torch.autograd.Function):
    """``matrix @ rows`` for a constant matrix, in float32 under autocast too: torch has no other sparse product."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, matrix: SparseMatrix) -> Tensor:
        ctx.matrix = matrix
        with torch.autocast("cpu", enabled=False):
            return matrix.tensor() @ rows

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        with torch.autocast("cpu", enabled=False):
            return ctx.matrix.transposed().tensor() @ gradients[0].contiguous(), None


def _pooling_matrix(
    levels: list[Tensor],
    boxes: list[Tensor],
    level_of_box: NDArray[np.int64],
    scales: list[float],
    side: int,
    sampling_ratio: int,
) -> SparseMatrix:
    """The matrix [R · P · P, pixels of all levels and images]; a row holds (2 · sampling ratio)² weights."""
    images = np.repeat(np.arange(len(boxes)), [len(of_image) for of_image in boxes])
    heights = np.array([level.shape[2] for level in levels])
    widths = np.array([level.shape[3] for level in levels])
    batch = levels[0].shape[0]
    first_row = np.concatenate([[0], np.cumsum(batch * heights * widths)])
    scale = np.asarray(scales, dtype=np.float32)[level_of_box]
    corners = torch.cat(boxes).detach().float().numpy() * scale[:, None]
    height, width = heights[level_of_box], widths[level_of_box]
    y, y_weight = _taps(corners[:, 1], corners[:, 3], height, side, sampling_ratio)
    x, x_weight = _taps(corners[:, 0], corners[:, 2], width, side, sampling_ratio)
    origin = first_row[level_of_box] + images * height * width
    row = (origin[:, None, None] + y * width[:, None, None]).astype(np.int32)
    columns = row[:, :, None, :, None] + x[:, None, :, None, :].astype(np.int32)
    weights = y_weight[:, :, None, :, None] * x_weight[:, None, :, None, :]
    taps = y.shape[-1] * x.shape[-1]
    indptr = np.arange(0, weights.size + 1, taps, dtype=np.int32)
    shape = (len(corners) * side * side, int(first_row[-1]))
    return SparseMatrix(weights.reshape(-1), columns.reshape(-1), indptr, shape)


def _taps(
    lower: NDArray[np.float32],
    upper: NDArray[np.float32],
    length: NDArray[np.int64],
    side: int,
    sampling_ratio: int,
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Pixels along one axis that a bin reads, and their weights, both [R, P, 2 · sampling ratio]."""
    extent = np.maximum(upper - lower, np.float32(1.0))
    bin_size = extent / np.float32(side)
    bins = np.arange(side, dtype=np.float32)
    inside_bin = (np.arange(sampling_ratio, dtype=np.float32) + np.float32(0.5)) / np.float32(sampling_ratio)
    position = (
        lower[:, None, None]
        + bins[None, :, None] * bin_size[:, None, None]
        + inside_bin[None, None, :] * bin_size[:, None, None]
    )
    last = (length - 1)[:, None, None]
    counts = (position >= -1.0) & (position <= length[:, None, None])
    position = np.maximum(position, np.float32(0.0))
    low = np.minimum(position.astype(np.int64), last)
    fraction = np.where(low >= last, np.float32(0.0), position - low.astype(np.float32))
    share = counts.astype(np.float32) / np.float32(sampling_ratio)
    pixels = np.concatenate([low, np.minimum(low + 1, last)], axis=2)
    return pixels, np.concatenate([(1 - fraction) * share, fraction * share], axis=2)
