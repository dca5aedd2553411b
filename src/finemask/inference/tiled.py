"""Detection in pictures that are much larger than the training images: tile by tile, then merged.

Tiles are read window by window, so that the picture need not fit into memory, at the resolution of the file. What is
too large to be whole in one of them is found in the picture shrunk by half, by half of that, and so on until it fits
into one tile: a third more tiles in all.
"""

import ctypes
import sys
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import AbstractContextManager, closing, suppress
from itertools import count, islice
from typing import NamedTuple, TypeAlias

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from finemask.inference.read_ahead import in_background
from finemask.inference.tile_merging import TileFind, Window, merge_finds
from finemask.ops.images.tile_windows import tile_starts, tile_windows
from finemask.ops.images.window_reader import WindowReader
from finemask.ops.mask_ops import masks_to_rles
from finemask.ops.rle import crop_to_rle, rle_to_crop
from finemask.types import Detections, Rle

_STRIP_ROWS = 256  # even: two rows make one of the shrunk picture
_SEAM = 1 / 128  # of a tile's side: what ends so near to a seam ends at it
_SEAM_PX = 2.0  # at least
_TIDIED_AFTER = 64  # tiles

OpenPicture: TypeAlias = Callable[[], AbstractContextManager[WindowReader]]
Detect: TypeAlias = Callable[[Sequence[NDArray[np.uint8]], Sequence[Window]], Sequence[Detections]]
"""Tiles uint8 [h, w, 3] and where they lie in the picture, px, to what is found in each."""
TilesDone: TypeAlias = Callable[[int, int], None]
"""Is told how many tiles of a picture are done, and how many there are."""


class Found(NamedTuple):
    """The instances of one picture, best score first."""

    boxes: NDArray[np.float32]  # [N, 4], xyxy px
    labels: NDArray[np.int64]  # [N], 1..K
    scores: NDArray[np.float32]  # [N]
    rles: list[Rle]  # of the picture's size


class Cutting(NamedTuple):
    """How pictures are cut into tiles."""

    tile: int  # side, px
    overlap: float  # least share of a tile that it has in common with the next
    batch_size: int  # tiles handed to the model at a time
    only_shrunk: bool = False  # only pictures in which the model sees the objects too small


class _Tile(NamedTuple):
    """A piece of the picture, as it is or shrunk."""

    number: int
    level: int
    pixels: NDArray[np.uint8]
    window: Window  # in the picture, px
    cut_edges: tuple[bool, bool, bool, bool]  # left, upper, right, lower: whether the picture goes on there


def detect_tiled(
    detect: Detect,
    open_picture: OpenPicture,
    size_hw: tuple[int, int],
    cutting: Cutting,
    *,
    across_classes: bool = False,
    tiles_done: TilesDone | None = None,
) -> Found:
    """Finds the instances of a picture tile by tile; the next tiles are read while the model looks at these.

    Args:
        detect: runs the model.
        open_picture: opens the picture; called once for the shrunk passes, and once for the tiles.
        size_hw: of the picture, px.
        cutting: how.
        across_classes: see ``merge_finds``.
        tiles_done: is told how far it is.

    Raises:
        DataError: the picture cannot be read.
    """
    finds: list[TileFind] = []
    tiles = in_background(_tiles(open_picture, size_hw, cutting.tile, cutting.overlap), ahead=2 * cutting.batch_size)
    number, total = 0, _number_of_tiles(size_hw, cutting)
    with closing(tiles):
        while batch := list(islice(tiles, cutting.batch_size)):
            for one, found in zip(batch, detect([t.pixels for t in batch], [t.window for t in batch]), strict=True):
                finds += _finds(one, found, size_hw, cutting)
            if (number + len(batch)) // _TIDIED_AFTER > number // _TIDIED_AFTER:
                give_back_memory()
            number += len(batch)
            if tiles_done is not None:
                tiles_done(number, total)
    give_back_memory()
    merged = merge_finds(finds, across_classes=across_classes)
    return Found(
        np.array([find.box for find in merged], dtype=np.float32).reshape(-1, 4),
        np.array([find.label for find in merged], dtype=np.int64),
        np.array([find.score for find in merged], dtype=np.float32),
        [_full_size(find, size_hw) for find in merged],
    )


