"""Random proposals in a fixed proportion of positives: torchvision's sampling."""

from torch import Tensor
from torchvision.models.detection._utils import BalancedPositiveNegativeSampler


class RandomSampler:
    """Draws at most ``batch_size_per_image`` proposals, of which at most a fraction positive.

    Args:
        batch_size_per_image: proposals an image that the box head trains on.
        positive_fraction: upper bound of the share of positives among them, 0..1.
    """

    def __init__(self, batch_size_per_image: int = 512, positive_fraction: float = 0.25) -> None:
        self._sampler = BalancedPositiveNegativeSampler(batch_size_per_image, positive_fraction)

    def __call__(self, labels: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """See ``finemask.types.ProposalSampler``."""
        positives, negatives = self._sampler(labels)
        return positives, negatives
