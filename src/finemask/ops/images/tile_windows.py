"""Cutting a picture into overlapping tiles, and bringing what was found in a tile back to the whole picture.

Both ways are exact: a tile begins at a whole pixel, so coordinates move by whole numbers and masks keep every pixel.
"""

import numpy as np
from numpy.typing import NDArray

from finemask.ops.rle import crop_to_rle, rle_to_crop
from finemask.types import Rle


def tile_starts(length: int, size: int, overlap: float) -> list[int]:
    """Where tiles begin along one side.

    As few tiles as are needed for neighbours to share at least ``round(size * overlap)`` px, spread evenly: the last
    one ends where the side does, and no two are nearly the same. Whatever is not longer than what they are to share
    lies wholly in at least one tile.

    Args:
        length: of the side, px.
        size: of a tile, px.
        overlap: least share of a tile that it has in common with the next, at least 0, below 1.

    Returns:
        Ascending, first 0; only 0 when the side fits into one tile.
    """
    if length <= size:
        return [0]
    last, stride = length - size, max(1, size - round(size * overlap))
    steps = -(-last // stride)
    return [step * last // steps for step in range(steps + 1)]  # rounded down, no step is longer than the stride


def tile_windows(height: int, width: int, size: int, overlap: float) -> NDArray[np.int64]:
    """The tiles of a picture, row by row.

    Args:
        height: of the picture, px.
        width: of the picture, px.
        size: side of the tiles, px.
        overlap: least share of a tile that it has in common with the next, at least 0, below 1.

    Returns:
        int64 [T, 4], xyxy px, inside the picture. All have the same size: ``size``, or the picture's along a side that
        is shorter.
    """
    y0, x0 = np.meshgrid(tile_starts(height, size, overlap), tile_starts(width, size, overlap), indexing="ij")
    corners = np.stack([x0.ravel(), y0.ravel()], axis=1).astype(np.int64)
    return np.concatenate([corners, corners + np.array([min(size, width), min(size, height)])], axis=1)


def boxes_from_tile(boxes_xyxy: NDArray[np.floating], x0: int, y0: int) -> NDArray[np.float64]:
    """Boxes found in a tile, in pixels of the whole picture.

    Args:
        boxes_xyxy: [N, 4], px of the tile.
        x0: column of the tile's left edge in the picture.
        y0: row of its upper edge.

    Returns:
        float64 [N, 4]: float32 would lose fractions of a pixel far from the origin.
    """
    moved = np.array(boxes_xyxy, dtype=np.float64).reshape(-1, 4)
    moved += np.array([x0, y0, x0, y0])
    return moved


def rle_from_tile(rle: Rle, x0: int, y0: int, height: int, width: int) -> Rle:
    """A mask found in a tile, as a mask of the whole picture; the cost is that of the mask's own box.

    Args:
        rle: of the tile's size.
        x0: column of the tile's left edge in the picture.
        y0: row of its upper edge.
        height: of the picture, px.
        width: of the picture, px.

    Raises:
        ValueError: the tile is not wholly inside the picture.
    """
    h, w = rle["size"]
    if x0 < 0 or y0 < 0 or x0 + w > width or y0 + h > height:
        raise ValueError(f"a tile of {w} × {h} px at ({x0}, {y0}) is not inside a picture of {width} × {height} px")
    crop, left, top = rle_to_crop(rle)
    return crop_to_rle(crop, left + x0, top + y0, height, width)
