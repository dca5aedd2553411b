"""The plain mask predictor behind more convolutions."""

import math

from torch import Tensor, nn
from torchvision.ops import Conv2dNormActivation

from finemask.model.mask_predictor.fcn import FCNMaskPredictor

_CHANNELS_A_GROUP = 8  # of group norm: 32 groups of 256 channels, as in its paper


class DeepFCNMaskPredictor(FCNMaskPredictor):
    """3 × 3 convolutions with a norm before the upsampling; the other parameters are named as torchvision's.

    He et al. 2017, "Mask R-CNN" (arXiv 1703.06870), whose head has four convolutions; Wu & He 2018, "Group
    Normalization" (arXiv 1803.08494), which train this head with group norm. The convolutions come on top of those of
    ``model.mask_head``, and start from random weights.

    Args:
        in_channels: C, channels of the mask head's features.
        num_classes: K + 1.
        depth: number of convolutions.
        norm: ``gn``, ``bn`` or ``none``. Group norm is the same in training and prediction, however few RoIs there are.
        hidden_channels: between upsampling and logits; ``in_channels`` if not given.
    """

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        depth: int = 4,
        norm: str = "gn",
        hidden_channels: int | None = None,
    ) -> None:
        super().__init__(in_channels, num_classes, hidden_channels)
        norms = {"gn": _group_norm, "bn": nn.BatchNorm2d, "none": None}
        if norm not in norms or depth < 1:
            raise ValueError(f"mask_predictor.norm is gn, bn or none and depth at least 1, not {norm} and {depth}")
        self.convs = nn.Sequential(
            *(Conv2dNormActivation(in_channels, in_channels, norm_layer=norms[norm]) for _ in range(depth))
        )
        for module in self.convs.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, features: Tensor, labels: Tensor) -> Tensor:
        """See ``FCNMaskPredictor``."""
        return super().forward(self.convs(features), labels)


def _group_norm(channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(math.gcd(channels, max(1, channels // _CHANNELS_A_GROUP)), channels)