def give_back_memory() -> None:
    """Gives memory that is free back to the system; does nothing where that is not glibc's.

    Each find is small and stays, and lies between the large tensors of its tile, which go: the heap grew by half a
    megabyte a tile, nearly all of it free. Of 2.5 GB after 2,900 tiles 0.9 were in use.
    """
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):
            ctypes.CDLL(None).malloc_trim(0)


def _tiles(open_picture: OpenPicture, size_hw: tuple[int, int], tile: int, overlap: float) -> Generator[_Tile]:
    """Those of the picture as it is, row by row, then those of the shrunk ones."""
    numbers = count()
    shrunk: list[NDArray[np.uint8]] = []
    if max(size_hw) > tile:
        with open_picture() as reader:
            shrunk.append(_shrunk_by_strips(reader, size_hw))
        while max(shrunk[-1].shape[:2]) > tile:
            shrunk.append(_halved(shrunk[-1]))
    with open_picture() as reader:
        for x0, y0, x1, y1 in tile_windows(*size_hw, tile, overlap).tolist():
            window = (x0, y0, x1, y1)
            yield _Tile(next(numbers), 0, reader.read(window), window, _cut_edges(window, size_hw))
    for level, picture in enumerate(shrunk, start=1):
        for x0, y0, x1, y1 in tile_windows(picture.shape[0], picture.shape[1], tile, overlap).tolist():
            factor = 2**level
            window = (x0 * factor, y0 * factor, min(x1 * factor, size_hw[1]), min(y1 * factor, size_hw[0]))
            pixels = np.ascontiguousarray(picture[y0:y1, x0:x1])
            yield _Tile(next(numbers), level, pixels, window, _cut_edges(window, size_hw))


def _number_of_tiles(size_hw: tuple[int, int], cutting: Cutting) -> int:
    """As many as ``_tiles`` gives."""
    number, (height, width) = len(tile_windows(*size_hw, cutting.tile, cutting.overlap)), size_hw
    while max(height, width) > cutting.tile:
        height, width = (height + 1) // 2, (width + 1) // 2
        number += len(tile_windows(height, width, cutting.tile, cutting.overlap))
    return number


def _cut_edges(window: Window, size_hw: tuple[int, int]) -> tuple[bool, bool, bool, bool]:
    x0, y0, x1, y1 = window
    return x0 > 0, y0 > 0, x1 < size_hw[1], y1 < size_hw[0]


