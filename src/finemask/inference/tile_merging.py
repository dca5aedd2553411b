"""What was found in overlapping tiles becomes the instances of the whole picture, each once.

Nothing here is as large as the picture: a mask is the crop of its own box, and only pairs whose crops overlap are
compared. Two finds of one tile are never compared: the model's own suppression has settled them.

* A find that lies whole in its tile is taken as it is, pixel for pixel. Others that share more than half of their union
  with it are the same object, seen by another tile. Full resolution goes before the shrunk passes, then the score.
* A find that ends at a seam is a part. Parts of neighbouring tiles that agree where both tiles look are joined.
* A part, joined or not, of which half or more lies on a whole find of its class is dropped.
* A find of a shrunk pass is dropped when smaller whole finds cover half of it or more: it is their heap.

The score of an object is the best that it was found with.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from finemask.ops.box_ops import touching_pairs
from finemask.ops.rle import crop_to_rle, rle_area, rle_to_mask
from finemask.types import Rle

_SAME = 0.5  # IoU above which two finds are one object; share of a part from which it belongs to a whole

Window: TypeAlias = tuple[int, int, int, int]
"""x0, y0, x1, y1 in px of the picture."""


@dataclass(slots=True)
class TileFind:
    """What one tile shows of one object, in pixels of the whole picture.

    Args:
        box: xyxy.
        label: 1..K.
        score: 0..1.
        crop: the mask, an RLE of the size of its own tight box.
        corner: column and row of the crop's upper left pixel in the picture.
        tile: number of the tile, of all passes.
        window: that the tile covers.
        level: 0 for full resolution, n where the picture was shrunk n times by half.
        is_cut: whether it ends where the tile does and the picture goes on.
        margin: px from the box to the nearest such edge of the tile.
    """

    box: tuple[float, float, float, float]
    label: int
    score: float
    crop: Rle
    corner: tuple[int, int]
    tile: int
    window: Window
    level: int
    is_cut: bool
    margin: float

    @property
    def area(self) -> int:
        """Pixels of the mask."""
        return rle_area(self.crop)

    @property
    def extent(self) -> Window:
        """The tight box of the mask."""
        (x0, y0), (height, width) = self.corner, self.crop["size"]
        return x0, y0, x0 + width, y0 + height


def merge_finds(finds: Sequence[TileFind], *, across_classes: bool = False) -> list[TileFind]:
    """The objects of the whole picture, best score first.

    Args:
        finds: of all tiles, each with at least a pixel.
        across_classes: whether finds of different classes may be one object, as the model's suppression has it.
    """
    candidates = sorted(_with_joined_parts(finds), key=_rank)
    neighbours: list[list[int]] = [[] for _ in candidates]  # those before it
    for pair in _overlapping(candidates, across_classes):
        neighbours[max(pair)].append(min(pair))
    areas = [find.area for find in candidates]
    is_kept = [False] * len(candidates)
    for this, find in enumerate(candidates):
        covered, same = 0, None
        for before in neighbours[this]:
            other = candidates[before]
            if not is_kept[before]:
                continue
            shared = _shared_pixels(find, other)
            if shared > _SAME * (areas[this] + areas[before] - shared):
                same = other
                break
            if _is_part(find):
                covered = max(covered, shared)
            elif other.level < find.level and shared > _SAME * areas[before]:
                covered += shared
        if same is not None:
            same.score = max(same.score, find.score)
        is_kept[this] = same is None and covered < _SAME * areas[this]
    kept = [find for find, is_one in zip(candidates, is_kept, strict=True) if is_one]
    return sorted(kept, key=lambda find: -find.score)


_JOINED = -1  # tile of what was joined of the finds of several


def _is_part(find: TileFind) -> bool:
    return find.is_cut or find.tile == _JOINED


def _rank(find: TileFind) -> tuple[bool, bool, int, float, float]:
    return find.is_cut, find.tile == _JOINED, find.level, -find.score, -find.margin


def _overlapping(finds: Sequence[TileFind], across_classes: bool) -> Iterable[tuple[int, int]]:
    """Pairs of different tiles whose masks' boxes share a pixel."""
    if not finds:
        return
    pairs = touching_pairs(np.array([find.extent for find in finds], dtype=np.int64))
    labels, tiles = (np.array([getattr(find, name) for find in finds]) for name in ("label", "tile"))
    one, other = pairs.T
    differ = (tiles[one] != tiles[other]) | (tiles[one] == _JOINED)
    yield from pairs[differ & ((labels[one] == labels[other]) | across_classes)].tolist()


