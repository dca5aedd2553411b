"""Bilinear resizing that reads no pixel that takes no part: every pixel of the result asks for its four neighbours.

A photograph of 12 megapixels at 320 px is a million of its pixels; all the others need not become numbers. On a GPU
images of several sizes become one batch in this way, in as many operations as one image.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from finemask.model.devices.gpu.crossing import send


def resize_batch(
    images: Sequence[Tensor], sizes: Sequence[tuple[int, int]], mean: Tensor, scale: Tensor, padded: tuple[int, int]
) -> Tensor:
    """Resized, normalised, padded with zeros, in as many operations for one image as for any number.

    The arithmetic is that of ``torch.nn.functional.interpolate`` with ``bilinear``, image by image.

    Args:
        images: uint8 [3, h, w] each; those in main memory cross in one block.
        sizes: height and width that each is brought to.
        mean: [3, 1, 1], on the 0..255 scale, on the device.
        scale: [3, 1, 1].
        padded: H and W of the batch.

    Returns:
        float32 [B, 3, H, W], in channels-last order.
    """
    pixels = send(torch.cat([image.permute(1, 2, 0).reshape(-1, 3) for image in images]), mean.device)
    shapes = np.array([image.shape[-2:] for image in images])
    starts = np.cumsum([0, *shapes.prod(1)])[:-1]
    resized = np.array(sizes)
    lines, down, has_line = _neighbours(shapes[:, 0], resized[:, 0], padded[0])
    columns, across, has_column = _neighbours(shapes[:, 1], resized[:, 1], padded[1])
    batch, (height, width) = len(images), padded
    begins = starts[:, None] + lines * shapes[:, 1:]
    places = send(np.concatenate([begins, columns], axis=2), mean.device)  # [2, B, H + W]
    numbers = np.concatenate([down, has_line, across, has_column], axis=1, dtype=np.float32)
    shares, is_line, to_right, is_column = send(numbers, mean.device).split([height, height, width, width], dim=1)
    # The four neighbours together: upper and lower line, left and right column.
    four = places[:, None, :, :height, None] + places[None, :, :, None, height:]
    left, right = pixels[four].float().unbind(1)
    upper, lower = torch.lerp(left, right, to_right[:, None, :, None])
    found = torch.lerp(upper, lower, shares[:, :, None, None])
    is_there = (is_line[:, :, None] * is_column[:, None]).reshape(batch, height, width, 1)
    normalised: Tensor = (found - mean[:, 0, 0]) * scale[:, 0, 0] * is_there
    return normalised.permute(0, 3, 1, 2)


def looks_at_few(shape: Sequence[int], size: tuple[int, int]) -> bool:
    """Whether gathering four neighbours of every pixel of ``size`` is quicker than reading a whole image [..., H, W].

    It is from a quarter of the side on, on the processors where it was measured.
    """
    return 16 * size[0] * size[1] <= shape[-2] * shape[-1]


def shrink(images: Tensor, size: tuple[int, int]) -> Tensor:
    """As ``torch.nn.functional.interpolate`` with ``bilinear``, of whole numbers, and much quicker where it shrinks.

    Args:
        images: uint8 [B, 3, H, W].
        size: h and w of the result.

    Returns:
        float32 [B, 3, h, w], on the scale of ``images``, in channels-last order.
    """
    (lines, down, _), (columns, across, _) = (
        _neighbours(np.array([length]), np.array([resized]), resized)
        for length, resized in zip(images.shape[-2:], size, strict=True)
    )
    device = images.device
    pixels = images.permute(0, 2, 3, 1)
    pixels = pixels.index_select(1, send(lines.reshape(-1), device)).index_select(2, send(columns.reshape(-1), device))
    left, right = pixels.float().split(size[1], dim=2)  # each of upper and lower lines
    upper, lower = torch.lerp(left, right, send(across[0], device)[:, None]).split(size[0], dim=1)
    shrunk: Tensor = torch.lerp(upper, lower, send(down[0], device)[:, None, None])
    return shrunk.permute(0, 3, 1, 2)


def _neighbours(
    lengths: NDArray[np.int64], resized: NDArray[np.int64], padded: int
) -> tuple[NDArray[np.int64], NDArray[np.float32], NDArray[np.bool_]]:
    """Along one axis: both neighbours [2, B, P], how far towards the second [B, P], and whether there is a pixel."""
    place = np.arange(padded)
    shrinking = (lengths.astype(np.float32) / resized.astype(np.float32))[:, None]
    position = (shrinking * (place.astype(np.float32) + np.float32(0.5)) - np.float32(0.5)).clip(min=0)
    last = (lengths - 1)[:, None]
    first = np.minimum(position.astype(np.int64), last)
    share = np.where(first < last, position - first, 0).astype(np.float32)
    return np.stack([first, np.minimum(first + 1, last)]), share, place < resized[:, None]