def _shrunk_by_strips(reader: WindowReader, size_hw: tuple[int, int]) -> NDArray[np.uint8]:
    """The picture at half its size, an odd side rounded up; it is read strip by strip."""
    height, width = size_hw
    half = np.empty(((height + 1) // 2, (width + 1) // 2, 3), dtype=np.uint8)
    for y in range(0, height, _STRIP_ROWS):
        strip = _halved(reader.read((0, y, width, min(y + _STRIP_ROWS, height))))
        half[y // 2 : y // 2 + len(strip)] = strip
    return half


def _halved(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Means of 2 × 2 pixels; the last row or column of an odd side stands for two."""
    height, width = picture.shape[:2]
    if height % 2 or width % 2:
        picture = np.pad(picture, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
    return np.asarray(cv2.resize(picture, ((width + 1) // 2, (height + 1) // 2), interpolation=cv2.INTER_AREA))


def _finds(tile: _Tile, found: Detections, size_hw: tuple[int, int], cutting: Cutting) -> Iterator[TileFind]:
    """What was found in a tile, in pixels of the whole picture.

    Of a shrunk pass only what no finer tile need show whole, and what this one does. At full resolution only what no
    other tile shows farther from its edge: whether something is there is for that one to say, as it is in a picture of
    its own. Otherwise what two tiles show would get two chances of a false find.
    """
    shared_px = round(cutting.tile * cutting.overlap)
    factor, (x0, y0, x1, y1) = 2**tile.level, tile.window
    frame_hw = (y1 - y0, x1 - x0)
    boxes = found["boxes"].detach().double().cpu() * factor
    boxes[:, 0::2].clamp_(0, frame_hw[1])
    boxes[:, 1::2].clamp_(0, frame_hw[0])
    to_edges = torch.stack([boxes[:, 0], boxes[:, 1], frame_hw[1] - boxes[:, 2], frame_hw[0] - boxes[:, 3]], dim=1)
    through = to_edges + (boxes[:, 2:] - boxes[:, :2]).repeat(1, 2)  # to the far side of the box
    for distances in (to_edges, through):
        distances[:, [not cut for cut in tile.cut_edges]] = torch.inf
    margins, seam = to_edges.min(dim=1).values, factor * max(_SEAM_PX, _SEAM * max(tile.pixels.shape[:2]))
    is_cut = margins <= seam
    if tile.level:
        longer = (boxes[:, 2:] - boxes[:, :2]).max(dim=1).values
        wanted = ~is_cut & (longer > shared_px * factor / 2)
    else:
        # What is no wider than a seam is seen by the next tile, and not at its edge.
        wanted = (through.min(dim=1).values > seam) | (shared_px <= 2 * seam)
        elsewhere = _widest_margins(boxes.numpy() + np.array([x0, y0, x0, y0]), size_hw, cutting)
        wanted &= margins + seam >= torch.from_numpy(elsewhere)
    rows = torch.nonzero(wanted)[:, 0]
    rles = masks_to_rles(found["mask_probs"].cpu()[rows], boxes[rows], frame_hw)
    labels, scores = found["labels"].tolist(), found["scores"].float().tolist()
    for row, rle in zip(rows.tolist(), rles, strict=True):
        crop, left, top = rle_to_crop(rle)
        if not crop.size:
            continue  # no pixels, nothing to tell it by
        bx0, by0, bx1, by1 = boxes[row].tolist()
        yield TileFind(
            box=(bx0 + x0, by0 + y0, bx1 + x0, by1 + y0),
            label=labels[row],
            score=scores[row],
            crop=crop_to_rle(crop, 0, 0, *crop.shape),
            corner=(left + x0, top + y0),
            tile=tile.number,
            window=tile.window,
            level=tile.level,
            is_cut=bool(is_cut[row]),
            margin=float(margins[row]),
        )


def _widest_margins(boxes: NDArray[np.float64], size_hw: tuple[int, int], cutting: Cutting) -> NDArray[np.float64]:
    """How far boxes are from the nearest edge of the tile that shows them best, px; below 0 where none shows one whole.

    Args:
        boxes: xyxy, px of the picture, float64 [N, 4].
        size_hw: of the picture, px.
        cutting: into tiles.
    """
    widest = []
    for axis, length in ((0, size_hw[1]), (1, size_hw[0])):
        starts = np.array(tile_starts(length, cutting.tile, cutting.overlap), dtype=np.float64)
        before = np.where(starts > 0, boxes[:, axis, None] - starts, np.inf)
        ends = starts + cutting.tile
        after = np.where(ends < length, ends - boxes[:, axis + 2, None], np.inf)
        widest.append(np.minimum(before, after).max(axis=1))
    return np.asarray(np.minimum(*widest))


def _full_size(find: TileFind, size_hw: tuple[int, int]) -> Rle:
    crop, _, _ = rle_to_crop(find.crop)  # tight already
    return crop_to_rle(crop, *find.corner, *size_hw)
