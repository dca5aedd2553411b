"""The surroundings of chosen locations on the levels of a feature pyramid."""

from collections.abc import Sequence

import torch
from torch import Tensor


def patches_at(levels: Sequence[Tensor], locations: Tensor, radius: int) -> tuple[Tensor, Tensor]:
    """Cuts square patches out of feature maps, wherever their centres lie.

    Args:
        levels: feature maps [B, C, H, W].
        locations: int64 [N], centres, counted image after image, level after level, row after row.
        radius: r; a patch has 2 r + 1 features a side.

    Returns:
        ``patches`` [N, 2 r + 1, 2 r + 1, C], whose features outside a map are those of its border, and ``inside``
        bool [N, 2 r + 1, 2 r + 1], false there.
    """
    batch, channels, side = levels[0].shape[0], levels[0].shape[1], 2 * radius + 1
    sizes = torch.tensor([level.shape[-2:] for level in levels], device=locations.device)  # [L, 2]
    ends = sizes.prod(1).cumsum(0)
    image, place = locations // ends[-1], locations % ends[-1]
    level = torch.bucketize(place, ends, right=True)
    (height, width), first = sizes[level].T, (ends - sizes.prod(1))[level]
    reach = torch.arange(-radius, radius + 1, device=locations.device)
    y = ((place - first) // width)[:, None] + reach
    x = ((place - first) % width)[:, None] + reach
    inside = _within(y, height)[:, :, None] & _within(x, width)[:, None, :]
    line = (image * height)[:, None] + _clamped(y, height)
    rows = (batch * first)[:, None, None] + (line * width[:, None])[:, :, None] + _clamped(x, width)[:, None, :]
    features = torch.cat([of_level.permute(0, 2, 3, 1).reshape(-1, channels) for of_level in levels])
    # Not features[rows], whose gradient is added up feature by feature.
    return features.index_select(0, rows.flatten()).reshape(-1, side, side, channels), inside


def _within(places: Tensor, length: Tensor) -> Tensor:
    return (places >= 0) & (places < length[:, None])


def _clamped(places: Tensor, length: Tensor) -> Tensor:
    return places.clamp(min=0).minimum(length[:, None] - 1)
