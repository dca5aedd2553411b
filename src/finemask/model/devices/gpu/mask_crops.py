"""Mask targets of a batch on a GPU: each instance is cut out of its label map once, and RoIAlign reads the cut.

``MaskTruth`` cuts the pixels under each RoI, of which there are several times as many as instances, in pieces whose
number grows with the batch; and it has to wait for the sizes of the boxes. Here the cuts follow the ground truth, whose
boxes are read together with what else a step reads.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import pad
from torchvision.ops import roi_align

from finemask.model.devices.gpu.crossing import rows_of_images, send
from finemask.model.devices.gpu.truths import Truths
from finemask.ops.mask_ops import points_in_boxes

_MARGIN = 2  # px about an instance's box, empty but at the image's edge: what a sample beyond the cut reads
_SHEETS = 3  # cuts of similar size are of one size, that of the largest among them


class ReadTruths(NamedTuple):
    """What the host knows of a batch's instances."""

    boxes: NDArray[np.float32]  # [B, G, 4]
    slots: NDArray[np.int64]  # [B, G, 2]
    counts: list[int]  # instances of each image


class _Cuts(NamedTuple):
    """Where each instance was cut; instances are counted image after image."""

    pixels: list[Tensor]  # float32 [instances of a sheet, 1, h, w], 1 where the instance is
    ends: list[int]  # of each sheet's instances in ``order``
    place: NDArray[np.int64]  # [N], of an instance in the order of the sheets
    corner: NDArray[np.float32]  # [N, 2], x and y of its first pixel in the image


