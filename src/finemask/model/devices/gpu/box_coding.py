"""Boxes to deltas and back; torchvision's coder makes tensors of constants on the way, and a GPU waits for each."""

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torchvision.models.detection._utils import BoxCoder

from finemask.model.devices.gpu.crossing import send

_MOST_GROWTH = math.log(1000.0 / 16)  # of a box in one step, as torchvision's coder bounds it


class ScalarBoxCoder(BoxCoder):
    """torchvision's coder: the same arithmetic, with constants that stay numbers anywhere but on a CPU."""

    def encode_single(self, reference_boxes: Tensor, proposals: Tensor) -> Tensor:
        """What brings proposals [R, 4] to boxes [R, 4], xyxy px: deltas [R, 4]."""
        if proposals.device.type == "cpu":
            deltas: Tensor = super().encode_single(reference_boxes, proposals)
            return deltas
        return encode(reference_boxes, proposals, self.weights)

    def decode_single(self, rel_codes: Tensor, boxes: Tensor) -> Tensor:
        """Deltas [R, 4 K] relative to boxes [R, 4] to boxes [R, 4 K], xyxy px."""
        if boxes.device.type == "cpu":
            decoded: Tensor = super().decode_single(rel_codes, boxes)
            return decoded
        each = rel_codes.unflatten(1, (-1, 4))
        return decode(each, boxes[:, None].to(rel_codes.dtype), self.weights).flatten(1)


def decode(codes: Tensor, anchors: Tensor, weights: Sequence[float] = (1.0,) * 4) -> Tensor:
    """Deltas [..., 4] and anchors [..., 4] to boxes [..., 4], xyxy px.

    Args:
        codes: float.
        anchors: xyxy px.
        weights: scale of the four deltas: x, y, width, height.
    """
    shifts, growths = _divided(codes, weights)
    sizes = anchors[..., 2:] - anchors[..., :2]
    centres = torch.addcmul(torch.add(anchors[..., :2], sizes, alpha=0.5), shifts, sizes)
    grown = growths.clamp(max=_MOST_GROWTH).exp() * sizes
    return torch.cat([torch.sub(centres, grown, alpha=0.5), torch.add(centres, grown, alpha=0.5)], dim=-1)


def encode(boxes: Tensor, anchors: Tensor, weights: Sequence[float] = (1.0,) * 4) -> Tensor:
    """Boxes [..., 4] and anchors [..., 4] to deltas [..., 4]; see ``decode``."""
    sizes, of_anchors = boxes[..., 2:] - boxes[..., :2], anchors[..., 2:] - anchors[..., :2]
    centres = torch.add(boxes[..., :2], sizes, alpha=0.5)
    between = centres - torch.add(anchors[..., :2], of_anchors, alpha=0.5)
    deltas = torch.cat([between / of_anchors, (sizes / of_anchors).log()], dim=-1)
    return deltas if set(weights) == {1.0} else deltas * _as_tensor(weights, deltas)


def _divided(codes: Tensor, weights: Sequence[float]) -> tuple[Tensor, Tensor]:
    """Shifts and growths [..., 2] without their scale."""
    plain = codes if set(weights) == {1.0} else codes / _as_tensor(weights, codes)
    return plain[..., :2], plain[..., 2:]


def _as_tensor(weights: Sequence[float], like: Tensor) -> Tensor:
    return send(np.array(weights, dtype=np.float32), like.device)
