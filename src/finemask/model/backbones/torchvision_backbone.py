"""Any backbone of torchvision that halves its maps five times, found out by running it once."""

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
import torchvision
from torch import Tensor, nn
from torchvision.models import get_model, list_models

from finemask.errors import ConfigError, did_you_mean
from finemask.model.backbones.norms import replace_batch_norm
from finemask.model.backbones.pyramid import PyramidBackbone, split_stages

_STRIDES = (4, 8, 16, 32)
_CONTAINERS = ("features", "trunk_output", "layers")  # of stages, in torchvision's classifiers
_PROBE_HW = (96, 160)  # px, unequal: channels in the last place are told apart


def torchvision_fpn(
    name: str,
    out_channels: int = 256,
    norm: str = "frozen_bn",
    norm_eps: float = 1e-5,
    fpn_norm: str = "none",
) -> PyramidBackbone:
    """A classifier of torchvision as backbone: EfficientNet, ConvNeXt, Swin, RegNet, DenseNet, ShuffleNet, MNASNet, ….

    Args:
        name: as ``torchvision.models.list_models()`` gives it.
        out_channels: of the pyramid.
        norm: see ``norm_layer``; replaces batch norms only.
        norm_eps: of the frozen normalisation.
        fpn_norm: see ``pyramid_norm``.

    Raises:
        ConfigError: no such model, or one without maps at strides 4, 8, 16 and 32.
    """
    known = list_models(module=torchvision.models)
    if name not in known:
        raise ConfigError(
            f"torchvision has no classifier named {name!r}",
            where="model.backbone.name",
            remedy=f"{did_you_mean(name, known)}torchvision.models.list_models() names them.",
        )
    network = get_model(name, weights=None)
    levels, stem = _levels_of(network, name)
    body = ChildrenBody(network, [level.path for level in levels])
    replace_batch_norm(body, norm, norm_eps)
    stages = split_stages(body, [level.path for level in levels], stem)
    channels, channels_last = [level.channels for level in levels], levels[0].channels_last
    return PyramidBackbone(body, channels, out_channels, stages, fpn_norm, channels_last=channels_last)


class ChildrenBody(nn.Module):
    """A classifier's modules up to its last map, run one after another, under the names they have there.

    Args:
        network: the classifier; its modules are moved here.
        ends: dotted names of the modules whose output is a level, in order.
    """

    def __init__(self, network: nn.Module, ends: list[str]) -> None:
        super().__init__()
        self._ends = ends
        self._order: list[str] = []
        for path, module in _flat(network):
            *outer, last = path.split(".")
            parent: nn.Module = self
            for word in outer:
                if not hasattr(parent, word):
                    parent.add_module(word, nn.Sequential())
                parent = parent.get_submodule(word)
            parent.add_module(last, module)
            self._order.append(path)
            if path == ends[-1]:
                break

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Images [B, 3, H, W] to maps ``0`` … ``3``, [B, C, h, w] or, as Swin has them, [B, h, w, C]."""
        maps: OrderedDict[str, Tensor] = OrderedDict()
        features = images
        for path in self._order:
            features = self.get_submodule(path)(features)
            if path in self._ends:
                maps[str(len(maps))] = features
        return maps


class _Level(NamedTuple):
    path: str
    stride: int
    channels: int
    channels_last: bool


def _levels_of(network: nn.Module, name: str) -> tuple[list[_Level], list[str]]:
    """The last module of each stride, and the names of those of the stem."""
    levels = _trimmed(network, list(_run(network)))
    last = {level.stride: level for level in levels}
    if not set(_STRIDES) <= last.keys():
        raise ConfigError(
            f"{name!r} gives maps at the strides {sorted(last)}, and a pyramid needs 4, 8, 16 and 32",
            where="model.backbone.name",
            remedy="Choose a network that halves its maps five times: efficientnet_b0, convnext_tiny, regnet_y_400mf.",
        )
    before = [level.path for level in levels if level.stride < _STRIDES[0]]
    return [last[stride] for stride in _STRIDES], before or [levels[0].path]


def _run(network: nn.Module) -> Iterator[_Level]:
    """Each module in turn on an empty image, as long as maps come out."""
    was_training = network.training
    network.eval()
    image = torch.zeros(1, 3, *_PROBE_HW)
    features: Any = image
    with torch.no_grad():
        for path, module in _flat(network):
            try:
                features = module(features)
            except (RuntimeError, ValueError, TypeError, NotImplementedError, AssertionError):
                break
            if not isinstance(features, Tensor) or features.ndim != 4:
                break
            first, last = _stride(features.shape[2:], image), _stride(features.shape[1:3], image)
            stride = first or last
            if stride is None:
                break
            yield _Level(path, stride, features.shape[1 if first else 3], channels_last=first is None)
    network.train(was_training)


def _flat(network: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    for name, child in network.named_children():
        if name in _CONTAINERS:
            for inner, module in child.named_children():
                yield f"{name}.{inner}", module
            if name == "features":
                return  # what follows classifies
        else:
            yield name, child


def _trimmed(network: nn.Module, levels: list[_Level]) -> list[_Level]:
    """Without the 1 × 1 convolution that widens the last map for the classifier, and what follows it."""
    for number in range(len(levels) - 1, -1, -1):
        module = network.get_submodule(levels[number].path)
        kernels = [inner.kernel_size for inner in module.modules() if isinstance(inner, nn.Conv2d)]
        if any(max(kernel) > 1 for kernel in kernels):
            break
        if kernels:
            return levels[:number]
    return levels


def _stride(map_hw: Sequence[int], image: Tensor) -> int | None:
    """The stride of a map, a power of two up to 32; ``None`` if its sides are no such fraction of the image's."""
    strides = (2**power for power in range(6))
    return next((s for s in strides if tuple(map_hw) == tuple(-(-side // s) for side in image.shape[-2:])), None)
