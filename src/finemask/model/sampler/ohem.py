"""The proposals that are hardest to classify."""

from collections.abc import Callable

import torch
from torch import Tensor


class OHEMSampler:
    """Online hard example mining: the proposals of largest loss, positives and background each on their own.

    Shrivastava, Gupta & Girshick 2016, "Training region-based object detectors with online hard example mining" (arXiv
    1604.03540). Without their suppression of overlapping proposals and with the usual bound on the share of positives,
    as in mmdetection's ``OHEMSampler``. All proposals go through the box head once more, without a gradient; a batch
    norm in that head counts them too.

    Args:
        batch_size_per_image: proposals an image that the box head trains on.
        positive_fraction: upper bound of the share of positives among them, 0..1.
    """

    def __init__(self, batch_size_per_image: int = 512, positive_fraction: float = 0.25) -> None:
        self._batch_size = batch_size_per_image
        self._positive_fraction = positive_fraction

    def __call__(self, labels: list[Tensor], hardness: Callable[[], list[Tensor]]) -> list[Tensor]:
        """See ``finemask.types.ProposalSampler``."""
        return [self._hardest(*of_image) for of_image in zip(labels, hardness(), strict=True)]

    def _hardest(self, labels: Tensor, losses: Tensor) -> Tensor:
        order = losses.argsort(descending=True, stable=True)
        ranked = labels[order]
        positives = order[ranked > 0][: int(self._batch_size * self._positive_fraction)]
        background = order[ranked == 0][: self._batch_size - len(positives)]
        return torch.cat([positives, background]).sort().values
