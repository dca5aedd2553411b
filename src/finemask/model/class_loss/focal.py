"""Focal loss: what is classified well already counts for little."""

from collections.abc import Sequence

import torch
from torch import Tensor

from finemask.model.class_loss.class_weights import ClassWeights

_LEAST_ERROR = 1e-6  # 1 - p below which the factor is flat: a power under 1 has no slope at 0


class FocalLoss:
    """Lin et al. 2017, "Focal Loss for Dense Object Detection" (arXiv 1708.02002), equation 4, for a softmax.

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
