"""Label maps and feature maps, read at single points.

A pixel's value stands at its whole-numbered coordinate, as RoIAlign (``aligned=False``) reads maps: what is read at
the middle of a cell of a mask target is what ``mask_targets`` finds there with one sample.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional


def points_in_boxes(points: Tensor, boxes: Tensor) -> Tensor:
    """Points in units of their box, [R, P, 2] as (x, y) in 0..1, to px, given boxes [R, 4] xyxy px."""
    corner, far = boxes[:, None, :2], boxes[:, None, 2:]
    return corner + points * (far - corner).clamp(min=1.0)  # RoIAlign widens boxes to one pixel


def point_targets(
    layers: Sequence[Tensor], slots: Sequence[Tensor], matched_idxs: Sequence[Tensor], points: Sequence[Tensor]
) -> Tensor:
    """How much of an instance is at each point: the bilinear value of ``layer == value``.

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
    values = functional.grid_sample(
        feature_map[None].to(grid.dtype), grid[None], mode="bilinear", padding_mode="border", align_corners=True
    )
    return values[0].permute(1, 2, 0)


def cells_at(masks: Tensor, points: Tensor) -> Tensor:
    """Bilinear values of masks [R, M, M] at points [R, P, 2], (x, y) in 0..1 from rim to rim: [R, P]."""
    values = functional.grid_sample(
        masks[:, None], points[:, None] * 2 - 1, mode="bilinear", padding_mode="border", align_corners=False
    )
    return values[:, 0, 0]
