"""How much each class counts in a classification loss: given, or from how often it occurs."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from finemask.errors import ConfigError


class ClassWeights:
    """The weights as a tensor, where the logits are.

    Args:
        class_weights: of labels 1..K, positive; background weighs 1. ``None`` for none.

    Raises:
        ConfigError: ``auto`` that nobody replaced, or a weight that is not positive.
    """

    def __init__(self, class_weights: Sequence[float] | str | None) -> None:
        self._weights: Tensor | None = None
        if class_weights is None:
            return
        if isinstance(class_weights, str):
            raise ConfigError(
                f"{class_weights!r} must be numbers by now",
                where="model.class_loss.class_weights",
                remedy="resolve_model() fills in what follows from the data.",
            )
        if not all(math.isfinite(weight) and weight > 0 for weight in class_weights):
            raise ConfigError("weights are positive numbers", where="model.class_loss.class_weights")
        self._weights = torch.tensor([1.0, *class_weights])

    def like(self, class_logits: Tensor) -> Tensor | None:
        """Weights [K + 1] on the device and in the precision of the logits; ``None`` for none."""
        if self._weights is None:
            return None
        self._weights = self._weights.to(class_logits)  # kept: a copy to a GPU would wait for it at every step
        return self._weights


def weights_from_counts(instances_per_label: Sequence[int]) -> list[float]:
    """Weights that fall with the square root of a category's frequency.

    Between no weighting, which forgets rare categories, and its inverse, which lets a handful of instances decide the
    training (Mahajan et al. 2018, arXiv 1805.00932, sample by the same root). The mean over all instances is 1, so
    that the loss keeps its size; a category without instances weighs as one with one.

    Args:
        instances_per_label: of labels 1..K.
    """
    counts = [max(1, count) for count in instances_per_label]
    roots = [count**-0.5 for count in counts]
    scale = sum(counts) / sum(count * root for count, root in zip(counts, roots, strict=True))
    return [round(scale * root, 6) for root in roots]
