"""Pixels that are no image file: addresses, arrays, tensors and open files in memory."""

from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from finemask.errors import DataError
from finemask.inference.content.remote_files import is_remote, read_remote
from finemask.inference.content.web_fetch import fetch


def for_decoder(content: Any, allow_private_urls: bool) -> bytes | Image.Image | NDArray[Any]:
    """Anything but a path as ``decode_image`` takes it: an address's or a file's content, arrays of 0..255.

    Args:
        content: of an ``Item``.
        allow_private_urls: see ``finemask.inference.content.web_fetch.fetch``.
    """
    if isinstance(content, str):
        return read_remote(content) if is_remote(content) else fetch(content, allow_private=allow_private_urls)
    if isinstance(content, np.ndarray | Tensor):
        return _rgb_values(content)
    return content if isinstance(content, bytes | Image.Image) else _content_of(content)


def _rgb_values(values: NDArray[Any] | Tensor) -> NDArray[Any]:
    """Values as uint8, channels last; a float image of 0..1 takes 0..255.

    Raises:
        DataError: a tensor with channels elsewhere than torchvision has them, or floats beyond 0..1.
    """
    if isinstance(values, Tensor):
        shape = list(values.shape)
        if len(shape) not in (2, 3) or (len(shape) == 3 and shape[0] not in (1, 3, 4)):
            raise DataError(
                f"an image tensor must be [3, H, W], or grey [1, H, W] or [H, W]; this is {shape}",
                remedy="Give the images of a batch as a list, list(batch); bring channels to the front with "
                ".permute(2, 0, 1).",
            )
        values = (values.permute(1, 2, 0) if len(shape) == 3 else values).detach().cpu()
        values = (values.float() if values.is_floating_point() else values).numpy()
    array: NDArray[Any] = values
    if not np.issubdtype(array.dtype, np.floating) or not array.size:
        return array
    if not (array.min() >= 0 and array.max() <= 1):  # NaN fails both
        raise DataError(
            f"floating-point values must be 0 to 1, these are {array.min():g} to {array.max():g}",
            remedy="Give the image before it is normalised, as uint8 of 0 to 255 or floats of 0 to 1.",
        )
    scaled: NDArray[Any] = np.rint(array * 255).astype(np.uint8)
    return scaled


def _content_of(file: BinaryIO) -> bytes:
    """All bytes of an open file, from its beginning where it can be rewound, as Pillow reads it.

    Raises:
        DataError: it was opened as text.
    """
    if file.seekable():
        file.seek(0)
    content: object = file.read()
    if not isinstance(content, bytes):
        raise DataError("the file was opened as text", remedy="Open it with 'rb'.")
    return content
