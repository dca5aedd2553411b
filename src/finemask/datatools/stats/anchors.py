"""How well anchors fit objects: the best overlap that any anchor of the pyramid can have with each of them."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

FINEST_STRIDE = 4  # px of the resized image, of the first pyramid level
PADDING = 32  # images are padded to a multiple of it
_BODY_LEVELS = 4  # strides 4 to 32 come from the backbone, coarser ones from pooling
_LADDERS = (4, 6, 8, 12, 16, 24, 32, 48, 64)  # px, sides of the smallest anchor that are tried
_RATIOS = ((0.5, 1.0, 2.0), (0.33, 1.0, 3.0), (0.25, 0.5, 1.0, 2.0, 4.0))
_ENOUGH, _GAIN = 0.92, 0.03  # of the objects
_AS_GOOD = 0.01  # less than the best: the ladder nearest to the one in use is taken
_MOST_BOXES = 20_000  # to choose by; more would not change the choice


def best_anchor_iou(
    boxes: NDArray[np.floating],
    size_hw: NDArray[np.int64],
    sizes: Sequence[float],
    aspect_ratios: Sequence[float],
) -> NDArray[np.float64]:
    """For each box the greatest IoU with an anchor, at the very places where torchvision puts anchors.

    Along each axis the overlap with an anchor of given size only falls with the distance of the centres, so the
    nearest anchor of each shape is the best one: no grid needs to be laid out.

    Args:
        boxes: [n, 4], xyxy px of the resized image.
        size_hw: [n, 2], height and width of the resized image of each box.
        sizes: side of a square anchor at each pyramid level, finest first.
        aspect_ratios: height / width, the same at each level.

    Returns:
        [n], 0..1.
    """
    boxes = np.asarray(boxes, dtype=np.float64).reshape(-1, 4)
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
    padded = np.ceil(np.asarray(size_hw)[:, ::-1] / PADDING).astype(np.int64) * PADDING  # width, height
    best = np.zeros(len(boxes))
    for level, size in enumerate(sizes):
        grid = -(-padded // (FINEST_STRIDE * 2 ** min(level, _BODY_LEVELS - 1)))
        for _ in range(level - _BODY_LEVELS + 1):
            grid = -(-grid // 2)
        stride = padded // grid
        nearest = np.clip(np.rint(centres / stride), 0, grid - 1) * stride
        for ratio in aspect_ratios:
            half = np.round(np.array([size / np.sqrt(ratio), size * np.sqrt(ratio)]) / 2)
            shared = np.minimum(boxes[:, 2:], nearest + half) - np.maximum(boxes[:, :2], nearest - half)
            shared = np.clip(shared, 0, None).prod(axis=1)
            np.maximum(best, shared / (areas + 4 * half.prod() - shared), out=best)
    return best


def choose_anchors(
    boxes: NDArray[np.floating],
    size_hw: NDArray[np.int64],
    sizes: Sequence[float],
    aspect_ratios: Sequence[float],
) -> tuple[list[float], list[float]]:
    """Anchor sizes and aspect ratios that fit the boxes clearly better than the given ones, or the given ones.

    Sizes double from level to level, so that one number is chosen. What counts is the share of the objects that an
    anchor overlaps by half or more. Nothing changes where it is high, or where the gain is small or could be chance.

    Args:
        boxes: as for ``best_anchor_iou``.
        size_hw: likewise.
        sizes: now in use.
        aspect_ratios: now in use.
    """
    step = max(1, len(boxes) // _MOST_BOXES)
    some, their_sizes = boxes[::step], size_hw[::step]

    def covered(candidate: Sequence[float], ratios: Sequence[float]) -> float:
        return float((best_anchor_iou(some, their_sizes, candidate, ratios) >= 0.5).mean())

    chosen, chosen_ratios = list(sizes), list(aspect_ratios)
    if not len(some) or (now := covered(sizes, aspect_ratios)) >= _ENOUGH:
        return chosen, chosen_ratios
    least_gain = max(_GAIN, 3 * float(np.sqrt(now * (1 - now) / len(some))))
    ladders = [[smallest * 2.0**level for level in range(len(sizes))] for smallest in _LADDERS]
    scores = [covered(ladder, aspect_ratios) for ladder in ladders]
    good = [k for k, score in enumerate(scores) if score >= max(scores) - _AS_GOOD]
    nearest = min(good, key=lambda k: abs(np.log(ladders[k][0] / sizes[0])))
    if scores[nearest] >= now + least_gain:
        chosen, now = ladders[nearest], scores[nearest]
    for ratios in _RATIOS:
        if now < _ENOUGH and (found := covered(chosen, ratios)) >= now + least_gain:
            chosen_ratios, now = list(ratios), found
    return chosen, chosen_ratios
