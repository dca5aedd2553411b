"""The plain box predictor: two linear layers side by side."""

from torch import Tensor, nn


class LinearBoxPredictor(nn.Module):
    """Class logits and per-class box deltas, with torchvision's parameter names.

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
