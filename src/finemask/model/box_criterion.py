"""Both losses of the box head, put together from a classification loss and a regression loss."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torchvision.models.detection._utils import BoxCoder

from finemask.types import BoxLoss, ClassLoss


@dataclass(frozen=True)
class BoxCriterion:
    """Classification over all sampled RoIs, regression over the positive ones.

    Both are averaged over all sampled RoIs, as in torchvision's ``fastrcnn_loss``, so that an image with few positives
    pulls at the boxes less. For deltas of another scale: ``dataclasses.replace(criterion, box_coder=…)``.

    Args:
        class_loss: see ``finemask.types.ClassLoss``.
        box_loss: see ``finemask.types.BoxLoss``.
        box_coder: what wrote the target deltas.
    """

    class_loss: ClassLoss
    box_loss: BoxLoss
    box_coder: BoxCoder

    def __call__(
        self,
        class_logits: Tensor,
        box_regression: Tensor,
        labels: Tensor,
        regression_targets: Tensor,
        proposals: Tensor,
    ) -> dict[str, Tensor]:
        """Losses of one batch.

        Args:
            class_logits: [R, K + 1].
            box_regression: [R, 4 (K + 1)], deltas.
            labels: int64 [R], 0 is background.
            regression_targets: [R, 4], deltas.
            proposals: [R, 4], xyxy px, what the deltas are relative to.

        Returns:
            ``loss_classifier`` and ``loss_box_reg``, scalars, finite and differentiable for R = 0 as well.
        """
        positive = torch.where(labels > 0)[0]
        of_classes = box_regression.reshape(-1, box_regression.shape[1] // 4, 4)
        loss_box_reg = self.box_loss(
            of_classes[positive, labels[positive]],
            regression_targets[positive],
            proposals[positive],
            self.box_coder.decode_single,
        )
        return {
            "loss_classifier": self.class_loss(class_logits, labels),
            "loss_box_reg": loss_box_reg / max(1, labels.numel()),
        }