def _with_joined_parts(finds: Sequence[TileFind]) -> list[TileFind]:
    """The finds, those that are parts of one object joined into one."""
    parts = [find for find in finds if find.is_cut]
    group = list(range(len(parts)))

    def first(of: int) -> int:
        while group[of] != of:
            group[of] = of = group[group[of]]
        return of

    for one, other in _overlapping(parts, across_classes=False):
        if parts[one].level == parts[other].level and _agree(parts[one], parts[other]):
            group[first(other)] = first(one)
    members: dict[int, list[TileFind]] = {}
    for number, part in enumerate(parts):
        members.setdefault(first(number), []).append(part)
    joined = [_join(together) if len(together) > 1 else together[0] for together in members.values()]
    return [replace(find) for find in finds if not find.is_cut] + joined


def _agree(one: TileFind, other: TileFind) -> bool:
    """Whether two parts are the same where both tiles look."""
    seen = _intersection(one.window, other.window)
    mine, others = _pixels(one, seen), _pixels(other, seen)
    union = np.count_nonzero(mine | others)
    return bool(np.count_nonzero(mine & others) > _SAME * union)  # not where neither has a pixel


def _join(parts: Sequence[TileFind]) -> TileFind:
    """One find out of several: all their pixels, the box around their boxes, the best of their scores."""
    extents = np.array([part.extent for part in parts])
    (x0, y0), (x1, y1) = extents[:, :2].min(axis=0).tolist(), extents[:, 2:].max(axis=0).tolist()
    crop = np.zeros((y1 - y0, x1 - x0), dtype=np.bool_)
    for part in parts:
        left, top, right, bottom = part.extent
        crop[top - y0 : bottom - y0, left - x0 : right - x0] |= rle_to_mask(part.crop).view(np.bool_)
    boxes = np.array([part.box for part in parts])
    (left, top), (right, bottom) = boxes[:, :2].min(axis=0).tolist(), boxes[:, 2:].max(axis=0).tolist()
    best = max(parts, key=lambda part: part.score)
    return replace(
        best,
        box=(left, top, right, bottom),
        crop=crop_to_rle(crop, 0, 0, *crop.shape),
        corner=(x0, y0),
        tile=_JOINED,
        is_cut=False,
    )


def _shared_pixels(one: TileFind, other: TileFind) -> int:
    seen = _intersection(one.extent, other.extent)
    return int(np.count_nonzero(_pixels(one, seen) & _pixels(other, seen)))


def _pixels(find: TileFind, window: Window) -> NDArray[np.bool_]:
    """The mask in a window of the picture, bool [h, w]."""
    x0, y0, x1, y1 = window
    pixels = np.zeros((max(y1 - y0, 0), max(x1 - x0, 0)), dtype=np.bool_)
    left, top, right, bottom = _intersection(find.extent, window)
    if right > left and bottom > top:
        (of_x, of_y), crop = find.corner, rle_to_mask(find.crop)
        pixels[top - y0 : bottom - y0, left - x0 : right - x0] = crop[
            top - of_y : bottom - of_y, left - of_x : right - of_x
        ]
    return pixels


def _intersection(one: Window, other: Window) -> Window:
    return max(one[0], other[0]), max(one[1], other[1]), min(one[2], other[2]), min(one[3], other[3])
