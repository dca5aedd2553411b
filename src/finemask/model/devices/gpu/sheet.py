"""RoIAlign over all levels of the pyramid in one call: the levels lie side by side on one sheet.

torchvision's CUDA kernel reads one map. Asked level by level, the host has to wait for the list of each level's boxes,
and each level is a handful of operations, forward and backward. On a sheet, a box is only somewhere else. Each level
has a border that repeats its edge, which is what RoIAlign takes for a sample in the last half pixel.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad
from torchvision.ops import roi_align
from torchvision.ops.poolers import LevelMapper

from finemask.model.devices.gpu.crossing import send


class PyramidMaps(dict[str, Tensor]):
    """Feature maps by name that keep their sheet, so that boxes and masks are pooled from the same one."""

    def sheet(self, names: Sequence[str]) -> "Sheet":
        """The named maps on one sheet."""
        key = tuple(names)
        if not hasattr(self, "_sheets"):
            self._sheets: dict[tuple[str, ...], Sheet] = {}
        if key not in self._sheets:
            self._sheets[key] = Sheet([self[name] for name in names])
        return self._sheets[key]


class Sheet:
    """Feature maps [B, C, h, w] side by side, as one map float32 [B, C, H, W].

    The first stands above, the others stand below it from left to right.

    Args:
        levels: finest first.

    Attributes:
        features: the map.
        origins: x and y of each level's first pixel, px.
    """

    def __init__(self, levels: Sequence[Tensor]) -> None:
        bordered = [pad(level.float(), (0, 1, 0, 1), mode="replicate") for level in levels]
        below = bordered[1:]
        self.origins = [(0, 0)]
        self.features = bordered[0]
        if below:
            height = max(level.shape[-2] for level in below)
            strip = torch.cat([_padded(level, 0, height - level.shape[-2]) for level in below], dim=-1)
            width = max(strip.shape[-1], self.features.shape[-1])
            parts = [_padded(part, width - part.shape[-1], 0) for part in (self.features, strip)]
            left = 0
            for level in below:
                self.origins.append((left, bordered[0].shape[-2]))
                left += level.shape[-1]
            self.features = torch.cat(parts, dim=-2)

    def pool(
        self,
        boxes: Sequence[Tensor],
        scales: Sequence[float],
        from_side: Sequence[float],
        side: int,
        sampling_ratio: int,
    ) -> Tensor:
        """RoIAlign of boxes [R, 4] of each image, xyxy px: float32 [sum of R, C, side, side].

        Args:
            boxes: of each image.
            scales: of each level, its pixels in an image's.
            from_side: of each level but the first, the side of the smallest square that it has.
            side: P, bins.
            sampling_ratio: samples a bin and axis.
        """
        device = self.features.device
        moved = torch.cat(list(boxes)).float()
        facts = [(*(x, y) * 2, scale) for scale, (x, y) in zip(scales, self.origins, strict=True)]
        images = np.repeat(np.arange(len(boxes)), [len(of_image) for of_image in boxes])
        host = [np.square(from_side), np.array(facts).ravel(), images]
        from_area, of_levels, rows = send(np.concatenate(host, dtype=np.float32), device).split([len(h) for h in host])
        level_of_box = torch.bucketize((moved[:, 2:] - moved[:, :2]).prod(dim=1), from_area, right=True)
        where = of_levels.reshape(-1, 5)[level_of_box]
        placed = torch.addcmul(where[:, :4], moved, where[:, 4:])
        rois = torch.cat([rows[:, None], placed], dim=1)
        pooled: Tensor = roi_align(self.features, rois, (side, side), 1.0, sampling_ratio)
        return pooled


def smallest_sides(mapper: LevelMapper) -> list[float]:
    """From which side on a square lies on each level but the first (Lin et al. 2017, arXiv 1612.03144, equation 1)."""
    return [
        mapper.s0 * 2.0 ** (level - mapper.lvl0 - mapper.eps) for level in range(mapper.k_min + 1, mapper.k_max + 1)
    ]


def _padded(level: Tensor, right: int, below: int) -> Tensor:
    return pad(level, (0, right, 0, below)) if right or below else level
