"""Backbones by name: torchvision's ResNet and MobileNet, any of timm, and a small one for tests and the quickstart.

Every builder returns a ``PyramidBackbone``: feature maps at strides 4, 8, 16, 32 and a pooled 64.
"""

import itertools
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn
from torchvision.models import mobilenet, resnet
from torchvision.models._utils import IntermediateLayerGetter

from finemask.errors import ConfigError, MissingExtraError
from finemask.model.backbones.norms import norm_layer, replace_batch_norm
from finemask.model.backbones.pyramid import STAGES, PyramidBackbone, split_stages

# The last block of each stride and its channels. torchvision's own mobilenet_backbone takes the first block of a
# stride, and by default two levels of the same stride.
_MOBILENET_STAGES: dict[str, dict[int, int]] = {
    "mobilenet_v2": {3: 24, 6: 32, 13: 96, 17: 320},
    "mobilenet_v3_large": {3: 24, 6: 40, 12: 112, 15: 160},
}


def resnet_fpn(
    name: str,
    out_channels: int = 256,
    norm: str = "frozen_bn",
    norm_eps: float = 1e-5,
    fpn_norm: str = "none",
) -> PyramidBackbone:
    """A torchvision ResNet or ResNeXt: ``resnet18`` … ``resnet152``, ``resnext50_32x4d``, ``resnext101_32x8d``, ….

    Args:
        name: of torchvision's builder.
        out_channels: of the pyramid.
        norm: see ``norm_layer``.
        norm_eps: of the frozen normalisation; torchvision's COCO_V1 weights were trained with 0.
        fpn_norm: see ``pyramid_norm``.
    """
    builder = getattr(resnet, name, None)
    if builder is None:
        raise ConfigError(f"torchvision has no ResNet named {name!r}", where="model.backbone.name")
    network = builder(weights=None, norm_layer=norm_layer(norm, norm_eps))
    body = IntermediateLayerGetter(network, {f"layer{stage}": str(stage - 1) for stage in range(1, 5)})
    channels = [network.inplanes // 2 ** (3 - stage) for stage in range(STAGES)]
    stages = [["conv1", "bn1"], ["layer1"], ["layer2"], ["layer3"], ["layer4"]]
    return PyramidBackbone(body, channels, out_channels, stages, fpn_norm)


def mobilenet_fpn(
    name: str,
    out_channels: int = 256,
    norm: str = "frozen_bn",
    norm_eps: float = 1e-5,
    fpn_norm: str = "none",
) -> PyramidBackbone:
    """A MobileNet of torchvision, ``mobilenet_v2`` or ``mobilenet_v3_large``; arguments as ``resnet_fpn``."""
    if name not in _MOBILENET_STAGES:
        known = ", ".join(_MOBILENET_STAGES)
        raise ConfigError(f"{name!r} is not one of {known}", where="model.backbone.name")
    features = getattr(mobilenet, name)(weights=None, norm_layer=norm_layer(norm, norm_eps)).features
    ends = _MOBILENET_STAGES[name]
    body = IntermediateLayerGetter(features, {str(end): str(level) for level, end in enumerate(ends)})
    edges = [-1, 0, *ends]  # the stem alone, then up to each stride's last block
    stages = [[str(block) for block in range(a + 1, b + 1)] for a, b in itertools.pairwise(edges)]
    return PyramidBackbone(body, list(ends.values()), out_channels, stages, fpn_norm)


def timm_fpn(
    name: str,
    out_channels: int = 256,
    norm: str = "frozen_bn",
    norm_eps: float = 1e-5,
    fpn_norm: str = "none",
) -> PyramidBackbone:
    """Any backbone of timm that gives feature maps at strides 4, 8, 16 and 32; needs the extra ``timm``.

    Batch norm layers become what ``norm`` says; other kinds stay as they are.
    """
    try:
        import timm
    except ImportError as error:
        raise MissingExtraError("timm", "timm", needed_for=f"the backbone {name}") from error
    try:
        probe = timm.create_model(name, features_only=True, pretrained=False)
        reductions = list(_feature_info(probe).reduction())
        wanted = [reductions.index(stride) for stride in (4, 8, 16, 32)]
        body = timm.create_model(name, features_only=True, pretrained=False, out_indices=wanted)
    except (RuntimeError, ValueError, AttributeError) as error:
        raise ConfigError(
            f"timm cannot give feature maps at strides 4, 8, 16, 32 for {name!r} ({error})",
            where="model.backbone.name",
            remedy="timm.list_models() names its backbones; choose a convolutional or hierarchical one.",
        ) from error
    body = replace_batch_norm(body, norm, norm_eps)
    info = _feature_info(body)
    channels_last = "NHWC" in str(getattr(body, "output_fmt", ""))
    stages = _timm_stages(body, info.module_name())
    return PyramidBackbone(body, list(info.channels()), out_channels, stages, fpn_norm, channels_last=channels_last)


def _timm_stages(body: nn.Module, ends: list[str]) -> list[list[str]]:
    """Timm flattens some bodies (``stages.0`` is the child ``stages_0``) and not others."""
    modules = {name for name, _ in body.named_modules()}
    found = [next((name for name in (end, end.replace(".", "_")) if name in modules), None) for end in ends]
    known = [end for end in found if end is not None]
    if len(known) == len(ends):
        return split_stages(body, known)
    children = [child for child, _ in body.named_children()]
    return [children[:1], [], [], [], children[1:]]  # the stem alone is told apart, the rest is one part


def _feature_info(body: nn.Module) -> Any:
    return body.feature_info  # timm's own description of its maps


def small_fpn(
    name: str = "small",
    channels: Sequence[int] = (32, 64, 96, 128),
    out_channels: int = 48,
    norm: str = "bn",
    norm_eps: float = 1e-5,
    fpn_norm: str = "none",
) -> PyramidBackbone:
    """One residual block a stride; no pretrained weights exist for it.

    Args:
        name: ``small``.
        channels: at strides 4, 8, 16 and 32.
        out_channels: of the pyramid.
        norm: see ``norm_layer``.
        norm_eps: of the frozen normalisation.
        fpn_norm: see ``pyramid_norm``.
    """
    body = SmallBody(channels, norm, norm_eps)
    stages = [["stem"], *([f"stage{number}"] for number in range(len(channels)))]
    return PyramidBackbone(body, list(channels), out_channels, stages, fpn_norm)


class SmallBody(nn.Module):
    """A stem of stride 2 and four stages, each halving the map (He et al. 2016, arXiv 1512.03385, in miniature).

    Args:
        channels: of the stages.
        norm: see ``norm_layer``.
        norm_eps: of the frozen normalisation.
    """

    def __init__(self, channels: Sequence[int], norm: str, norm_eps: float) -> None:
        super().__init__()
        make_norm = norm_layer(norm, norm_eps)

        def conv(inside: int, outside: int, stride: int = 1) -> list[nn.Module]:
            return [nn.Conv2d(inside, outside, 3, stride, 1, bias=False), make_norm(outside)]

        stem_channels = channels[0] // 2
        self.stem = nn.Sequential(*conv(3, stem_channels, stride=2), nn.ReLU(inplace=True))
        before = stem_channels
        for number, width in enumerate(channels):
            residual = _Residual(nn.Sequential(*conv(width, width), nn.ReLU(inplace=True), *conv(width, width)))
            self.add_module(
                f"stage{number}",
                nn.Sequential(*conv(before, width, stride=2), nn.ReLU(inplace=True), residual),
            )
            before = width
        self._names = [f"stage{number}" for number in range(len(channels))]

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Images [B, 3, H, W] to maps of strides 4, 8, 16, 32."""
        maps: OrderedDict[str, Tensor] = OrderedDict()
        features = self.stem(images)
        for level, name in enumerate(self._names):
            features = self.get_submodule(name)(features)
            maps[str(level)] = features
        return maps


class _Residual(nn.Module):
    def __init__(self, branch: nn.Module) -> None:
        super().__init__()
        self.branch = branch
        self.activation = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        activated: Tensor = self.activation(x + self.branch(x))
        return activated
