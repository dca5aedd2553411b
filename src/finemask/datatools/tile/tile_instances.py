"""Instances cut along the borders of tiles, pixel for pixel, and counted by class."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from finemask.coco.index import CocoIndex, ImageInstances
from finemask.ops.rle import crop_to_rle
from finemask.types import Rle


@dataclass(frozen=True, slots=True)
class Part:
    """What one tile shows of one instance.

    Args:
        instance: number of the instance in its image.
        rle: of the tile's size; exactly the crop of the full mask.
        bbox_xywh: tight, px of the tile.
        area: pixels in the tile.
        visible: share of the instance's pixels that lie in the tile, above 0, at most 1.
        is_sliver: the tile shows too little of it to be learned from or asked for.
    """

    instance: int
    rle: Rle
    bbox_xywh: tuple[int, int, int, int]
    area: int
    visible: float
    is_sliver: bool


def cut_instances(
    instances: ImageInstances, windows_xyxy: NDArray[np.int64], min_visible: float
) -> tuple[list[list[Part]], int]:
    """Cuts every instance of an image along its tiles.

    A part is a sliver when it has fewer than ``min_visible`` times the pixels of the *greatest* part of the same
    instance. For an instance that some tile shows whole, that is the share of its area. One that is larger than a
    tile is measured by the best view there is of it, so no instance is lost. Crowd regions have no slivers.

    Args:
        instances: of the image.
        windows_xyxy: int64 [T, 4], px, the tiles.
        min_visible: 0..1.

    Returns:
        The parts in each of the T tiles, in the order of the instances; and the number of instances without a pixel.
    """
    parts: list[list[Part]] = [[] for _ in range(len(windows_xyxy))]
    empty = 0
    for k in range(len(instances)):
        crop, x0, y0 = instances.crop(k)
        h, w = crop.shape
        seen = _tiles_that_meet(windows_xyxy, (x0, y0, x0 + w, y0 + h)) if crop.size else []
        cuts = [_cut(crop, x0, y0, windows_xyxy[tile].tolist()) for tile in seen]
        pixels = [int(np.count_nonzero(piece)) for piece, _, _ in cuts]
        best = max(pixels, default=0)
        if not best:
            empty += 1
            continue
        total = int(np.count_nonzero(crop))
        least = 0.0 if instances.iscrowd[k] else min_visible * best
        for tile, (piece, x, y), area in zip(seen, cuts, pixels, strict=True):
            if area:
                wx0, wy0, wx1, wy1 = windows_xyxy[tile].tolist()
                rle = crop_to_rle(piece, x, y, wy1 - wy0, wx1 - wx0)
                parts[tile].append(Part(k, rle, _tight_box(piece, x, y), area, area / total, area < least))
    return parts, empty


def _tiles_that_meet(windows: NDArray[np.int64], box: tuple[int, int, int, int]) -> list[int]:
    x0, y0, x1, y1 = box
    meets = (windows[:, 0] < x1) & (windows[:, 2] > x0) & (windows[:, 1] < y1) & (windows[:, 3] > y0)
    return [int(tile) for tile in np.flatnonzero(meets)]


def _cut(crop: NDArray[np.bool_], x0: int, y0: int, window: list[int]) -> tuple[NDArray[np.bool_], int, int]:
    """The part of a crop inside a window, a view of it, and where its upper left pixel lies in the window."""
    wx0, wy0, wx1, wy1 = window
    left, top = max(wx0 - x0, 0), max(wy0 - y0, 0)
    piece = crop[top : max(wy1 - y0, 0), left : max(wx1 - x0, 0)]
    return piece, x0 + left - wx0, y0 + top - wy0


def _tight_box(piece: NDArray[np.bool_], x: int, y: int) -> tuple[int, int, int, int]:
    columns, rows = np.flatnonzero(piece.any(axis=0)), np.flatnonzero(piece.any(axis=1))
    left, top, right, bottom = int(columns[0]), int(rows[0]), int(columns[-1]), int(rows[-1])
    return x + left, y + top, right + 1 - left, bottom + 1 - top


@dataclass(slots=True)
class ClassCount:
    """Of one class: annotated instances (crowds not counted), parts written, parts that are cut, slivers."""

    instances: int = 0
    parts: int = 0
    cut: int = 0
    slivers: int = 0


@dataclass(slots=True)
class TileReport:
    """What became of one annotation file.

    Args:
        name: of the split written.
        annotations: the file written.
        images: of the source.
        whole: of these, images that fit into a tile and were copied as they are.
        tiles: pictures written, whole images among them.
        empty: of these, without an instance.
        left_out: empty tiles that were not written.
        without_pixels: annotations that do not cover a single pixel.
        classes: by name, in the order of the categories.
    """

    name: str
    annotations: Path
    images: int = 0
    whole: int = 0
    tiles: int = 0
    empty: int = 0
    left_out: int = 0
    without_pixels: int = 0
    classes: dict[str, ClassCount] = field(default_factory=dict)

    def add_parts(self, index: CocoIndex, i: int, parts: Sequence[Sequence[Part]]) -> None:
        """Counts the instances of image ``i`` and their parts in its tiles, by class; crowds are not counted."""
        instances = index.instances(i)
        counts = [self.classes[index.categories[int(label) - 1].name] for label in instances.labels]
        for count, iscrowd in zip(counts, instances.iscrowd, strict=True):
            count.instances += not iscrowd
        for part in (part for tile in parts for part in tile if not instances.iscrowd[part.instance]):
            counts[part.instance].slivers += part.is_sliver
            counts[part.instance].parts += not part.is_sliver
            counts[part.instance].cut += not part.is_sliver and part.visible < 1
