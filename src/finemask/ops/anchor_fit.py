"""How well anchors fit objects: the best overlap that any anchor of the pyramid can have with each of them."""

import itertools
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

FINEST_STRIDE = 4  # px of the resized image, of the first pyramid level
PADDING = 32  # images are padded to a multiple of it
COVERED_IOU = 0.5
"""Overlap with its best anchor that an object needs to be proposed well."""

_BODY_LEVELS = 4  # strides 4 to 32 come from the backbone, coarser ones from pooling
_SMALLEST, _LARGEST = 4.0, 96.0  # px, sides of the smallest anchor that are tried
_STEP = 2**0.25  # between two sizes that are tried
_MOST_SHIFTED = 1.5  # a level's size is at most so many times off the ladder of doubled sizes
_SHIFT_GAIN = 0.002  # of the objects, for a size to leave that ladder
_RATIOS_APART = 1.25  # times, at least, from one aspect ratio to the next
_GAIN = 0.03  # of the objects: less is not worth leaving the anchors that the weights were trained with
_AS_GOOD = 0.01  # less than the best: the ladder nearest to the one in use is taken
_MOST_BOXES = 5_000  # to choose by; more would not change the choice


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


def resized_boxes(
    boxes: NDArray[np.floating], image_hw: NDArray[np.integer], min_size: int, max_size: int
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Boxes as the model gets them, and the size of the image around each.

    Args:
        boxes: [n, 4], xyxy px of the original image.
        image_hw: [n, 2], height and width of the original image of each box.
        min_size: px of the shorter side after resizing.
        max_size: px, upper bound of the longer side.

    Returns:
        Boxes [n, 4], xyxy px of the resized image, and its height and width int64 [n, 2].
    """
    sides = np.asarray(image_hw, dtype=np.float64).reshape(-1, 2)
    scale = np.minimum(min_size / sides.min(axis=1), max_size / sides.max(axis=1))[:, None]
    size_hw = np.maximum(np.floor(sides * scale), 1).astype(np.int64)
    return np.asarray(boxes, dtype=np.float64).reshape(-1, 4) * scale, size_hw


def coverage(best_iou: NDArray[np.floating]) -> float:
    """Share of the objects whose best anchor overlaps them by half or more; 0 of none."""
    return float((best_iou >= COVERED_IOU).mean()) if len(best_iou) else 0.0


def fit_anchors(
    boxes: NDArray[np.floating],
    size_hw: NDArray[np.int64],
    sizes: Sequence[float],
    aspect_ratios: Sequence[float],
) -> tuple[list[float], list[float]]:
    """Anchor sizes and aspect ratios that cover clearly more of the boxes than the given ones, or the given ones.

    As many sizes and as many ratios as before, so that the weights of a pretrained RPN still fit. First a ladder of
    sizes is chosen that double from level to level, as the strides do, then each size is shifted on its own by up to
    half an octave; ratios change only where that gains as much again. Nothing changes where the gain is below three
    objects in a hundred or could be chance.

    Args:
        boxes: as for ``best_anchor_iou``.
        size_hw: likewise.
        sizes: now in use, finest level first.
        aspect_ratios: now in use, height / width.

    Returns:
        Sizes in whole px, rising, and ratios, rising.
    """
    given = list(sizes), list(aspect_ratios)
    step = max(1, len(boxes) // _MOST_BOXES)
    some, their_sizes = np.asarray(boxes)[::step], np.asarray(size_hw)[::step]
    if not len(some):
        return given

    def covered(candidate: Sequence[float], ratios: Sequence[float]) -> float:
        return coverage(best_anchor_iou(some, their_sizes, candidate, ratios))

    now = covered(*given)
    least_gain = max(_GAIN, 3 * float(np.sqrt(now * (1 - now) / len(some))))
    ladder = _shifted(_ladder(given[0], given[1], covered), given[1], covered)
    fitted = (ladder, given[1]) if covered(ladder, given[1]) >= now + least_gain else given
    ratios = _quantile_ratios(some, len(given[1]))
    other = _shifted(_ladder(fitted[0], ratios, covered), ratios, covered)
    if covered(other, ratios) >= covered(*fitted) + least_gain:
        fitted = other, ratios
    return fitted


_Covered = Callable[[Sequence[float], Sequence[float]], float]


def _ladder(sizes: Sequence[float], ratios: Sequence[float], covered: _Covered) -> list[float]:
    """The ladder of doubled sizes that covers most; of several as good ones the nearest to the sizes in use."""
    starts = _SMALLEST * _STEP ** np.arange(round(np.log(_LARGEST / _SMALLEST) / np.log(_STEP)) + 1)
    ladders = [[float(np.rint(start * 2.0**level)) for level in range(len(sizes))] for start in starts]
    shares = [covered(ladder, ratios) for ladder in ladders]
    good = [k for k, share in enumerate(shares) if share >= max(shares) - _AS_GOOD]
    return ladders[min(good, key=lambda k: abs(np.log(ladders[k][0] / sizes[0])))]


def _shifted(ladder: list[float], ratios: Sequence[float], covered: _Covered) -> list[float]:
    """Each size in turn shifted a step up or down as long as that covers more boxes."""
    best, reached = list(ladder), covered(ladder, ratios)
    improved = True
    while improved:
        improved = False
        for level, factor in itertools.product(range(len(ladder)), (_STEP, 1 / _STEP)):
            trial = list(best)
            trial[level] = float(np.rint(best[level] * factor))
            rising = all(a < b for a, b in itertools.pairwise(trial))
            shift = max(trial[level] / ladder[level], ladder[level] / trial[level])
            if rising and shift <= _MOST_SHIFTED and (share := covered(trial, ratios)) > reached + _SHIFT_GAIN:
                best, reached, improved = trial, share, True
    return best


def _quantile_ratios(boxes: NDArray[np.floating], count: int) -> list[float]:
    """Ratios that split the boxes' own into equal shares, pushed apart where they would be nearly the same."""
    extent = np.maximum(np.asarray(boxes)[:, 2:] - np.asarray(boxes)[:, :2], 1e-6)
    logs = np.log(extent[:, 1] / extent[:, 0])
    wanted = np.quantile(logs, (np.arange(count) + 0.5) / count)
    apart = np.log(_RATIOS_APART)
    spread = wanted.copy()
    for k in range(1, count):
        spread[k] = max(spread[k], spread[k - 1] + apart)
    spread -= (spread - wanted).mean()  # what was pushed up is centred again
    return [round(float(ratio), 3) for ratio in np.exp(spread)]
