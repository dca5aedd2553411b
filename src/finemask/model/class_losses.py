"""Classification losses: cross entropy, focal loss, label smoothing, and class weights."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from finemask.errors import ConfigError


class ClassWeights:
    """Class weights as a tensor that is kept where the logits are.

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
    """Class weights by the inverse square root of a category's frequency.

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


class CrossEntropyLoss:
    """Softmax cross entropy, as torchvision's ``fastrcnn_loss`` (Girshick 2015, "Fast R-CNN", arXiv 1504.08083).

    Args:
        class_weights: of labels 1..K; background weighs 1. The mean is a weighted one. ``None`` weighs all alike.
    """

    def __init__(self, class_weights: Sequence[float] | None = None) -> None:
        self._weights = ClassWeights(class_weights)
        self._smoothing = 0.0

    def __call__(self, class_logits: Tensor, labels: Tensor) -> Tensor:
        """See ``finemask.types.ClassLoss``."""
        if labels.numel() == 0:
            return class_logits.sum() * 0.0
        weights = self._weights.like(class_logits)
        return functional.cross_entropy(class_logits, labels, weights, label_smoothing=self._smoothing)


class LabelSmoothingLoss(CrossEntropyLoss):
    """Label smoothing (Szegedy et al. 2016, "Rethinking the Inception Architecture", arXiv 1512.00567, section 7).

    The true class is asked for with probability 1 - smoothing · K / (K + 1), every other with smoothing / (K + 1):
    a few wrong labels cost less, and scores are less sure of themselves.

    Args:
        smoothing: what of the probability is spread over all K + 1 classes, 0..1; 0 is plain cross entropy.
        class_weights: see ``CrossEntropyLoss``.
    """

    def __init__(self, smoothing: float = 0.1, class_weights: Sequence[float] | None = None) -> None:
        if not 0 <= smoothing <= 1:
            raise ValueError(f"class_loss.smoothing is a share from 0 to 1, not {smoothing}")
        super().__init__(class_weights)
        self._smoothing = smoothing


_LEAST_ERROR = 1e-6  # 1 - p below which the factor is flat: a power under 1 has no slope at 0


class FocalLoss:
    """Focal loss for a softmax (Lin et al. 2017, "Focal Loss for Dense Object Detection", arXiv 1708.02002, eq. 4).

    The paper writes it for one sigmoid a class over all anchors and divides by the number of positives. Here the
    classes share a softmax and the sampler has balanced the RoIs, so that the mean is taken over all of them; with
    gamma 0 it is cross entropy.

    Args:
        gamma: exponent of 1 - p.
        class_weights: see ``CrossEntropyLoss``; the alpha of the paper.
    """

    def __init__(self, gamma: float = 2.0, class_weights: Sequence[float] | None = None) -> None:
        if gamma < 0:
            raise ValueError(f"class_loss.gamma is at least 0, not {gamma}")
        self._gamma = gamma
        self._weights = ClassWeights(class_weights)

    def __call__(self, class_logits: Tensor, labels: Tensor) -> Tensor:
        """See ``finemask.types.ClassLoss``."""
        if labels.numel() == 0:
            return class_logits.sum() * 0.0
        log_p = class_logits.log_softmax(dim=1).gather(1, labels[:, None])[:, 0]
        error = (-torch.expm1(log_p)).clamp(min=_LEAST_ERROR)
        losses = -(error**self._gamma) * log_p
        weights = self._weights.like(class_logits)
        if weights is None:
            return losses.mean()
        return (losses * weights[labels]).sum() / weights[labels].sum()
