"""RoIs of two small images and their true masks, as the mask half of the second stage hands them to a predictor."""

import torch
from torch import Tensor, nn

from finemask.model.mask_predictor.mask_branch import MaskRois, MaskTruth
from finemask.ops.layers import masks_to_layers

CHANNELS, NUM_CLASSES, STRIDE = 8, 4, 4
SIZE = (48, 64)  # height and width of either image, px


def mask_rois(counts: tuple[int, int] = (3, 2), seed: int = 0) -> tuple[MaskRois, MaskTruth]:
    """RoIs about rectangles, so many an image; features are leaves that take gradients."""
    generator = torch.Generator().manual_seed(seed)
    layers, slots, gt_boxes, matched, boxes = [], [], [], [], []
    for count in counts:
        corners = torch.randint(0, 24, (2, 2), generator=generator)
        sides = torch.randint(8, 20, (2, 2), generator=generator)
        masks = torch.zeros(2, *SIZE, dtype=torch.bool)
        for mask, (x, y), (w, h) in zip(masks, corners.tolist(), sides.tolist(), strict=True):
            mask[y : y + h, x : x + w] = True
        of_image, where = masks_to_layers(masks)
        layers.append(of_image)
        slots.append(where)
        gt_boxes.append(torch.cat([corners, corners + sides], dim=1).float())
        matched.append(torch.randint(2, (count,), generator=generator))
        jitter = 3 * torch.rand(count, 4, generator=generator) * torch.tensor([1.0, 1, -1, -1])
        boxes.append(gt_boxes[-1][matched[-1]] + jitter)
    total = sum(counts)
    rois = MaskRois(
        pooled=_leaf(generator, total, CHANNELS, 14, 14),
        features=_leaf(generator, total, CHANNELS, 14, 14),
        labels=torch.randint(1, NUM_CLASSES, (total,), generator=generator),
        boxes=boxes,
        pyramid={
            "0": _leaf(generator, 2, CHANNELS, 64 // STRIDE, 64 // STRIDE),  # padded to a square, as batches are
            "1": _leaf(generator, 2, CHANNELS, 8, 8),
        },
        image_shapes=[SIZE, SIZE],
    )
    return rois, MaskTruth(layers, slots, gt_boxes, matched, boxes)


def _leaf(generator: torch.Generator, *shape: int) -> Tensor:
    return torch.randn(shape, generator=generator).requires_grad_()


def missing_or_wrong_gradients(module: nn.Module) -> list[str]:
    """Parameters without a finite gradient."""
    return [n for n, p in module.named_parameters() if p.grad is None or not p.grad.isfinite().all()]
