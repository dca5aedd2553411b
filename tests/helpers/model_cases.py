"""Small models and targets for the model tests."""

from collections import OrderedDict
from functools import cache

import numpy as np
import torch
from torch import nn

from finemask.config import compose, plain
from finemask.model.resolve import resolve_model
from finemask.ops.layers import boxes_and_areas_from_layers, masks_to_layers
from finemask.types import Target


def model_config(name: str, *overrides: str) -> dict:
    """The composed and resolved group ``model``, with what a run fills in."""
    return resolve_model(_composed(name, overrides), max_instances_per_image=1)  # a copy


@cache
def _composed(name: str, overrides: tuple[str, ...]) -> dict:
    """Composing takes longer than building a small model, and every test wants one."""
    return plain(compose("train", [f"model={name}", "data.root=unused", *overrides]).model)


def random_scene(height: int, width: int, count: int, seed: int = 0, image_id: int = 1, num_categories: int = 3):
    """A uint8 image, its target, and the same instances as dense masks [N, H, W]."""
    rng = np.random.default_rng(seed)
    masks = torch.zeros(count, height, width, dtype=torch.bool)
    for mask in masks:
        h, w = rng.integers(8, height // 2), rng.integers(8, width // 2)
        y, x = rng.integers(0, height - h), rng.integers(0, width - w)
        mask[y : y + h, x : x + w] = torch.from_numpy(rng.random((h, w)) < 0.8)
    image = torch.from_numpy(rng.integers(0, 256, (3, height, width), dtype=np.uint8))
    layers, slots = masks_to_layers(masks)
    boxes, _ = boxes_and_areas_from_layers(layers.numpy(), slots.numpy())
    target = Target(
        boxes=torch.from_numpy(boxes),
        labels=torch.from_numpy(rng.integers(1, num_categories + 1, count)),
        layers=layers,
        slots=slots,
        image_id=image_id,
    )
    return image, target, masks


class ConstantMaskPredictor(nn.Module):
    """A part that is not finemask's."""

    def __init__(self, in_channels: int, num_classes: int) -> None:
        super().__init__()
        self.logit = nn.Parameter(torch.zeros(num_classes))

    def forward(self, features, labels):
        rois, _, height, width = features.shape
        return self.logit[labels][:, None, None].expand(rois, 2 * height, 2 * width)


class ConstantLoss(nn.Module):
    """A mask loss that is not finemask's."""

    def __init__(self, value: float) -> None:
        super().__init__()
        self.value = value

    def forward(self, mask_logits, mask_targets, labels):
        return mask_logits.sum() * 0 + self.value


class SumOfLosses(nn.Module):
    """A mask loss that is made of others."""

    def __init__(self, losses) -> None:
        super().__init__()
        self.losses = losses

    def forward(self, mask_logits, mask_targets, labels):
        return sum(loss(mask_logits, mask_targets, labels) for loss in self.losses)


class OneMapBackbone(nn.Module):
    """A backbone that is not finemask's, of torchvision's kind: a single map of stride 16."""

    def __init__(self, width: int = 8, gives: str = "map") -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, width, 16, stride=16)
        self.out_channels = width + (gives == "other width")
        self.gives = gives
        if gives == "no width":
            del self.out_channels
        if gives == "stages":
            self.stages = [["conv"], ["elsewhere"], [], [], []]

    def forward(self, images):
        features = self.conv(images)
        levels = {
            "tensor": features,
            "list": [features],
            "named otherwise": OrderedDict(pool=features),
            "coarse first": OrderedDict([("0", features[..., ::2, ::2]), ("1", features)]),
        }
        return levels.get(self.gives, OrderedDict([("0", features)]))


class WholeImageProposals(nn.Module):
    """A proposal network that is not finemask's: it proposes the whole image, and halves and quarters of it."""

    def __init__(self, in_channels: int, anchors: nn.Module, parts: int = 2) -> None:
        super().__init__()
        self.parts = parts

    def forward(self, images, features, targets=None):
        proposals = []
        for height, width in images.image_sizes:
            whole = torch.tensor([0.0, 0.0, width, height])
            proposals.append(torch.stack([whole / (k + 1) for k in range(self.parts)]))
        return proposals, ({"loss_rpn": next(iter(features.values())).mean() ** 2} if targets else {})


class MeanHead(nn.Module):
    """A box head that is not finemask's, without a pair: its width is an attribute."""

    def __init__(self, in_channels: int) -> None:
        super().__init__()
        self.out_channels = in_channels

    def forward(self, features):
        return features.mean(dim=(2, 3))


def strides_of(backbone: nn.Module, size: int = 256) -> list[float]:
    """Stride of each level, measured by running an empty image through the backbone."""
    with torch.no_grad():
        maps = backbone.eval()(torch.zeros(1, 3, size, size))
    return [size / level.shape[-1] for level in maps.values()]
