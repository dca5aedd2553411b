"""Fully convolutional mask predictors."""

import math

import torch
from torch import Tensor, nn
from torchvision.ops import Conv2dNormActivation

_ROIS_AT_ONCE = 8  # of 14 × 14 px and 256 channels: 6 MB


class FCNMaskPredictor(nn.Module):
    """Upsamples by a transposed convolution and reads one class's mask, with torchvision's parameter names.

    He et al. 2017, "Mask R-CNN" (arXiv 1703.06870); torchvision's ``MaskRCNNPredictor``. Only the class that each RoI
    is asked for is computed: its cost does not grow with the number of classes. A transposed convolution whose stride
    equals its kernel is a matrix product, and is computed as one.

    Args:
        in_channels: C, channels of the mask head's features.
        num_classes: K + 1.
        hidden_channels: between upsampling and logits; ``in_channels`` if not given.
    """

    def __init__(self, in_channels: int, num_classes: int, hidden_channels: int | None = None) -> None:
        super().__init__()
        hidden_channels = hidden_channels or in_channels
        self.conv5_mask = nn.ConvTranspose2d(in_channels, hidden_channels, kernel_size=2, stride=2)
        self.mask_fcn_logits = nn.Conv2d(hidden_channels, num_classes, kernel_size=1)
        for name, parameter in self.named_parameters():
            if "weight" in name:
                nn.init.kaiming_normal_(parameter, mode="fan_out", nonlinearity="relu")

    def forward(self, features: Tensor, labels: Tensor) -> Tensor:
        """Features [R, C, M / 2, M / 2] and labels int64 [R], 0..K, to logits [R, M, M] of these classes."""
        hidden = self.conv5_mask.out_channels
        kernel = self.conv5_mask.weight.permute(0, 2, 3, 1).reshape(-1, 4 * hidden)
        in_a_graph = torch.compiler.is_compiling() or torch.jit.is_tracing()  # type: ignore[attr-defined, no-untyped-call]
        if torch.is_grad_enabled() or in_a_graph or features.device.type != "cpu":
            return self._logits(features, labels, kernel)
        # A CPU is quicker with what stays in its caches than with 80 MB at once.
        pieces = zip(features.split(_ROIS_AT_ONCE), labels.split(_ROIS_AT_ONCE), strict=True)
        return torch.cat([self._logits(*piece, kernel) for piece in pieces])

    def _logits(self, features: Tensor, labels: Tensor, kernel: Tensor) -> Tensor:
        """As ``forward``, with the upsampling as a matrix [C, 4 · hidden]."""
        rois, channels, height, width = features.shape
        hidden = self.conv5_mask.out_channels
        rows = features.permute(0, 2, 3, 1).reshape(-1, channels)
        bias = self.conv5_mask.bias
        assert bias is not None
        upsampled = torch.addmm(bias.repeat(4), rows, kernel).relu_()
        logit_bias = self.mask_fcn_logits.bias
        assert logit_bias is not None
        weight = self.mask_fcn_logits.weight[:, :, 0, 0][labels]  # [R, hidden]
        logits = upsampled.reshape(rois, height * width * 4, hidden) @ weight[:, :, None].to(upsampled.dtype)
        logits = logits.reshape(rois, height, width, 2, 2) + logit_bias[labels][:, None, None, None, None]
        return logits.permute(0, 1, 3, 2, 4).reshape(rois, 2 * height, 2 * width)


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
