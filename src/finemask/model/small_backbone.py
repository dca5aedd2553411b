"""A small residual network that learns simple pictures from nothing, for tests and the quickstart."""

from collections import OrderedDict
from collections.abc import Sequence

from torch import Tensor, nn

from finemask.model.backbone import PyramidBackbone
from finemask.model.norms import norm_layer


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