class CropTruth:
    """Those of ``finemask.model.mask_predictor.mask_branch.MaskTruth``, without a wait and in few operations.

    Args:
        truths: of the batch; each instance lies inside its box, as it does where boxes were read off the label maps.
        known: what the host knows of them.
        matched_idxs: of each image's RoIs on the host, int64 [R of it], the place of an instance.
        boxes: of each image's RoIs, [R of it, 4], xyxy px, inside the image.
    """

    def __init__(
        self, truths: Truths, known: ReadTruths, matched_idxs: Sequence[NDArray[np.int64]], boxes: Sequence[Tensor]
    ) -> None:
        self._truths, self._known = truths, known
        first = np.cumsum([0, *known.counts])[:-1]
        self._counts = [len(of_image) for of_image in boxes]
        of_rois = [idxs + start for idxs, start in zip(matched_idxs, first, strict=True)]
        self._instances = np.concatenate(of_rois).astype(np.int64)
        self._boxes = torch.cat(list(boxes)).detach().float()
        self._cuts: _Cuts | None = None

    def grid(self, side: int) -> Tensor:
        """See ``MaskTargets.grid``."""
        return self._coverage(self._boxes, self._instances, side)

    def at(self, points: Tensor) -> Tensor:
        """See ``MaskTargets.at``."""
        x, y = points_in_boxes(points, self._boxes).float().unbind(2)
        images = np.repeat(np.arange(len(self._counts)), self._counts)
        layer, value = self._flat_slots()[self._instances].T.reshape(2, -1)
        sizes, resized = np.array(self._truths.sizes)[images], np.array(self._truths.resized)[images]
        starts = np.array(self._truths.starts)[images] + layer * sizes.prod(1)
        whole = send(np.stack([starts, *sizes.T, *resized.T, value], axis=1), points.device)[..., None].unbind(1)
        start, rows, columns, height, width, value_of = whole
        down, across = send(_shrinking(sizes, resized)[..., None], points.device).unbind(1)
        counts = (x >= -1) & (x <= width) & (y >= -1) & (y <= height)
        left, right, x_share = _neighbours(x, width)
        top, bottom, y_share = _neighbours(y, height)
        upper, lower = (_source(line, down, rows) * columns + start for line in (top, bottom))
        first, second = (_source(column, across, columns) for column in (left, right))

        def indicator(row: Tensor, column: Tensor) -> Tensor:
            return (self._truths.layers[row + column] == value_of).float()

        above = torch.lerp(indicator(upper, first), indicator(upper, second), x_share)
        below = torch.lerp(indicator(lower, first), indicator(lower, second), x_share)
        return torch.lerp(above, below, y_share) * counts

    def pixels_outside(self) -> Tensor:
        """See ``MaskTargets.pixels_outside``."""
        device = self._boxes.device
        every = np.concatenate([np.arange(count) for count in self._known.counts]).astype(np.int64)
        of_image = rows_of_images(self._known.counts, device)
        grown = send(np.array([-1, -1, 1, 1], dtype=np.float32), device)  # resizing may round pixels off
        whole = self._truths.boxes[of_image, send(every, device)] + grown
        totals = self._pixels_inside(whole, np.arange(len(every)), self._known.counts)
        inside = self._pixels_inside(self._boxes, self._instances, self._counts)
        return (totals[send(self._instances, device)] - inside).clamp(min=0)

    def _pixels_inside(self, boxes: Tensor, instances: NDArray[np.int64], counts: Sequence[int]) -> Tensor:
        limits = np.array([(width, height) * 2 for height, width in self._truths.resized], dtype=np.float32)
        limit = send(limits[np.repeat(np.arange(len(counts)), counts)], boxes.device)
        snapped = boxes.round().clamp(min=0).minimum(limit)
        share = self._coverage(snapped - 0.5, instances, 1)[:, 0, 0]
        return share * (snapped[:, 2:] - snapped[:, :2]).clamp(min=1.0).prod(1)

    def _coverage(self, boxes: Tensor, instances: NDArray[np.int64], side: int) -> Tensor:
        """RoIAlign of each box on its instance, float32 [R, M, M]."""
        if not len(instances):
            return torch.zeros(0, side, side, device=boxes.device)
        if self._cuts is None:
            self._cuts = self._cut()
        cuts = self._cuts
        place = cuts.place[instances]
        order = np.argsort(place, kind="stable")
        sheet = np.searchsorted(cuts.ends, place[order], side="right")
        in_sheet = place[order] - np.array([0, *cuts.ends])[sheet]
        back = np.empty_like(order)
        back[order] = np.arange(len(order))
        there, again = send(np.stack([order, back]), boxes.device)
        corner = cuts.corner[instances[order]]
        offsets = np.column_stack([-in_sheet, corner, corner]).astype(np.float32)  # the sheet's row stands first
        rois = pad(boxes.index_select(0, there), (1, 0)) - send(offsets, boxes.device)
        ends = np.searchsorted(sheet, np.arange(len(cuts.ends)), side="right").tolist()
        parts = [
            roi_align(pixels, rois[start:end], (side, side), 1.0, -1)[:, 0]
            for pixels, start, end in zip(cuts.pixels, [0, *ends], ends, strict=False)
            if end > start
        ]
        return torch.cat(parts).index_select(0, again)

    def _flat_slots(self) -> NDArray[np.int64]:
        """[N, 2]."""
        counts = self._known.counts
        return np.concatenate([of_image[:count] for of_image, count in zip(self._known.slots, counts, strict=True)])

    def _cut(self) -> _Cuts:
        truths, known = self._truths, self._known
        images = np.repeat(np.arange(len(known.counts)), known.counts)
        boxes = np.concatenate([of_image[:count] for of_image, count in zip(known.boxes, known.counts, strict=True)])
        low = np.floor(boxes[:, :2]).astype(np.int64) - _MARGIN
        width, height = (np.ceil(boxes[:, 2:]).astype(np.int64) + _MARGIN - low).clip(min=1).T
        layer, value = self._flat_slots().T
        sizes, resized = np.array(truths.sizes)[images], np.array(truths.resized)[images]
        starts = np.array(truths.starts)[images] + layer * sizes.prod(1)
        down, across = _shrinking(sizes, resized).T
        order = np.argsort(np.maximum(height, width), kind="stable")
        groups = np.array_split(order, min(_SHEETS, len(order)))
        tables = []
        for some in groups:
            rows = low[some, 1:] + np.arange(height[some].max())
            columns = low[some, :1] + np.arange(width[some].max())
            rows = _source_rows(rows, down[some], sizes[some, 0], resized[some, 0])
            columns = _source_rows(columns, across[some], sizes[some, 1], resized[some, 1])
            tables += [starts[some, None] + rows * sizes[some, 1:], columns, value[some, None]]
        sent = send(np.concatenate([table.ravel() for table in tables]), self._boxes.device)
        parts = [
            part.reshape(table.shape) for part, table in zip(sent.split([t.size for t in tables]), tables, strict=True)
        ]
        pixels = []
        for row_start, column, number in zip(parts[::3], parts[1::3], parts[2::3], strict=True):
            is_there = truths.layers[row_start[:, :, None] + column[:, None, :]] == number[..., None]
            pixels.append(is_there[:, None].float())
        ends = np.cumsum([len(some) for some in groups]).tolist()
        place = np.empty_like(order)
        place[order] = np.arange(len(order))
        return _Cuts(pixels, ends, place, low.astype(np.float32))


def _shrinking(sizes: NDArray[np.int64], resized: NDArray[np.int64]) -> NDArray[np.float32]:
    """Pixels of the map for one of the resized image, down and across, in the precision in which torch has it."""
    shrinking: NDArray[np.float32] = np.divide(sizes, resized, dtype=np.float32)
    return shrinking


def _source_rows(
    positions: NDArray[np.int64], shrinking: NDArray[np.float32], size: NDArray[np.int64], resized: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Which row of a map nearest-neighbour resizing takes for a row [N, h]; beyond the image, that of its edge."""
    inside = positions.clip(0, resized[:, None] - 1).astype(np.float32)
    rows: NDArray[np.int64] = np.floor(inside * shrinking[:, None]).astype(np.int64)
    return rows.clip(max=size[:, None] - 1)


def _source(position: Tensor, shrinking: Tensor, size: Tensor) -> Tensor:
    return torch.minimum((position.float() * shrinking).floor().long(), size - 1)


def _neighbours(position: Tensor, length: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The pixels on either side along one axis, and how far towards the second one."""
    position = torch.minimum(position.clamp(min=0), length - 1)
    first = position.long()
    return first, torch.minimum(first + 1, length - 1), position - first
