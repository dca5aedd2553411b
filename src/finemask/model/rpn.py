"""Region proposal network and its anchors: torchvision's numbers from a third of the operations."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.rpn import RegionProposalNetwork, RPNHead
from torchvision.ops import batched_nms

from finemask.errors import ConfigError
from finemask.model.devices.gpu.crossing import send
from finemask.ops.box_ops import match_boxes, sample_balanced
from finemask.types import Target


def patches_at(levels: Sequence[Tensor], locations: Tensor, radius: int) -> tuple[Tensor, Tensor]:
    """Cuts square patches out of feature maps, wherever their centres lie.

    Args:
        levels: feature maps [B, C, H, W].
        locations: int64 [N], centres, counted image after image, level after level, row after row.
        radius: r; a patch has 2 r + 1 features a side.

    Returns:
        ``patches`` [N, 2 r + 1, 2 r + 1, C], whose features outside a map are those of its border, and ``inside``
        bool [N, 2 r + 1, 2 r + 1], false there.
    """
    batch, channels, side = levels[0].shape[0], levels[0].shape[1], 2 * radius + 1
    sizes = np.array([level.shape[-2:] for level in levels])
    ends = sizes.prod(1).cumsum()
    table = send(np.column_stack([sizes, ends - sizes.prod(1), ends]), locations.device)  # [L, 4]
    image, place = locations // int(ends[-1]), locations % int(ends[-1])
    level = torch.bucketize(place, table[:, 3].contiguous(), right=True)
    height, width, first, _ = table[level].unbind(1)
    reach = torch.arange(-radius, radius + 1, device=locations.device)
    y = ((place - first) // width)[:, None] + reach
    x = ((place - first) % width)[:, None] + reach
    last_y, last_x = height[:, None] - 1, width[:, None] - 1
    inside = ((y >= 0) & (y <= last_y))[:, :, None] & ((x >= 0) & (x <= last_x))[:, None, :]
    line = (image * height)[:, None] + y.clamp(min=0).minimum(last_y)
    column = x.clamp(min=0).minimum(last_x)
    rows = (batch * first)[:, None, None] + (line * width[:, None])[:, :, None] + column[:, None, :]
    features = torch.cat([of_level.permute(0, 2, 3, 1).reshape(-1, channels) for of_level in levels])
    # Not features[rows], whose gradient is added up feature by feature.
    return features.index_select(0, rows.flatten()).reshape(-1, side, side, channels), inside


def fpn_anchors(sizes: Sequence[float], aspect_ratios: Sequence[float], fit: str = "default") -> AnchorGenerator:
    """Anchors of a feature pyramid.

    Args:
        sizes: side of a square anchor at each level, px of the resized image, finest level first.
        aspect_ratios: height over width, the same at every level.
        fit: ``default``; ``auto`` asks for other sizes, and ``resolve_model`` has put them here and taken it away.

    Raises:
        ConfigError: ``fit`` is something else, or still ``auto``.
    """
    if fit != "default":
        raise ConfigError(
            "'auto' must be numbers by now" if fit == "auto" else f"{fit!r} is neither default nor auto",
            where="model.anchors.fit",
            remedy="resolve_model() fills in what follows from the data." if fit == "auto" else None,
        )
    return AnchorGenerator(sizes=tuple((size,) for size in sizes), aspect_ratios=(tuple(aspect_ratios),) * len(sizes))


BETA = 1 / 9  # where smooth L1 turns linear, as in torchvision


class RowsRPNHead(RPNHead):
    """RPN head with torchvision's parameters: objectness and deltas of all levels at once, in the order of anchors.

    Both 1 × 1 convolutions are one matrix product, whose rows are locations: nothing is left to be permuted. In
    float32 under autocast too, because half-precision scores tie in their ranking.

    It answers for all locations, or for some: a training step proposes from all, and learns from a few hundred.
    """

    def forward(self, x: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Feature maps [B, C, H, W] to objectness [B, S · A] and deltas [B, S · A, 4], S locations on all levels."""
        weight, bias = self._last_layer()
        levels = [functional.linear(self.conv(level).permute(0, 2, 3, 1), weight, bias).flatten(1, 2) for level in x]
        objectness, deltas = self._split(torch.cat(levels, dim=1))
        return objectness.flatten(1), deltas.flatten(1, 2)

    def at(self, x: list[Tensor], locations: Tensor) -> tuple[Tensor, Tensor]:
        """The answers for some locations only: objectness [N, A] and deltas [N, A, 4].

        Args:
            x: feature maps [B, C, H, W].
            locations: int64 [N], counted image after image, level after level, row after row.
        """
        patches, inside = patches_at(x, locations, radius=len(self.conv))
        for layer in self.conv:
            convolution = layer[0]
            windows = _windows(patches * inside[..., None])  # with the border of zeros that the maps have
            weight = convolution.weight.permute(0, 2, 3, 1).flatten(1)
            patches = functional.linear(windows, weight, convolution.bias).relu()
            inside = inside[:, 1:-1, 1:-1]
        return self._split(functional.linear(patches[:, 0, 0], *self._last_layer()))

    def _last_layer(self) -> tuple[Tensor, Tensor]:
        """Weight [5 A, C] and bias [5 A] of objectness and deltas together."""
        weight = torch.cat([self.cls_logits.weight, self.bbox_pred.weight]).flatten(1)
        assert self.cls_logits.bias is not None
        assert self.bbox_pred.bias is not None
        return weight, torch.cat([self.cls_logits.bias, self.bbox_pred.bias])

    def _split(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Rows [..., 5 A] to objectness [..., A] and deltas [..., A, 4], at least float32."""
        rows = rows.to(torch.promote_types(rows.dtype, torch.float32))
        per_location = self.cls_logits.out_channels
        return rows[..., :per_location], rows[..., per_location:].unflatten(-1, (per_location, 4))


class RowsRegionProposalNetwork(RegionProposalNetwork):
    """RPN with torchvision's arguments, parameters, proposals and losses (Ren et al. 2015, arXiv 1506.01497).

    Boxes are decoded for the best anchors only, regression targets encoded for the sampled positives only, gradients
    computed where an anchor was sampled only (elsewhere they are zero), and anchors kept as long as batches have the
    same shape.

    Attributes:
        rows: sampled anchors that the last losses are the means of.
    """

    head: RowsRPNHead
    rows = 0

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._anchors: tuple[object, Tensor] = (None, torch.empty(0))

    def forward(
        self, images: ImageList, features: dict[str, Tensor], targets: Sequence[Target] | None = None
    ) -> tuple[list[Tensor], dict[str, Tensor]]:
        """Proposals [P, 4] of each image, best first, and in training ``loss_objectness`` and ``loss_rpn_box_reg``."""
        levels = list(features.values())
        anchors = self.anchors_of(images, levels)
        objectness, deltas = self.answers(levels)
        proposals = self._propose(objectness, deltas, anchors, images.image_sizes, self.anchors_per_level(levels))
        if not self.training:
            return proposals, {}
        if targets is None:
            raise ValueError("training needs targets")
        return proposals, self._losses(levels, anchors, targets)

    @torch.no_grad()
    def answers(self, levels: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Objectness [B, S · A] and deltas [B, S · A, 4] to propose from, without a gradient."""
        device = levels[0].device.type
        # Weights that autocast would keep converted from here are without a gradient.
        with torch.autocast(device, enabled=torch.is_autocast_enabled(device), cache_enabled=False):
            answers: tuple[Tensor, Tensor] = self.head(levels)
        return answers

    def anchors_per_level(self, levels: list[Tensor]) -> list[int]:
        """How many of an image's anchors each level has."""
        per_location = self.anchor_generator.num_anchors_per_location()
        return [level.shape[-2] * level.shape[-1] * n for level, n in zip(levels, per_location, strict=True)]

    def anchors_of(self, images: ImageList, levels: list[Tensor]) -> Tensor:
        """Anchors of one image, [S · A, 4]; all images of a batch are padded to the same shape."""
        first = levels[0]
        shape = (images.tensors.shape[-2:], [level.shape[-2:] for level in levels], first.dtype, first.device)
        if self._anchors[0] != shape:
            one = ImageList(images.tensors[:1], images.image_sizes[:1])
            # Never in half precision, which knows the far side of an image to a few pixels only.
            dtype = torch.promote_types(first.dtype, torch.float32)
            maps = [torch.empty(1, 1, *level.shape[-2:], dtype=dtype, device=level.device) for level in levels]
            self._anchors = (shape, self.anchor_generator(one, maps)[0])
        return self._anchors[1]

    @torch.no_grad()
    def _propose(
        self,
        objectness: Tensor,
        deltas: Tensor,
        anchors: Tensor,
        image_sizes: list[tuple[int, int]],
        per_level: list[int],
    ) -> list[Tensor]:
        best = [min(count, self.pre_nms_top_n()) for count in per_level]
        chosen = self._get_top_n_idx(objectness, per_level)  # [B, T], level after level
        scores = objectness.gather(1, chosen).sigmoid()
        codes = deltas.gather(1, chosen[..., None].expand(-1, -1, 4))
        boxes = self.box_coder.decode_single(codes.flatten(0, 1), anchors[chosen.flatten()]).reshape(codes.shape)
        limits = boxes.new_tensor([(width, height) * 2 for height, width in image_sizes])
        boxes = boxes.clamp(min=0).minimum(limits[:, None])
        large = ((boxes[..., 2:] - boxes[..., :2]) >= self.min_size).all(dim=-1) & (scores >= self.score_thresh)
        level_of = torch.arange(len(best)).repeat_interleave(torch.tensor(best)).to(boxes.device)
        proposals = []
        for of_image, its_scores, usable in zip(boxes, scores, large, strict=True):
            kept = torch.where(usable)[0]
            of_image = of_image[kept]
            order = batched_nms(of_image, its_scores[kept], level_of[kept], self.nms_thresh)
            proposals.append(of_image[order[: self.post_nms_top_n()]])
        return proposals

    def _losses(self, levels: list[Tensor], anchors: Tensor, targets: Sequence[Target]) -> dict[str, Tensor]:
        matcher, sampler = self.proposal_matcher, self.fg_bg_sampler
        positives, backgrounds, matched = [], [], []
        for number, target in enumerate(targets):
            gt_boxes = target["boxes"]
            matched_idxs, kinds = match_boxes(
                anchors, gt_boxes, matcher.high_threshold, matcher.low_threshold, keep_best=True
            )
            positive, background = sample_balanced(kinds, sampler.batch_size_per_image, sampler.positive_fraction)
            matched.append(gt_boxes[matched_idxs[positive]])
            first = number * len(anchors)
            positives.append(positive + first)
            backgrounds.append(background + first)
        positive = torch.cat(positives)
        sampled = torch.cat([positive, *backgrounds])
        self.rows = len(sampled)
        per_location = self.head.cls_logits.out_channels
        objectness, deltas = self.head.at(levels, sampled // per_location)
        rows, shapes = torch.arange(len(sampled), device=sampled.device), sampled % per_location
        labels = (rows < len(positive)).float()
        wanted = self.box_coder.encode_single(torch.cat(matched), anchors[positive % len(anchors)])
        found = deltas[rows, shapes][: len(positive)]
        box_loss = functional.smooth_l1_loss(found, wanted, beta=BETA, reduction="sum")
        return {
            "loss_objectness": functional.binary_cross_entropy_with_logits(objectness[rows, shapes], labels),
            "loss_rpn_box_reg": box_loss / len(sampled),
        }


def _windows(patches: Tensor) -> Tensor:
    """The 3 × 3 windows of patches [N, S, S, C], each as one row: [N, S - 2, S - 2, 9 C]."""
    side = patches.shape[1] - 2
    if side == 1:
        return patches.reshape(-1, 1, 1, 9 * patches.shape[-1])  # as it lies in memory
    return torch.cat([patches[:, i : i + side, j : j + side] for i in range(3) for j in range(3)], dim=-1)
