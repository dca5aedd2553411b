"""Label maps: how instances travel.

N instances of an image are painted into a few uint8 maps [L, H, W]: 0 is nothing, value v is the v-th instance of
that layer. Instances that would collide go to different layers, so overlaps and holes survive exactly, and warping
L maps with nearest neighbour warps all instances. ``slots`` [N, 2] says where each instance is: (layer, value).
"""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

MAX_VALUE = 255  # of uint8: a layer holds that many instances
_CHUNK_PIXELS = 2**21  # of label map under the boxes that are projected together: bounds the memory of mask_targets


class LayerPainter:
    """Paints instances one by one, each into the first layer that has room for it.

    Args:
        height: of the image, px.
        width: of the image, px.
    """

    def __init__(self, height: int, width: int) -> None:
        self._maps = [np.zeros((height, width), dtype=np.uint8)]
        self._counts = [0]

    def add(self, crop: NDArray[np.bool_], x0: int, y0: int) -> tuple[int, int]:
        """Paints a mask known inside a crop [h, w] whose upper left pixel is (x0, y0).

        Returns:
            The instance's layer and its value there.
        """
        h, w = crop.shape
        window = (slice(y0, y0 + h), slice(x0, x0 + w))
        crop = np.ascontiguousarray(crop)  # rasterisers give columns, maps have rows
        for number, layer in enumerate(self._maps):
            if self._counts[number] < MAX_VALUE and not np.logical_and(layer[window], crop).any():
                break
        else:
            number = len(self._maps)
            self._maps.append(np.zeros_like(self._maps[0]))
            self._counts.append(0)
        self._counts[number] += 1
        value = self._counts[number]
        # the map is 0 wherever the crop is not: arithmetic on all of the window is quicker than choosing pixels
        self._maps[number][window] |= crop.view(np.uint8) * np.uint8(value)
        return number, value

    @property
    def layers(self) -> NDArray[np.uint8]:
        """uint8 [L, H, W], L at least 1."""
        return np.stack(self._maps)


def masks_to_layers(masks: Tensor) -> tuple[Tensor, Tensor]:
    """Dense masks [N, H, W] (bool, or non-zero is foreground), as torchvision's targets hold them, to label maps.

    Returns:
        ``layers`` uint8 [L, H, W] and ``slots`` int64 [N, 2].
    """
    dense = masks.to(torch.bool).cpu().numpy()
    painter = LayerPainter(*dense.shape[1:])
    slots = [painter.add(mask, 0, 0) for mask in dense]
    return torch.from_numpy(painter.layers), torch.tensor(slots, dtype=torch.int64).reshape(-1, 2)


def layers_to_masks(layers: Tensor, slots: Tensor) -> Tensor:
    """Label maps [L, H, W] and slots [N, 2] to dense masks, bool [N, H, W]."""
    return layers[slots[:, 0]] == slots[:, 1, None, None].to(layers.dtype)


