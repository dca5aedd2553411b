"""Linear and cosine box predictors."""

import torch
from torch import Tensor, nn
from torch.nn import functional


class LinearBoxPredictor(nn.Module):
    """Faster R-CNN's predictor: class logits and per-class deltas, with torchvision's parameter names.

    Ren et al. 2015, "Faster R-CNN" (arXiv 1506.01497); torchvision's ``FastRCNNPredictor``.

    Args:
        in_channels: C, width of the box head's features.
        num_classes: K + 1.
    """

    def __init__(self, in_channels: int, num_classes: int) -> None:
        super().__init__()
        self.cls_score = nn.Linear(in_channels, num_classes)
        self.bbox_pred = nn.Linear(in_channels, num_classes * 4)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Features [R, C] to logits [R, K + 1] and deltas [R, 4 (K + 1)]."""
        return self.cls_score(features), self.bbox_pred(features)


class CosineBoxPredictor(nn.Module):
    """Cosine classifier: logits are cosines between feature and class vectors, times a learned scale.

    Wang et al. 2020, "Frustratingly simple few-shot object detection" (arXiv 2003.06957), section 3.2: with few
    examples, how long features and weights are varies from class to class for no good reason, and the cosine does not
    look at it. Their scale is a constant; learning it, from their value on, is our choice. Deltas are linear.

    Args:
        in_channels: C, width of the box head's features.
        num_classes: K + 1.
        scale: factor of the cosines at the start; logits lie within ± this.
    """

    def __init__(self, in_channels: int, num_classes: int, scale: float = 20.0) -> None:
        super().__init__()
        self.cls_score = nn.Linear(in_channels, num_classes, bias=False)
        self.bbox_pred = nn.Linear(in_channels, num_classes * 4)
        self.scale = nn.Parameter(torch.tensor(float(scale)))

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Features [R, C] to logits [R, K + 1] and deltas [R, 4 (K + 1)]."""
        # Rounding to half precision is multiplied by the scale; and the squares of a norm may overflow there.
        with torch.autocast(features.device.type, enabled=False):
            weight = self.cls_score.weight
            directions = functional.normalize(features.to(weight.dtype), dim=1)
            logits = self.scale * functional.linear(directions, functional.normalize(weight, dim=1))
        return logits, self.bbox_pred(features)
