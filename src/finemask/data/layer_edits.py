"""Label maps edited as a whole: instances taken off or pasted on top, and a window of an image and its maps resized.

OpenCV does what is done to every pixel. It looks values up and copies under a mask several times faster than
indexing in numpy does.
"""

import cv2
import numpy as np
from numpy.typing import NDArray

from finemask.ops.layers import MAX_VALUE


def compact(
    layers: NDArray[np.uint8], slots: NDArray[np.int64], keep: NDArray[np.bool_]
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Removes instances from label maps, renumbers the others from 1 in each layer, and drops empty layers.

    Args:
        layers: uint8 [L, H, W].
        slots: int64 [N, 2].
        keep: bool [N].

    Returns:
        uint8 [L', H, W] with L' at least 1, and int64 [keep.sum(), 2].
    """
    kept = slots[keep]
    used, layer = np.unique(kept[:, 0], return_inverse=True)
    if not used.size:
        return np.zeros_like(layers[:1]), kept
    renumbered = np.empty_like(kept)
    renumbered[:, 0] = layer
    maps = np.empty((len(used), *layers.shape[1:]), dtype=np.uint8)
    for new, old in enumerate(used.tolist()):
        rows = np.flatnonzero(layer == new)
        values = np.arange(1, rows.size + 1)
        renumbered[rows, 1] = values
        maps[new] = _replace_values(layers[old], kept[rows, 1], values)
    return maps, renumbered


def paste_layers(
    layers: NDArray[np.uint8],
    slots: NDArray[np.int64],
    patch: NDArray[np.uint8],
    patch_slots: NDArray[np.int64],
    x0: int,
    y0: int,
) -> tuple[NDArray[np.uint8], NDArray[np.int64], NDArray[np.uint8]]:
    """Pastes instances of other label maps on top.

    They hide what is under them: a pixel of a pasted instance belongs to no instance from below any more. Among
    themselves they overlap as they did.

    Args:
        layers: uint8 [L, H, W]; not changed.
        slots: int64 [N, 2], the instances in them.
        patch: uint8 [P, h, w], other label maps.
        patch_slots: int64 [M, 2], the instances in them that are pasted; others are ignored.
        x0: column of ``layers`` where the patch begins; it must lie inside.
        y0: row, likewise.

    Returns:
        ``layers`` uint8 [L', H, W], where ``slots`` still hold; the slots of the pasted instances, int64 [M, 2]; and
        ``covered`` uint8 [h, w], 255 where an instance was pasted and 0 elsewhere.
    """
    highest = np.zeros(len(layers) + len(patch), dtype=np.int64)  # value in use, layer by layer; new layers at the end
    np.maximum.at(highest, slots[:, 0], slots[:, 1])
    homes: list[int] = []  # no two layers of the patch share one: their instances may overlap
    moved: list[NDArray[np.uint8]] = []
    pasted_slots = np.empty_like(patch_slots)
    for source in np.unique(patch_slots[:, 0]).tolist():
        rows = np.flatnonzero(patch_slots[:, 0] == source)
        fits = highest + rows.size <= MAX_VALUE
        fits[homes] = False
        home = int(np.argmax(fits))
        values = highest[home] + np.arange(1, rows.size + 1)
        pasted_slots[rows, 0], pasted_slots[rows, 1] = home, values
        moved.append(_replace_values(patch[source], patch_slots[rows, 1], values))
        homes.append(home)
    bare = np.full(patch.shape[1:], 255, dtype=np.uint8)
    for values_here in moved:
        bare &= np.equal(values_here, 0).view(np.uint8) * np.uint8(255)
    out = np.zeros((max([len(layers), *(home + 1 for home in homes)]), *layers.shape[1:]), dtype=np.uint8)
    out[: len(layers)] = layers
    window = out[:, y0 : y0 + patch.shape[1], x0 : x0 + patch.shape[2]]
    window &= bare
    for home, values_here in zip(homes, moved, strict=True):
        window[home] |= values_here
    return out, pasted_slots, ~bare


def _replace_values(layer: NDArray[np.uint8], old: NDArray[np.int64], new: NDArray[np.int64]) -> NDArray[np.uint8]:
    """A label map [H, W] where each old value is a new one, and every other value is 0."""
    table = np.zeros(256, dtype=np.uint8)
    table[old] = new
    return np.asarray(cv2.LUT(layer, table), dtype=np.uint8)


def resize_window(
    image: NDArray[np.uint8],
    layers: NDArray[np.uint8],
    window_xyxy: tuple[int, int, int, int],
    size_hw: tuple[int, int],
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Cuts a window out and resizes it.

    The image is bilinear, or averaged where it shrinks to less than half; label maps are nearest neighbour. All of
    them put pixel centres at the same places.

    Args:
        image: uint8 [H, W, 3].
        layers: uint8 [L, H, W].
        window_xyxy: px, inside the image, not empty.
        size_hw: height and width to bring it to.

    Returns:
        uint8 [h, w, 3] and uint8 [L, h, w].
    """
    x0, y0, x1, y1 = window_xyxy
    (height, width), rows, columns = size_hw, slice(y0, y1), slice(x0, x1)
    if (height, width) == (y1 - y0, x1 - x0):
        return image[rows, columns], layers[:, rows, columns]
    skips_pixels = 2 * height < y1 - y0 or 2 * width < x1 - x0  # bilinear would
    interpolation = cv2.INTER_AREA if skips_pixels else cv2.INTER_LINEAR
    resized = np.asarray(cv2.resize(image[rows, columns], (width, height), interpolation=interpolation), dtype=np.uint8)
    maps = np.empty((len(layers), height, width), dtype=np.uint8)
    for number, layer in enumerate(layers):
        maps[number] = cv2.resize(layer[rows, columns], (width, height), interpolation=cv2.INTER_NEAREST_EXACT)
    return resized, maps
