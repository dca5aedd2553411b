"""Random proposals in a fixed proportion of positives: torchvision's sampling."""

from collections.abc import Callable

import torch
from torch import Tensor

from finemask.ops.matching import sample_balanced


class RandomSampler:
    """Draws at most ``batch_size_per_image`` proposals, of which at most a fraction positive.

    Args:
        batch_size_per_image: proposals an image that the box head trains on.
        positive_fraction: upper bound of the share of positives among them, 0..1.
    """

    def __init__(self, batch_size_per_image: int = 512, positive_fraction: float = 0.25) -> None:
        self._batch_size = batch_size_per_image
        self._positive_fraction = positive_fraction

    def __call__(self, labels: list[Tensor], hardness: Callable[[], list[Tensor]]) -> list[Tensor]:
        """See ``finemask.types.ProposalSampler``."""
        drawn = [sample_balanced(of_image, self._batch_size, self._positive_fraction) for of_image in labels]
        return [torch.cat(pair).sort().values for pair in drawn]
