"""Object statistics that need no pixels of the images, from one pass over the annotations.

An *object* is an annotation that is trained on: no crowd, at least one pixel. Its box and its area are read off its
mask, as the dataset does it for training.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pycocotools import mask as coco_mask
from scipy import ndimage

from finemask.coco.index import CocoIndex

GRID = 24
"""Cells on a side of the map of where objects sit."""

_NEIGHBOURS = np.ones((3, 3), dtype=np.int64)  # pieces that meet at a corner are one piece


@dataclass(frozen=True)
class Objects:
    """Measurements of all objects of a file, in the order of its images.

    Args:
        image: int64 [n], row of the image in the index.
        labels: int64 [n], 1..K.
        boxes: float32 [n, 4], xyxy px of the original image.
        areas: int64 [n], px.
        pieces: int64 [n], connected parts of the mask.
        crowding: float32 [n], share of the box's pixels that belong to other objects, 0..1.
        touches: bool [n], another object is beside it or on it, without a pixel between.
        at_edge: bool [n], the box reaches the edge of the image.
        num_crowds: crowd regions of the file.
        num_empty: annotations without a pixel.
        coverage: float64 [GRID, GRID], share of the images with objects in which a place is covered, 0..1.
    """

    image: NDArray[np.int64]
    labels: NDArray[np.int64]
    boxes: NDArray[np.float32]
    areas: NDArray[np.int64]
    pieces: NDArray[np.int64]
    crowding: NDArray[np.float32]
    touches: NDArray[np.bool_]
    at_edge: NDArray[np.bool_]
    num_crowds: int
    num_empty: int
    coverage: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.image)


def measure_objects(index: CocoIndex, advance: Callable[[], object] | None = None) -> Objects:
    """Measures every object; each annotation is rasterised once.

    Memory follows the largest image (a byte a pixel) and the number of objects, never objects × pixels.

    Args:
        index: the file.
        advance: called after each image.
    """
    rows: list[tuple[int, int, int, int, float, bool]] = []
    boxes: list[tuple[int, int, int, int]] = []
    heat = np.zeros((GRID, GRID))
    crowds = empty = filled = 0
    for i in range(len(index)):
        instances = index.instances(i)
        crowds += int(instances.iscrowd.sum())
        kept = np.flatnonzero(~instances.iscrowd).tolist()
        masks = {k: mask for k in kept if (mask := _tight(*instances.crop(k))) is not None}
        empty += len(kept) - len(masks)
        if masks:
            filled += 1
            cover = _cover(masks.values(), index.size_hw(i))
            heat += _shrunk(cover[1:-1, 1:-1])
            for k, (crop, x0, y0) in masks.items():
                crowding, touches = _neighbours(cover, crop, x0, y0)
                pieces = int(ndimage.label(crop, structure=_NEIGHBOURS)[1])
                rows.append((i, int(instances.labels[k]), int(np.count_nonzero(crop)), pieces, crowding, touches))
                boxes.append((x0, y0, x0 + crop.shape[1], y0 + crop.shape[0]))
        if advance is not None:
            advance()
    image, label_of, areas, pieces_of, crowding_of, touches_of = zip(*rows, strict=True) if rows else ([],) * 6
    corners = np.array(boxes, dtype=np.float32).reshape(-1, 4)
    image_of = np.array(image, dtype=np.int64)
    return Objects(
        image=image_of,
        labels=np.array(label_of, dtype=np.int64),
        boxes=corners,
        areas=np.array(areas, dtype=np.int64),
        pieces=np.array(pieces_of, dtype=np.int64),
        crowding=np.array(crowding_of, dtype=np.float32),
        touches=np.array(touches_of, dtype=np.bool_),
        at_edge=(corners[:, 0] <= 0)
        | (corners[:, 1] <= 0)
        | (corners[:, 2] >= index.widths[image_of])
        | (corners[:, 3] >= index.heights[image_of]),
        num_crowds=crowds,
        num_empty=empty,
        coverage=heat / max(filled, 1),
    )


def overlapping_pairs(objects: Objects, threshold: float) -> int:
    """Objects whose box overlaps that of another object of the same class and image by an IoU above a threshold.

    Non-maximum suppression at that threshold would leave one of each such pair.
    """
    order = np.lexsort((objects.labels, objects.image))
    keys = objects.image[order] * (int(objects.labels.max(initial=0)) + 1) + objects.labels[order]
    found = 0
    sides = objects.boxes[:, 2:] - objects.boxes[:, :2]
    boxes_xywh: Any = np.concatenate([objects.boxes[:, :2], sides], axis=1).astype(np.float64)
    for group in np.split(boxes_xywh[order], np.flatnonzero(np.diff(keys)) + 1):
        if len(group) > 1:
            overlaps: Any = coco_mask.iou(group, group, [0] * len(group))
            np.fill_diagonal(overlaps, 0)
            found += int((overlaps > threshold).any(axis=1).sum())
    return found


def _tight(crop: NDArray[np.bool_], x0: int, y0: int) -> tuple[NDArray[np.bool_], int, int] | None:
    columns = np.flatnonzero(crop.any(axis=0))
    if not columns.size:
        return None
    rows = np.flatnonzero(crop.any(axis=1))
    left, top = int(columns[0]), int(rows[0])
    return crop[top : rows[-1] + 1, left : columns[-1] + 1], x0 + left, y0 + top


def _cover(masks: Iterable[tuple[NDArray[np.bool_], int, int]], size_hw: tuple[int, int]) -> NDArray[np.uint8]:
    """How many objects claim each pixel, uint8 [H + 2, W + 2] with a rim of one pixel, at most 255."""
    cover = np.zeros((size_hw[0] + 2, size_hw[1] + 2), dtype=np.uint8)
    for crop, x0, y0 in masks:
        window = cover[y0 + 1 : y0 + 1 + crop.shape[0], x0 + 1 : x0 + 1 + crop.shape[1]]
        window += crop & (window < 255)
    return cover


def _shrunk(cover: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Share of each grid cell that objects cover, [GRID, GRID]."""
    picture = Image.fromarray(((cover > 0) * np.uint8(255)).astype(np.uint8))
    return np.asarray(picture.resize((GRID, GRID), Image.Resampling.BOX), dtype=np.float64) / 255


def _neighbours(cover: NDArray[np.uint8], crop: NDArray[np.bool_], x0: int, y0: int) -> tuple[float, bool]:
    """Share of an object's box that others take, and whether another one touches it."""
    own = np.zeros((crop.shape[0] + 2, crop.shape[1] + 2), dtype=np.bool_)
    own[1:-1, 1:-1] = crop
    others = cover[y0 : y0 + own.shape[0], x0 : x0 + own.shape[1]] > own
    if not others.any():
        return 0.0, False
    wide = own.copy()
    wide[1:] |= own[:-1]
    wide[:-1] |= own[1:]
    wide[:, 1:] |= own[:, :-1]
    wide[:, :-1] |= own[:, 1:]
    return float(others[1:-1, 1:-1].mean()), bool((wide & others).any())
