"""Masks as the mask head has them, M × M in a box: targets out of label maps, and pasting into RLE.

A pixel's value stands at its whole-numbered coordinate, as RoIAlign (``aligned=False``) reads maps: what
``point_targets`` reads at the middle of a cell is what ``mask_targets`` finds there with one sample.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import grid_sample, interpolate, pad

from finemask.ops.rle import crop_to_rle
from finemask.types import Rle

_PADDING = 1  # torchvision pads a mask by one pixel before resizing it, so that its edge fades out
_CHUNK_PIXELS = 2**21  # of label map under the boxes that are projected together: bounds the memory


def mask_targets(
    layers: Sequence[Tensor],
    slots: Sequence[Tensor],
    matched_idxs: Sequence[Tensor],
    boxes: Sequence[Tensor],
    side: int,
) -> Tensor:
    """Mask targets of the boxes of a batch: RoIAlign of each one's instance, straight from the label maps.

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
        with torch.autocast(device.type, enabled=False):  # it would round the products to half precision
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


def points_in_boxes(points: Tensor, boxes: Tensor) -> Tensor:
    """Points in units of their box, [R, P, 2] as (x, y) in 0..1, to px, given boxes [R, 4] xyxy px."""
    corner, far = boxes[:, None, :2], boxes[:, None, 2:]
    return corner + points * (far - corner).clamp(min=1.0)  # RoIAlign widens boxes to one pixel


def point_targets(
    layers: Sequence[Tensor], slots: Sequence[Tensor], matched_idxs: Sequence[Tensor], points: Sequence[Tensor]
) -> Tensor:
    """Mask targets at points: the bilinear value of ``layer == value``.

    Args:
        layers: of each image, uint8 [L, H, W].
        slots: of each image, int64 [N, 2], (layer, value) of each instance.
        matched_idxs: of each image, int64 [R], the instance of each row of points.
        points: of each image, float [R, P, 2], (x, y) px of its maps.

    Returns:
        float32 [sum of R, P], 0..1; 0 more than a pixel outside the image.
    """
    return torch.cat([_of_image(*parts) for parts in zip(layers, slots, matched_idxs, points, strict=True)])


def _of_image(layers: Tensor, slots: Tensor, matched_idxs: Tensor, points: Tensor) -> Tensor:
    height, width = layers.shape[-2:]
    layer, value = slots[matched_idxs].unbind(1)
    x, y = points.float().unbind(2)
    counts = (x >= -1) & (x <= width) & (y >= -1) & (y <= height)
    left, right, x_share = _neighbours(x, width)
    top, bottom, y_share = _neighbours(y, height)

    def indicator(row: Tensor, column: Tensor) -> Tensor:
        return (layers[layer[:, None], row, column] == value[:, None]).float()

    upper = torch.lerp(indicator(top, left), indicator(top, right), x_share)
    lower = torch.lerp(indicator(bottom, left), indicator(bottom, right), x_share)
    return torch.lerp(upper, lower, y_share) * counts


def _neighbours(position: Tensor, length: int) -> tuple[Tensor, Tensor, Tensor]:
    """The pixels on either side along one axis, and how far towards the second one."""
    position = position.clamp(0, length - 1)
    first = position.long()
    return first, (first + 1).clamp(max=length - 1), position - first


def features_at(feature_map: Tensor, points: Tensor) -> Tensor:
    """Bilinear values of a map [C, H, W] at points [R, P, 2], (x, y) in its own pixels: [R, P, C]."""
    height, width = feature_map.shape[-2:]
    x, y = points.unbind(2)
    grid = torch.stack([x * (2 / max(1, width - 1)) - 1, y * (2 / max(1, height - 1)) - 1], dim=2)
    values = grid_sample(
        feature_map[None].to(grid.dtype), grid[None], mode="bilinear", padding_mode="border", align_corners=True
    )
    return values[0].permute(1, 2, 0)


def cells_at(masks: Tensor, points: Tensor) -> Tensor:
    """Bilinear values of masks [R, M, M] at points [R, P, 2], (x, y) in 0..1 from rim to rim: [R, P]."""
    values = grid_sample(
        masks[:, None], points[:, None] * 2 - 1, mode="bilinear", padding_mode="border", align_corners=False
    )
    return values[:, 0, 0]


def masks_to_rles(
    mask_probs: Tensor, boxes: Tensor, image_size_hw: tuple[int, int], threshold: float = 0.5
) -> list[Rle]:
    """Pastes each mask into its own box and encodes it from there.

    The pixels are those of torchvision's ``paste_masks_in_image(...) > threshold``, including boxes that reach
    beyond the image; the cost follows the boxes' area instead of N × H × W.

    Args:
        mask_probs: float [N, M, M], 0..1.
        boxes: float [N, 4], xyxy px of the image.
        image_size_hw: height and width of the image.
        threshold: pixels above it are foreground.

    Returns:
        One RLE an instance, of size ``image_size_hw``.
    """
    height, width = image_size_hw
    probs = pad(mask_probs.detach().float().cpu(), (_PADDING,) * 4)
    corners = pasted_corners(boxes, mask_probs.shape[-1]).tolist()
    empty = torch.zeros(0, 0, dtype=torch.bool)
    rles = []
    for prob, (x1, y1, x2, y2) in zip(probs, corners, strict=True):
        h, w = max(y2 - y1 + 1, 1), max(x2 - x1 + 1, 1)
        top, left = max(y1, 0), max(x1, 0)
        bottom, right = min(y2 + 1, height), min(x2 + 1, width)
        if bottom <= top or right <= left:
            crop, top, left = empty, 0, 0
        else:
            pasted = interpolate(prob[None, None], size=(h, w), mode="bilinear", align_corners=False)[0, 0]
            crop = pasted[top - y1 : bottom - y1, left - x1 : right - x1] > threshold
        rles.append(crop_to_rle(crop.numpy(), left, top, height, width))
    return rles


def pasted_corners(boxes: Tensor, mask_side: int) -> Tensor:
    """The whole pixels that a mask is stretched over, which are torchvision's: a hair less, and it is one pixel less.

    Args:
        boxes: float [N, 4], xyxy px of the image.
        mask_side: of the masks, without padding.

    Returns:
        int64 [N, 4] on the CPU, xyxy, the last ones included; they may lie beyond the image.
    """
    return _expand(boxes.detach().float().cpu(), mask_side).to(torch.int64)


def _expand(boxes: Tensor, mask_side: int) -> Tensor:
    """Boxes grown about their centre by what padding adds to a mask."""
    scale = (mask_side + 2 * _PADDING) / mask_side
    half_w, half_h = (boxes[:, 2] - boxes[:, 0]) * 0.5, (boxes[:, 3] - boxes[:, 1]) * 0.5
    center_x, center_y = (boxes[:, 2] + boxes[:, 0]) * 0.5, (boxes[:, 3] + boxes[:, 1]) * 0.5
    half_w, half_h = half_w * scale, half_h * scale
    return torch.stack([center_x - half_w, center_y - half_h, center_x + half_w, center_y + half_h], dim=1)
