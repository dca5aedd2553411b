"""Cross entropy with softened targets."""

from collections.abc import Sequence

from torch import Tensor
from torch.nn import functional

from finemask.model.class_loss.class_weights import ClassWeights


class LabelSmoothingLoss:
    """Szegedy et al. 2016, "Rethinking the Inception Architecture" (arXiv 1512.00567), section 7.

    The true class is asked for with probability 1 - smoothing · K / (K + 1), every other with smoothing / (K + 1):
    a few wrong labels cost less, and scores are less sure of themselves.

    Args:
        smoothing: what of the probability is spread over all K + 1 classes, 0..1; 0 is plain cross entropy.
        class_weights: see ``CrossEntropyLoss``.
    """

    def __init__(self, smoothing: float = 0.1, class_weights: Sequence[float] | None = None) -> None:
        if not 0 <= smoothing <= 1:
            raise ValueError(f"class_loss.smoothing is a share from 0 to 1, not {smoothing}")
        self._smoothing = smoothing
        self._weights = ClassWeights(class_weights)

    def __call__(self, class_logits: Tensor, labels: Tensor) -> Tensor:
        """See ``finemask.types.ClassLoss``."""
        if labels.numel() == 0:
            return class_logits.sum() * 0.0
        weights = self._weights.like(class_logits)
        return functional.cross_entropy(class_logits, labels, weights, label_smoothing=self._smoothing)
