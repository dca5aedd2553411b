"""The surroundings of chosen locations on the levels of a feature pyramid."""

from collections.abc import Sequence

import torch
from torch import Tensor


def patches_at(levels: Sequence[Tensor], locations: Tensor, radius: int) -> tuple[Tensor, Tensor]:
    """Cuts square patches out of feature maps, wherever their centres lie.

    Args:
        levels: feature maps [B, C, H, W], channels-last if they are to be read without a copy.
        locations: int64 [N], centres, counted image after image, level after level, row after row.
        radius: r; a patch has 2 r + 1 features a side.

    Returns:
        ``patches`` [N, 2 r + 1, 2 r + 1, C], whose features outside a map are those of its border, and ``inside``
        bool [N, 2 r + 1, 2 r + 1], false there.
    """
    side = 2 * radius + 1
    per_image = sum(level.shape[-2] * level.shape[-1] for level in levels)
    image, place = locations // per_image, locations % per_image
    reach = torch.arange(-radius, radius + 1, device=locations.device)
    first, chosen, patches, inside = 0, [], [], []
    for level in levels:
        channels, height, width = level.shape[1:]
        of_level = torch.where((place >= first) & (place < first + height * width))[0]
        cell = place[of_level] - first
        y, x = (cell // width)[:, None] + reach, (cell % width)[:, None] + reach
        line = image[of_level, None] * height + y.clamp(0, height - 1)
        rows = (line * width)[:, :, None] + x.clamp(0, width - 1)[:, None, :]
        features = level.permute(0, 2, 3, 1).reshape(-1, channels)
        # Not features[rows], whose gradient is added up location by location.
        patches.append(features.index_select(0, rows.flatten()).reshape(-1, side, side, channels))
        inside.append(((y >= 0) & (y < height))[:, :, None] & ((x >= 0) & (x < width))[:, None, :])
        chosen.append(of_level)
        first += height * width
    order = torch.cat(chosen).argsort()
    return torch.cat(patches)[order], torch.cat(inside)[order]
