"""Label maps: the instances of an image as a few layers.

N instances of an image are painted into a few uint8 maps [L, H, W]: 0 is nothing, value v is the v-th instance of
that layer. Instances that would collide go to different layers, so overlaps and holes survive exactly, and warping
L maps with nearest neighbour warps all instances. ``slots`` [N, 2] says where each instance is: (layer, value).
"""

# torch is only named here, and imported where it is needed: verbs that paint label maps start without it.
from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Tensor

MAX_VALUE = 255  # of uint8: a layer holds that many instances


class LayerPainter:
    """Paints instances one by one, each into the first layer that has room for it.

    Args:
        height: of the image, px.
        width: of the image, px.
    """

    def __init__(self, height: int, width: int) -> None:
        self._maps = [np.zeros((height, width), dtype=np.uint8)]
        self._counts = [0]

    def add(self, crop: NDArray[np.bool_], x0: int, y0: int) -> tuple[int, int]:
        """Paints a mask known inside a crop [h, w] whose upper left pixel is (x0, y0).

        Returns:
            The instance's layer and its value there.
        """
        h, w = crop.shape
        window = (slice(y0, y0 + h), slice(x0, x0 + w))
        crop = np.ascontiguousarray(crop)  # rasterisers give columns, maps have rows
        for number, layer in enumerate(self._maps):
            if self._counts[number] < MAX_VALUE and not np.logical_and(layer[window], crop).any():
                break
        else:
            number = len(self._maps)
            self._maps.append(np.zeros_like(self._maps[0]))
            self._counts.append(0)
        self._counts[number] += 1
        value = self._counts[number]
        # the map is 0 wherever the crop is not: arithmetic on all of the window is quicker than choosing pixels
        self._maps[number][window] |= crop.view(np.uint8) * np.uint8(value)
        return number, value

    @property
    def layers(self) -> NDArray[np.uint8]:
        """uint8 [L, H, W], L at least 1."""
        return np.stack(self._maps)


def masks_to_layers(masks: Tensor) -> tuple[Tensor, Tensor]:
    """Dense masks [N, H, W] (bool, or non-zero is foreground), as torchvision's targets hold them, to label maps.

    Returns:
        ``layers`` uint8 [L, H, W] and ``slots`` int64 [N, 2].
    """
    import torch

    dense = masks.to(torch.bool).cpu().numpy()
    painter = LayerPainter(*dense.shape[1:])
    slots = [painter.add(mask, 0, 0) for mask in dense]
    return torch.from_numpy(painter.layers), torch.tensor(slots, dtype=torch.int64).reshape(-1, 2)


def layers_to_masks(layers: Tensor, slots: Tensor) -> Tensor:
    """Label maps [L, H, W] and slots [N, 2] to dense masks, bool [N, H, W]."""
    return layers[slots[:, 0]] == slots[:, 1, None, None].to(layers.dtype)


def boxes_and_areas_from_layers(
    layers: NDArray[np.uint8], slots: NDArray[np.int64]
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Reads every instance's box and area off the maps, in one pass over each.

    Returns:
        ``boxes`` float32 [N, 4], xyxy px where x2 and y2 are one past the last pixel (zeros for an instance without
        pixels), and ``areas`` int64 [N], px.
    """
    boxes = np.zeros((len(slots), 4), dtype=np.float32)
    areas = np.zeros(len(slots), dtype=np.int64)
    for number, layer in enumerate(layers):
        rows = np.flatnonzero(slots[:, 0] == number)
        if rows.size:
            found = _extents_and_areas(layer)[slots[rows, 1]]
            boxes[rows], areas[rows] = found[:, :4], found[:, 4]
    return boxes, areas


def _extents_and_areas(layer: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Box (xyxy) and area of every value of a map [H, W], int64 [256, 5]; zeros for values that are not there.

    Looks at runs of one value within a row instead of at pixels: there are a hundred times fewer.
    """
    table = np.zeros((MAX_VALUE + 1, 5), dtype=np.int64)
    width = layer.shape[1]
    pixels = layer.reshape(-1)
    begins = np.empty(layer.size, dtype=np.bool_)
    np.not_equal(pixels[1:], pixels[:-1], out=begins[1:])
    begins[::width] = True
    starts = begins.nonzero()[0]
    values = pixels[starts]
    lengths = np.empty_like(starts)
    np.subtract(starts[1:], starts[:-1], out=lengths[:-1])
    lengths[-1:] = layer.size - starts[-1:]
    filled = values.nonzero()[0]
    if not filled.size:
        return table
    by_value = filled[values[filled].argsort(kind="stable")]  # top to bottom within a value
    values, lengths = values[by_value], lengths[by_value]
    starts = starts[by_value]
    y = starts // width
    x = starts - y * width
    changes = (values[1:] != values[:-1]).nonzero()[0]
    firsts = np.concatenate([[0], changes + 1])
    lasts = np.concatenate([changes, [len(values) - 1]])
    table[values[firsts]] = np.stack(
        [
            np.minimum.reduceat(x, firsts),
            y[firsts],
            np.maximum.reduceat(x + lengths, firsts),
            y[lasts] + 1,
            np.add.reduceat(lengths, firsts),
        ],
        axis=1,
    )
    return table
