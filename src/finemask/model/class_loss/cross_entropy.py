"""Cross entropy over the classes: torchvision's loss."""

from collections.abc import Sequence

from torch import Tensor
from torch.nn import functional

from finemask.model.class_loss.class_weights import ClassWeights


class CrossEntropyLoss:
    """Girshick 2015, "Fast R-CNN" (arXiv 1504.08083), as torchvision's ``fastrcnn_loss`` computes it.

    Args:
        class_weights: of labels 1..K; background weighs 1. The mean is a weighted one. ``None`` weighs all alike.
    """

    def __init__(self, class_weights: Sequence[float] | None = None) -> None:
        self._weights = ClassWeights(class_weights)

    def __call__(self, class_logits: Tensor, labels: Tensor) -> Tensor:
        """See ``finemask.types.ClassLoss``."""
        if labels.numel() == 0:
            return class_logits.sum() * 0.0
        return functional.cross_entropy(class_logits, labels, self._weights.like(class_logits))