def boxes_and_areas_from_layers(
    layers: NDArray[np.uint8], slots: NDArray[np.int64]
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Reads every instance's box and area off the maps, in one pass over each.

    Returns:
        ``boxes`` float32 [N, 4], xyxy px where x2 and y2 are one past the last pixel (zeros for an instance without
        pixels), and ``areas`` int64 [N], px.
    """
    boxes = np.zeros((len(slots), 4), dtype=np.float32)
    areas = np.zeros(len(slots), dtype=np.int64)
    for number, layer in enumerate(layers):
        rows = np.flatnonzero(slots[:, 0] == number)
        if rows.size:
            found = _extents_and_areas(layer)[slots[rows, 1]]
            boxes[rows], areas[rows] = found[:, :4], found[:, 4]
    return boxes, areas


def _extents_and_areas(layer: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Box (xyxy) and area of every value of a map [H, W], int64 [256, 5]; zeros for values that are not there.

    Looks at runs of one value within a row instead of at pixels: there are a hundred times fewer.
    """
    table = np.zeros((MAX_VALUE + 1, 5), dtype=np.int64)
    height, width = layer.shape
    begins = np.empty((height, width), dtype=np.bool_)
    begins[:, :1] = True
    np.not_equal(layer[:, 1:], layer[:, :-1], out=begins[:, 1:])
    starts = begins.reshape(-1).nonzero()[0]
    values = layer.reshape(-1)[starts]
    lengths = np.empty_like(starts)
    np.subtract(starts[1:], starts[:-1], out=lengths[:-1])
    lengths[-1:] = layer.size - starts[-1:]
    filled = values.nonzero()[0]
    if not filled.size:
        return table
    by_value = filled[values[filled].argsort(kind="stable")]  # top to bottom within a value
    values, lengths = values[by_value], lengths[by_value]
    y, x = np.divmod(starts[by_value], width)
    changes = (values[1:] != values[:-1]).nonzero()[0]
    firsts = np.concatenate([[0], changes + 1])
    lasts = np.concatenate([changes, [len(values) - 1]])
    table[values[firsts]] = np.stack(
        [
            np.minimum.reduceat(x, firsts),
            y[firsts],
            np.maximum.reduceat(x + lengths, firsts),
            y[lasts] + 1,
            np.add.reduceat(lengths, firsts),
        ],
        axis=1,
    )
    return table


def mask_targets(
    layers: Sequence[Tensor],
    slots: Sequence[Tensor],
    matched_idxs: Sequence[Tensor],
    boxes: Sequence[Tensor],
    side: int,
) -> Tensor:
    """What the mask head should answer for each box of a batch, straight from the label maps.

    Equals torchvision's ``project_masks_on_boxes`` on dense masks: RoIAlign (scale 1, adaptive sampling, not aligned)
    of the indicator ``layer == value``. RoIAlign's bilinear average over a regular grid is a row operator times a
    column operator, so a target is ``rows @ indicator @ columns`` on the pixels under the box only.

    Args:
        layers: of each image, uint8 [L, H, W].
        slots: of each image, int64 [N, 2], (layer, value) of each instance.
        matched_idxs: of each image, int64 [R], the instance of each box.
        boxes: of each image, float [R, 4], xyxy px of its maps.
        side: M.

    Returns:
        float32 [sum of R, M, M], 0..1.
    """
    counts = [len(of_image) for of_image in boxes]
    device = boxes[0].device
    targets = torch.zeros(sum(counts), side, side, device=device)
    if len(targets) == 0:
        return targets
    sizes = torch.tensor([of_image.shape[-2:] for of_image in layers])
    image = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
    height, width = sizes[image].to(device).unbind(1)
    x1, y1, x2, y2 = torch.cat(list(boxes)).detach().float().unbind(1)
    layer, value = torch.cat([s[m] for s, m in zip(slots, matched_idxs, strict=True)]).unbind(1)
    top, rows = _pixels_under(y1, y2, height)
    left, columns = _pixels_under(x1, x2, width)
    crop = _crop_by_slices if device.type == "cpu" else _crop_by_gather
    for chosen, h, w in _chunks(rows.tolist(), columns.tolist()):
        these = torch.tensor(chosen, device=device)
        crops = crop(layers, image[chosen], layer[these], top[these], left[these], h, w)
        indicator = crops == value[these, None, None].to(torch.uint8)
        row_operator = _roi_align_operator(y1[these], y2[these], side, height[these], top[these], h)
        column_operator = _roi_align_operator(x1[these], x2[these], side, width[these], left[these], w)
        targets[these] = row_operator @ indicator.float() @ column_operator.transpose(1, 2)
    return targets


def _pixels_under(lower: Tensor, upper: Tensor, length: Tensor) -> tuple[Tensor, Tensor]:
    """First pixel and number of pixels, int64 [R], that bilinear samples between two edges can touch on one axis."""
    upper = torch.maximum(upper, lower + 1)  # RoIAlign widens boxes to one pixel
    start = lower.floor().clamp(min=0).minimum(length - 1).long()
    stop = (upper.floor() + 2).clamp(min=1).minimum(length).long()
    return start, (stop - start).clamp(min=1)


def _chunks(rows: list[int], columns: list[int]) -> Iterator[tuple[list[int], int, int]]:
    """Boxes of similar size together, with the height and width that hold them all."""
    order = sorted(range(len(rows)), key=lambda i: rows[i] * columns[i])
    chosen: list[int] = []
    h = w = 0
    for i in order:
        taller, wider = max(h, rows[i]), max(w, columns[i])
        if chosen and taller * wider * (len(chosen) + 1) > _CHUNK_PIXELS:
            yield chosen, h, w
            chosen, taller, wider = [], rows[i], columns[i]
        chosen.append(i)
        h, w = taller, wider
    yield chosen, h, w


def _crop_by_gather(
    layers: Sequence[Tensor], image: Tensor, layer: Tensor, top: Tensor, left: Tensor, h: int, w: int
) -> Tensor:
    """uint8 [R, h, w]; what reaches beyond the image repeats its edge, where the operators are zero."""
    flat = torch.cat([of_image.flatten() for of_image in layers])
    starts = torch.tensor([0, *(of_image.numel() for of_image in layers)]).cumsum(0)
    facts = torch.stack([starts[:-1], *torch.tensor([of_image.shape[-2:] for of_image in layers]).unbind(1)])
    start, height, width = facts[:, image].to(flat.device)[..., None]
    y = (top[:, None] + torch.arange(h, device=flat.device)).minimum(height - 1)
    x = (left[:, None] + torch.arange(w, device=flat.device)).minimum(width - 1)
    row = start + (layer[:, None] * height + y) * width
    return flat[row[:, :, None] + x[:, None, :]]


def _crop_by_slices(
    layers: Sequence[Tensor], image: Tensor, layer: Tensor, top: Tensor, left: Tensor, h: int, w: int
) -> Tensor:
    """The same with zeros beyond the image; on a CPU copying rows is several times faster than a gather."""
    crops = np.zeros((len(layer), h, w), dtype=np.uint8)
    sources = [of_image.numpy() for of_image in layers]
    for crop, number, plane, y, x in zip(
        crops, image.tolist(), layer.tolist(), top.tolist(), left.tolist(), strict=True
    ):
        window = sources[number][plane, y : y + h, x : x + w]
        crop[: window.shape[0], : window.shape[1]] = window
    return torch.from_numpy(crops)


def _roi_align_operator(
    lower: Tensor, upper: Tensor, side: int, length: Tensor, crop_start: Tensor, crop_length: int
) -> Tensor:
    """RoIAlign along one axis as a matrix, float32 [R, M, crop_length]: bins from the pixels of a crop."""
    extent = (upper - lower).clamp(min=1.0)
    samples = (extent / side).ceil()
    bin_size = extent / side
    k = torch.arange(int(samples.max()), device=lower.device)
    offset = (k + 0.5) * (bin_size / samples)[:, None]  # [R, G]
    bins = torch.arange(side, device=lower.device) * bin_size[:, None] + lower[:, None]  # [R, M]
    position = bins[:, :, None] + offset[:, None, :]  # [R, M, G]
    counts = (position >= -1.0) & (position <= length[:, None, None]) & (k < samples[:, None])[:, None, :]
    last = (length - 1)[:, None, None]
    position = position.clamp(min=0.0)
    low = position.long().minimum(last)
    fraction = (position - low).masked_fill_(low >= last, 0.0)
    weight = counts / samples[:, None, None]
    first = low - crop_start[:, None, None]
    operator = torch.zeros(len(lower), side, crop_length, device=lower.device)
    operator.scatter_add_(2, first.clamp(0, crop_length - 1), (1.0 - fraction) * weight)
    operator.scatter_add_(2, (first + 1).clamp(0, crop_length - 1), fraction * weight)
    return operator
