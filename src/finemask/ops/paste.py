"""From M × M mask probabilities and boxes to run-length encodings, without a full-size mask on the way."""

import torch
from torch import Tensor
from torch.nn.functional import interpolate, pad

from finemask.ops.rle import crop_to_rle
from finemask.types import Rle

_PADDING = 1  # torchvision pads a mask by one pixel before resizing it, so that its edge fades out


def masks_to_rles(
    mask_probs: Tensor, boxes: Tensor, image_size_hw: tuple[int, int], threshold: float = 0.5
) -> list[Rle]:
    """Pastes each mask into its own box and encodes it from there.

    The pixels are those of torchvision's ``paste_masks_in_image(...) > threshold``, including boxes that reach
    beyond the image; the cost follows the boxes' area instead of N × H × W.

    Args:
        mask_probs: float [N, M, M], 0..1.
        boxes: float [N, 4], xyxy px of the image.
        image_size_hw: height and width of the image.
        threshold: pixels above it are foreground.

    Returns:
        One RLE an instance, of size ``image_size_hw``.
    """
    height, width = image_size_hw
    probs = pad(mask_probs.detach().float().cpu(), (_PADDING,) * 4)
    corners = _expand(boxes.detach().float().cpu(), mask_probs.shape[-1]).to(torch.int64).tolist()
    empty = torch.zeros(0, 0, dtype=torch.bool)
    rles = []
    for prob, (x1, y1, x2, y2) in zip(probs, corners, strict=True):
        h, w = max(y2 - y1 + 1, 1), max(x2 - x1 + 1, 1)
        top, left = max(y1, 0), max(x1, 0)
        bottom, right = min(y2 + 1, height), min(x2 + 1, width)
        if bottom <= top or right <= left:
            crop, top, left = empty, 0, 0
        else:
            pasted = interpolate(prob[None, None], size=(h, w), mode="bilinear", align_corners=False)[0, 0]
            crop = pasted[top - y1 : bottom - y1, left - x1 : right - x1] > threshold
        rles.append(crop_to_rle(crop.numpy(), left, top, height, width))
    return rles


def _expand(boxes: Tensor, mask_side: int) -> Tensor:
    """Boxes grown about their centre by what padding adds to a mask."""
    scale = (mask_side + 2 * _PADDING) / mask_side
    half_w, half_h = (boxes[:, 2] - boxes[:, 0]) * 0.5, (boxes[:, 3] - boxes[:, 1]) * 0.5
    center_x, center_y = (boxes[:, 2] + boxes[:, 0]) * 0.5, (boxes[:, 3] + boxes[:, 1]) * 0.5
    half_w, half_h = half_w * scale, half_h * scale
    return torch.stack([center_x - half_w, center_y - half_h, center_x + half_w, center_y + half_h], dim=1)
