"""Mask branch: RoIs to mask features, mask losses and mask probabilities.

A predictor that is a plain module, mask features and labels to logits, is trained on mask targets of the size of its
logits. One that needs more (the pyramid, the boxes), or answers more (a loss of its own, other scores), has the two
methods of ``MaskBranch`` and decides itself.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor, nn
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads
from torchvision.ops import clip_boxes_to_image

from finemask.ops.mask_ops import mask_targets, point_targets, points_in_boxes
from finemask.types import MaskLoss

POOLED_MASK = 14  # side of a pooled mask feature; predictions are twice that


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


class MaskRois(NamedTuple):
    """RoIs of a batch whose masks are predicted, with their features."""

    pooled: Tensor  # [R, C, M / 2, M / 2], of the pyramid
    features: Tensor  # [R, C', M / 2, M / 2], of the mask head
    labels: Tensor  # int64 [R], 1..K: each RoI's class
    boxes: list[Tensor]  # of each image, [R of it, 4], xyxy px of the resized image
    pyramid: dict[str, Tensor]  # feature maps by name, [B, C, H / stride, W / stride], finest first
    image_shapes: list[tuple[int, int]]  # of each resized image, without padding


class MaskTargets(Protocol):
    """Mask targets of RoIs, as a grid, at points, or as an area."""

    def grid(self, side: int) -> Tensor:
        """Coverage of the M × M cells of each RoI, float32 [R, M, M], 0..1."""
        ...

    def at(self, points: Tensor) -> Tensor:
        """Truth at points [R, P, 2], (x, y) in units of the RoI: float32 [R, P], 0..1."""
        ...

    def pixels_outside(self) -> Tensor:
        """Pixels of each RoI's instance that lie outside the RoI, float32 [R]."""
        ...


class MaskTruth(NamedTuple):
    """Mask targets read off the label maps under each RoI."""

    layers: Sequence[Tensor]  # of each image, uint8 [L, H, W]
    slots: Sequence[Tensor]  # of each image, int64 [N, 2]
    gt_boxes: Sequence[Tensor]  # of each image, [N, 4], xyxy px
    matched_idxs: Sequence[Tensor]  # of each image, int64 [R of it], the instance of each RoI
    boxes: Sequence[Tensor]  # of each image, [R of it, 4], xyxy px

    def grid(self, side: int) -> Tensor:
        """See ``MaskTargets``."""
        return mask_targets(self.layers, self.slots, self.matched_idxs, self.boxes, side)

    def at(self, points: Tensor) -> Tensor:
        """See ``MaskTargets``."""
        places = points_in_boxes(points, torch.cat(list(self.boxes)))
        counts = [len(of_image) for of_image in self.boxes]
        return point_targets(self.layers, self.slots, self.matched_idxs, places.split(counts))

    def pixels_outside(self) -> Tensor:
        """See ``MaskTargets``."""
        whole = [torch.arange(len(slots), device=slots.device) for slots in self.slots]
        grown = [boxes + boxes.new_tensor([-1, -1, 1, 1]) for boxes in self.gt_boxes]  # resizing may round pixels off
        totals = _pixels_inside(self.layers, self.slots, whole, grown)
        starts = torch.tensor([0, *(len(slots) for slots in self.slots)]).cumsum(0).tolist()
        of_rois = [idxs + start for idxs, start in zip(self.matched_idxs, starts, strict=False)]
        inside = _pixels_inside(self.layers, self.slots, self.matched_idxs, self.boxes)
        return (totals[torch.cat(of_rois)] - inside).clamp(min=0)


@runtime_checkable
class MaskBranch(Protocol):
    """A mask predictor with losses and detections of its own."""

    def losses(self, rois: MaskRois, truth: MaskTargets, mask_loss: MaskLoss) -> dict[str, Tensor]:
        """``loss_mask`` and whatever else there is: scalars, finite and differentiable for R = 0 as well."""

    def detect(self, rois: MaskRois, scores: Tensor) -> tuple[Tensor, Tensor]:
        """Mask probabilities float32 [R, M, M] and the detections' scores float32 [R], 0..1, in any order."""


class PlainMaskBranch:
    """Mask branch of Mask R-CNN around a predictor of logits [R, M, M] from mask features and labels."""

    def __init__(self, predictor: nn.Module) -> None:
        self._predictor = predictor

    def logits(self, rois: MaskRois) -> Tensor:
        """float32 [R, M, M], under autocast too."""
        logits: Tensor = self._predictor(rois.features, rois.labels)
        return logits.float()

    def losses(self, rois: MaskRois, truth: MaskTargets, mask_loss: MaskLoss) -> dict[str, Tensor]:
        """See ``MaskBranch``."""
        logits = self.logits(rois)
        return {"loss_mask": mask_loss(logits, truth.grid(logits.shape[-1]), rois.labels)}

    def detect(self, rois: MaskRois, scores: Tensor) -> tuple[Tensor, Tensor]:
        """See ``MaskBranch``."""
        return self.logits(rois).sigmoid(), scores


def mask_branch_of(predictor: nn.Module) -> MaskBranch:
    """The predictor itself if it is a ``MaskBranch``, the plain branch around it otherwise."""
    return predictor if isinstance(predictor, MaskBranch) else PlainMaskBranch(predictor)


def _pixels_inside(
    layers: Sequence[Tensor], slots: Sequence[Tensor], matched_idxs: Sequence[Tensor], boxes: Sequence[Tensor]
) -> Tensor:
    """Pixels of an instance whose centre lies in a box, float32 [sum of R].

    A mask target of one cell averages one sample a pixel; half a pixel to the left, the samples of a box with
    whole-numbered edges fall on the pixels themselves.
    """
    snapped = [
        clip_boxes_to_image(of_image.round(), (maps.shape[-2], maps.shape[-1]))
        for of_image, maps in zip(boxes, layers, strict=True)
    ]
    share = mask_targets(layers, slots, matched_idxs, [of_image - 0.5 for of_image in snapped], 1)[:, 0, 0]
    sides = torch.cat([of_image[:, 2:] - of_image[:, :2] for of_image in snapped])
    return share * sides.clamp(min=1.0).prod(1)
