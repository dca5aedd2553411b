"""Random samples of a fixed size: random keys and the largest of them, instead of a permutation of what is there."""

from collections.abc import Callable
from typing import NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor


class Drawn(NamedTuple):
    """What was drawn in each of B images: positives first, then background, then places that are not filled."""

    rows: Tensor  # int64 [B, S], positions among the image's boxes
    is_positive: Tensor  # bool [B, S]
    is_drawn: Tensor  # bool [B, S]
    num_positives: Tensor  # int64 [B]
    num_drawn: Tensor  # int64 [B], at most S


@torch.no_grad()
def draw_balanced(kinds: Tensor, batch_size: int, positive_fraction: float, keys: Tensor | None = None) -> Drawn:
    """Draws positives, and fills up with background: ``finemask.ops.box_ops.sample_balanced`` for all images at once.

    Args:
        kinds: int64 [B, N]; above 0 is positive, 0 background, below 0 never drawn.
        batch_size: at most so many of an image.
        positive_fraction: at most this share of them positive, 0..1.
        keys: float [B, N], finite; those with the largest are drawn. Random ones by default.
    """
    count = kinds.shape[1]
    size = min(batch_size, count)
    most = min(int(batch_size * positive_fraction), count)
    if keys is None:
        keys = torch.rand(kinds.shape, device=kinds.device)
    best_positive = keys.masked_fill(kinds <= 0, -torch.inf).topk(most, dim=1)
    best_background = keys.masked_fill(kinds != 0, -torch.inf).topk(size, dim=1)
    num_positives = (best_positive.values > -torch.inf).sum(dim=1)
    num_background = torch.minimum((best_background.values > -torch.inf).sum(dim=1), batch_size - num_positives)
    place = torch.arange(size, device=kinds.device)
    beyond = place - num_positives[:, None]
    is_positive, num_drawn = beyond < 0, num_positives + num_background
    source = torch.where(is_positive, place, beyond + most)
    rows = torch.cat([best_positive.indices, best_background.indices], dim=1).gather(1, source)
    return Drawn(rows, is_positive, place < num_drawn[:, None], num_positives, num_drawn)


@runtime_checkable
class BatchSampler(Protocol):
    """A ``finemask.types.ProposalSampler`` that can also draw from all images at once, without a wait."""

    def draw(self, labels: Tensor, hardness: Callable[[], Tensor]) -> Drawn:
        """What calling it draws.

        Args:
            labels: int64 [B, N]; -1 is ignored, 0 is background.
            hardness: computes, when it is called, the classification loss of each proposal, float [B, N].
        """


def draws_batches(sampler: object) -> bool:
    """Whether a sampler draws from batches what it draws from images: a class that replaces one replaces both."""
    of_images = next((kind for kind in type(sampler).__mro__ if "__call__" in vars(kind)), None)
    return isinstance(sampler, BatchSampler) and of_images is not None and "draw" in vars(of_images)
