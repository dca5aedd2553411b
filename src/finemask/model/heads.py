"""Feature extractors between RoI pooling and the predictors, from torchvision's own modules."""

from collections.abc import Callable, Sequence
from typing import Any

from torch import nn
from torchvision.models.detection.faster_rcnn import FastRCNNConvFCHead, TwoMLPHead
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads

from finemask.errors import ConfigError

POOLED_BOX = 7  # side of a pooled box feature
POOLED_MASK = 14  # side of a pooled mask feature; predictions are twice that


def two_mlp(in_channels: int, representation_size: int = 1024) -> tuple[nn.Module, int]:
    """Two fully connected layers on the flattened 7 × 7 feature; returns the head and its output width."""
    return TwoMLPHead(in_channels * POOLED_BOX**2, representation_size), representation_size


def conv_fc(
    in_channels: int, channels: Sequence[int] = (256, 256, 256, 256), representation_size: int = 1024
) -> tuple[nn.Module, int]:
    """Convolutions with batch norm, then one fully connected layer (torchvision's v2 recipe)."""
    head = FastRCNNConvFCHead(
        (in_channels, POOLED_BOX, POOLED_BOX),
        list(channels),
        [representation_size],
        norm_layer=nn.BatchNorm2d,
    )
    return head, representation_size


def mask_convs(
    in_channels: int, channels: Sequence[int] = (256, 256, 256, 256), norm: str = "none"
) -> tuple[nn.Module, int]:
    """3 × 3 convolutions on the 14 × 14 feature; returns the head and its output channels.

    Args:
        in_channels: of the pyramid.
        channels: of each convolution.
        norm: ``none`` or ``bn`` (torchvision's v2 recipe).
    """
    norm_layer: Callable[..., nn.Module] | None = nn.BatchNorm2d if norm == "bn" else None
    return MaskRCNNHeads(in_channels, list(channels), 1, norm_layer=norm_layer), channels[-1]


def as_head(built: Any, key: str) -> tuple[nn.Module, int]:
    """A head and its output width, of a pair of both or of a module with ``out_channels``.

    Args:
        built: what a ``HeadFactory`` gave.
        key: of the model's configuration that names it.

    Raises:
        ConfigError: it is neither.
    """
    match built:
        case (nn.Module() as head, int(width)):
            return head, width
        case nn.Module(out_channels=int(width)):
            return built, width
    raise ConfigError(
        f"a {type(built).__name__} is neither a module with out_channels nor a pair of a module and that number",
        where=f"model.{key}",
    )
