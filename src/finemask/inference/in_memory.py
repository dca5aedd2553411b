"""Images that a program already has: arrays, tensors as torchvision has them, open files."""

from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from finemask.errors import DataError


def rgb_values(values: NDArray[Any] | Tensor) -> NDArray[Any]:
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


def content_of(file: BinaryIO) -> bytes:
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
