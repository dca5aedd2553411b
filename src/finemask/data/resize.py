"""A window of an image and of its label maps, brought to another size."""

import cv2
import numpy as np
from numpy.typing import NDArray


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
