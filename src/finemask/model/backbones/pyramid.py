"""The feature pyramid on a backbone's maps, and backbones of somebody's own as they are taken.

A backbone has an ``out_channels`` attribute and gives feature maps by name, finest first; ``body`` and ``fpn`` are
torchvision's parameter names.
"""

import itertools
from collections import OrderedDict
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torchvision.ops.feature_pyramid_network import FeaturePyramidNetwork, LastLevelMaxPool

from finemask.errors import ConfigError
from finemask.model.backbones.norms import pyramid_norm


def split_stages(body: nn.Module, ends: Sequence[str], stem: Sequence[str] = ()) -> list[list[str]]:
    """Stem and four strides as lists of dotted names.

    Args:
        body: whose children stand in the order in which they are run.
        ends: dotted names of the last module of each stride, in order.
        stem: names of the modules of the stem; by default what stands before the module that ends stride 4 and is not
            inside the same container.

    Returns:
        Five lists; every parameter of the body is in one of them.
    """
    units = _units(body, ends)
    cuts = [units.index(end) for end in ends]
    first = units.index(stem[-1]) + 1 if stem else cuts[0]
    edges = [0, first, *(cut + 1 for cut in cuts[:-1]), len(units)]
    return [units[low:high] for low, high in itertools.pairwise(edges)]


def _units(body: nn.Module, ends: Sequence[str]) -> list[str]:
    """The outermost modules that no end is inside of."""
    found: list[str] = []
    todo = [name for name, _ in body.named_children()]
    while todo:
        name = todo.pop(0)
        if name not in ends and any(end.startswith(f"{name}.") for end in ends):
            todo = [f"{name}.{child}" for child, _ in body.get_submodule(name).named_children()] + todo
        else:
            found.append(name)
    return found


STAGES = 4  # strides 4, 8, 16, 32
_EMPTY_PX = 256  # side of the image that somebody's own backbone is tried with


class PyramidBackbone(nn.Module):
    """A body that gives four maps, and the feature pyramid on them (Lin et al. 2017, arXiv 1612.03144).

    Args:
        body: image batch to four maps of strides 4, 8, 16, 32.
        in_channels: of these maps.
        out_channels: of every pyramid level.
        fpn_norm: see ``pyramid_norm``; ``bn`` is torchvision's v2 recipe.
        stages: names of the body's modules in order, split into the five parts that ``transfer`` freezes one by one.
        channels_last: the body's maps are [B, h, w, C], as Swin's.
    """

    def __init__(
        self,
        body: nn.Module,
        in_channels: list[int],
        out_channels: int,
        stages: list[list[str]],
        fpn_norm: str = "none",
        *,
        channels_last: bool = False,
    ) -> None:
        super().__init__()
        self.body = body
        self.fpn = FeaturePyramidNetwork(in_channels, out_channels, LastLevelMaxPool(), pyramid_norm(fpn_norm))
        self.out_channels = out_channels
        self.stages = stages
        self._channels_last = channels_last

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Images [B, 3, H, W] to maps ``0``, ``1``, ``2``, ``3`` and ``pool``, each [B, out_channels, h, w]."""
        maps = self.body(images)
        if not isinstance(maps, dict):
            maps = OrderedDict((str(level), features) for level, features in enumerate(maps))
        if self._channels_last:
            maps = OrderedDict((level, features.permute(0, 3, 1, 2)) for level, features in maps.items())
        pyramid: dict[str, Tensor] = self.fpn(maps)
        return pyramid


class OwnBackbone(nn.Module):
    """Somebody's own backbone, as torchvision's detectors take it; its output is looked at once.

    Args:
        body: images [B, 3, H, W] to an ``OrderedDict`` of maps [B, out_channels, h, w] by name, finest first. It has
            ``out_channels``, and may have ``stages``: names of its modules in five lists, for ``transfer``; without,
            it is frozen or trained as a whole.

    Attributes:
        levels: the names of the maps. Those that are numbers, as torchvision's are, are what RoIs are pooled from.

    Raises:
        ConfigError: it is something else.
    """

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        channels = getattr(body, "out_channels", None)
        if not isinstance(channels, int):
            raise ConfigError(
                f"{_shown(body)} has no out_channels",
                where="model.backbone",
                remedy="It is the width of every map that it gives.",
            )
        self.body = body
        self.out_channels = channels
        self.stages = _stages_of(body)
        self.levels = self._levels()

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Images [B, 3, H, W] to the body's maps."""
        maps: dict[str, Tensor] = self.body(images)
        return maps

    def _levels(self) -> list[str]:
        """Names of the maps of an empty image; raises if they are not what the detector needs."""
        was_training = self.body.training
        device = next((parameter.device for parameter in self.body.parameters()), torch.device("cpu"))
        with torch.no_grad():
            maps = self.body.eval()(torch.zeros(1, 3, _EMPTY_PX, _EMPTY_PX, device=device))
        self.body.train(was_training)
        if not isinstance(maps, Mapping) or not maps:
            raise ConfigError(
                f"{_shown(self.body)} gives a {type(maps).__name__}, not an OrderedDict of feature maps",
                where="model.backbone",
                remedy='A single map is OrderedDict([("0", features)]).',
            )
        sizes = {name: tuple(getattr(level, "shape", ())) for name, level in maps.items()}
        sides = [size[-1] for size in sizes.values() if len(size) == 4 and size[:2] == (1, self.out_channels)]
        if len(sides) != len(sizes) or sides != sorted(sides, reverse=True):
            listed = ", ".join(f"{name}: {list(size)}" for name, size in sizes.items())
            raise ConfigError(
                f"{_shown(self.body)} gives the maps {listed} for an image of [1, 3, {_EMPTY_PX}, {_EMPTY_PX}]",
                where="model.backbone",
                remedy=f"They must be [1, {self.out_channels}, h, w], as its out_channels says, the finest first.",
            )
        if not any(str(name).isdigit() for name in sizes):
            raise ConfigError(
                f"{_shown(self.body)} names its maps {', '.join(map(str, sizes))}",
                where="model.backbone",
                remedy='Those that RoIs are pooled from are named "0", "1", …, as torchvision\'s.',
            )
        return [str(name) for name in sizes]


def _stages_of(body: nn.Module) -> list[list[str]]:
    """What the body says of its five parts; where it says nothing, all of it is the last."""
    stages = getattr(body, "stages", None)
    if not isinstance(stages, list):  # modules of that name are common, and something else
        return [[], [], [], [], [""]]
    names = {name for name, _ in body.named_modules()}
    if len(stages) != STAGES + 1 or not all(isinstance(stage, list) and names.issuperset(stage) for stage in stages):
        raise ConfigError(
            f"the stages of {_shown(body)} are not {STAGES + 1} lists of names of its modules",
            where="model.backbone",
            remedy="They are stem and strides 4 to 32, and are frozen from the first on.",
        )
    return stages


def _shown(part: object) -> str:
    return f"{type(part).__module__}.{type(part).__qualname__}"


def count_parameters(module: nn.Module, trainable: bool | None = None) -> int:
    """Numbers in a module's parameters; only the trainable or only the frozen ones if asked."""
    return sum(p.numel() for p in module.parameters() if trainable is None or p.requires_grad == trainable)
