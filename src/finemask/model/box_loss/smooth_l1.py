"""Cross entropy over classes, smooth L1 over the deltas of the true class: torchvision's loss."""

import torch
from torch import Tensor
from torch.nn import functional


class SmoothL1BoxLoss:
    """Girshick 2015, "Fast R-CNN" (arXiv 1504.08083), as torchvision's ``fastrcnn_loss`` computes it.

    Both terms are averaged over all sampled RoIs, positives and negatives.

    Args:
        beta: where the quadratic part ends, in deltas; 1/9 as in torchvision.
        weight: factor of the box term.
    """

    def __init__(self, beta: float = 1 / 9, weight: float = 1.0) -> None:
        self.beta = beta
        self.weight = weight

    def __call__(
        self,
        class_logits: Tensor,
        box_regression: Tensor,
        labels: Tensor,
        regression_targets: Tensor,
        proposals: Tensor,
    ) -> dict[str, Tensor]:
        """See ``finemask.types.BoxLoss``."""
        if labels.numel() == 0:
            return {"loss_classifier": class_logits.sum() * 0.0, "loss_box_reg": box_regression.sum() * 0.0}
        positive = torch.where(labels > 0)[0]
        deltas = box_regression.reshape(len(labels), -1, 4)[positive, labels[positive]]
        loss_box_reg = functional.smooth_l1_loss(deltas, regression_targets[positive], beta=self.beta, reduction="sum")
        return {
            "loss_classifier": functional.cross_entropy(class_logits, labels),
            "loss_box_reg": self.weight * loss_box_reg / labels.numel(),
        }
