"""Mask scoring: a mask predictor with a head that predicts the IoU of its masks."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision.ops import Conv2dNormActivation

from finemask.model.mask_predictor.fcn import FCNMaskPredictor
from finemask.model.mask_predictor.mask_branch import POOLED_MASK, MaskRois, MaskTargets, PlainMaskBranch
from finemask.types import MaskLoss

_USUAL_IOU = 0.75  # of a mask with the truth, once both are trained


class MaskIoUMaskPredictor(FCNMaskPredictor):
    """Predicts each mask's IoU with the truth and multiplies the detection's score by it.

    Huang et al. 2019, "Mask Scoring R-CNN" (arXiv 1903.00241). The head sees the pooled features of the pyramid and the
    predicted mask, halved by max pooling; its target is the IoU of the mask at threshold 0.5 with the whole true mask,
    the part outside the RoI included. Where this differs from the paper: a detection has one score here, so that boxes
    are ranked by the product as well; and no gradient flows from the predicted IoU into the mask, which is not to
    become easier to judge.

    ``score_thresh`` looks at the class score, before the product: what it lets through does not depend on this head.

    Args:
        in_channels: C', channels of the mask head's features.
        num_classes: K + 1.
        pyramid_channels: C, channels of the pooled features.
        channels: of the head's 3 × 3 convolutions; the last one halves the side.
        representation_size: width of the two layers after them.
        loss_weight: factor of the squared error of the IoU.
        hidden_channels: between upsampling and logits; ``in_channels`` if not given.
    """

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        pyramid_channels: int,
        channels: Sequence[int] = (256, 256, 256, 256),
        representation_size: int = 1024,
        loss_weight: float = 0.5,
        hidden_channels: int | None = None,
    ) -> None:
        super().__init__(in_channels, num_classes, hidden_channels)
        self.mask_iou = MaskIoUHead(pyramid_channels, num_classes, channels, representation_size)
        self._loss_weight = loss_weight

    def losses(self, rois: MaskRois, truth: MaskTargets, mask_loss: MaskLoss) -> dict[str, Tensor]:
        """``loss_mask`` and ``loss_mask_iou``; see ``MaskBranch``."""
        logits = PlainMaskBranch(self).logits(rois)
        targets = truth.grid(logits.shape[-1])
        probs = logits.detach().sigmoid()
        found = self.mask_iou(rois.pooled, probs, rois.labels).float()
        wanted = mask_ious(probs, targets, truth.pixels_outside(), torch.cat(rois.boxes))
        loss_iou = functional.mse_loss(found, wanted, reduction="sum") / max(1, len(wanted))
        return {
            "loss_mask": mask_loss(logits, targets, rois.labels),
            "loss_mask_iou": self._loss_weight * loss_iou,
        }

    def detect(self, rois: MaskRois, scores: Tensor) -> tuple[Tensor, Tensor]:
        """See ``MaskBranch``."""
        probs = PlainMaskBranch(self).logits(rois).sigmoid()
        ious = self.mask_iou(rois.pooled, probs, rois.labels).float()
        return probs, scores * ious.clamp(0.0, 1.0)


class MaskIoUHead(nn.Module):
    """Pooled features and a predicted mask to the IoU that the mask has.

    Args:
        in_channels: C, of the pooled features.
        num_classes: K + 1.
        channels: of the 3 × 3 convolutions; the last one halves the side.
        representation_size: width of the two layers after them.
    """

    def __init__(self, in_channels: int, num_classes: int, channels: Sequence[int], representation_size: int) -> None:
        super().__init__()
        widths = [in_channels + 1, *channels]
        strides = [1] * (len(channels) - 1) + [2]
        self.convs = nn.Sequential(
            *(
                Conv2dNormActivation(before, after, stride=stride, norm_layer=None)
                for before, after, stride in zip(widths, channels, strides, strict=False)
            )
        )
        side = math.ceil(POOLED_MASK / 2)
        self.fc1 = nn.Linear(widths[-1] * side * side, representation_size)
        self.fc2 = nn.Linear(representation_size, representation_size)
        self.iou = nn.Linear(representation_size, num_classes)
        nn.init.normal_(self.iou.weight, std=0.01)
        nn.init.constant_(self.iou.bias, _USUAL_IOU)  # what is not yet trained changes no ranks

    def forward(self, pooled: Tensor, mask_probs: Tensor, labels: Tensor) -> Tensor:
        """Features [R, C, M / 2, M / 2], probabilities [R, M, M] and labels int64 [R] to IoUs [R], not clamped."""
        masks = functional.max_pool2d(mask_probs[:, None], kernel_size=2)
        hidden = self.convs(torch.cat([pooled, masks.to(pooled.dtype)], dim=1)).flatten(1)
        hidden = functional.relu(self.fc2(functional.relu(self.fc1(hidden))))
        ious: Tensor = self.iou(hidden)
        return ious.gather(1, labels[:, None])[:, 0]


def mask_ious(mask_probs: Tensor, mask_targets: Tensor, pixels_outside: Tensor, boxes: Tensor) -> Tensor:
    """IoU of predicted with true masks, counted in cells of the predicted ones.

    Args:
        mask_probs: [R, M, M]; above 0.5 is foreground.
        mask_targets: [R, M, M], 0..1; from 0.5 on is foreground.
        pixels_outside: [R], pixels of the true mask outside the box.
        boxes: [R, 4], xyxy px.

    Returns:
        float32 [R], 0..1.
    """
    found, wanted = mask_probs > 0.5, mask_targets >= 0.5
    shared = (found & wanted).sum((1, 2))
    sides = (boxes[:, 2:] - boxes[:, :2]).clamp(min=1.0)
    cells_outside = pixels_outside * mask_probs.shape[-1] ** 2 / sides.prod(1)
    union = (found | wanted).sum((1, 2)) + cells_outside
    return (shared / union.clamp(min=1.0)).float()
