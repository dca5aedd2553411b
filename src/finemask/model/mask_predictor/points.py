"""Where PointRend looks: points of uncertain prediction, in training and while a mask is being made finer.

Kirillov et al. 2020 (arXiv 1912.08193), section 3.1. Points are (x, y) in units of the mask, 0..1 from rim to rim.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from finemask.ops.point_targets import cells_at


def sample_uncertain_points(logits: Tensor, count: int, oversample: float, importance: float) -> Tensor:
    """Draws points of which a share is chosen for lying where the mask is least certain.

    Args:
        logits: [R, M, M].
        count: P, points a mask.
        oversample: how many times as many are drawn uniformly to choose from.
        importance: share of the points that are the most uncertain of those drawn; the others are uniform.

    Returns:
        [R, P, 2].
    """
    drawn = torch.rand(len(logits), int(oversample * count), 2, device=logits.device, dtype=logits.dtype)
    chosen = int(importance * count)
    most_uncertain = cells_at(logits, drawn).abs().topk(chosen, dim=1, largest=False, sorted=False).indices
    uncertain = drawn.gather(1, most_uncertain[:, :, None].expand(-1, -1, 2))
    uniform = torch.rand(len(logits), count - chosen, 2, device=logits.device, dtype=logits.dtype)
    return torch.cat([uncertain, uniform], dim=1)


def subdivide(logits: Tensor, predict: Callable[[Tensor], Tensor], steps: int, count: int) -> Tensor:
    """Doubles the side of masks step by step and predicts the least certain cells of each step anew.

    Args:
        logits: [R, M, M].
        predict: points [R, P, 2] to logits [R, P].
        steps: s.
        count: cells predicted anew at each step; all of them where there are no more.

    Returns:
        Logits [R, M · 2^s, M · 2^s].
    """
    for _ in range(steps):
        logits = functional.interpolate(logits[:, None], scale_factor=2.0, mode="bilinear", align_corners=False)[:, 0]
        side = logits.shape[-1]
        cells = logits.flatten(1).abs().topk(min(count, side * side), dim=1, largest=False, sorted=False).indices
        row, column = cells.div(side, rounding_mode="floor"), cells % side
        points = (torch.stack([column, row], dim=2).to(logits.dtype) + 0.5) / side
        logits = logits.flatten(1).scatter(1, cells, predict(points).to(logits.dtype)).reshape(-1, side, side)
    return logits
