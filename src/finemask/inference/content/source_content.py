"""Pixels that are no image file: addresses, frames of videos, arrays, tensors and open files in memory."""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any, BinaryIO

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from finemask.errors import DataError
from finemask.inference.content.web_fetch import fetch

VIDEO_SUFFIXES = frozenset({".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".webm", ".wmv"})
_COUNTED = frozenset({".avi", ".m4v", ".mov", ".mp4"})  # these say how many frames they hold
_SHARE = 0.05  # by which a count made of duration and rate may be off, or by a second
_GIVE_UP = 10_000  # unreadable frames in a row: the count is as damaged as the rest


def for_decoder(content: Any, allow_private_urls: bool) -> bytes | Image.Image | NDArray[Any]:
    """Anything but a path as ``decode_image`` takes it: an address's or a file's content, arrays of 0..255.

    Args:
        content: of an ``Item``.
        allow_private_urls: see ``finemask.inference.content.web_fetch.fetch``.
    """
    if isinstance(content, str):
        return fetch(content, allow_private=allow_private_urls)
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


@contextmanager
def _opened(path: Path) -> Iterator[tuple[cv2.VideoCapture, int]]:
    """A video, and the frames that it says it has; 0 if it cannot be opened."""
    capture = cv2.VideoCapture(str(path))
    try:
        yield capture, max(0, int(capture.get(cv2.CAP_PROP_FRAME_COUNT))) if capture.isOpened() else 0
    finally:
        capture.release()


def count_frames(path: Path) -> int:
    """Frames that a video says it has; 0 if it cannot be opened. Only good for showing progress."""
    with _opened(path) as (_, frames):
        return frames


def read_frames(path: Path) -> Iterator[tuple[int, NDArray[np.uint8]]]:
    """Frames in order, with their numbers from 1 on: uint8 [H, W, 3] RGB. Damaged ones are passed over.

    Raises:
        DataError: the video is missing, or not one frame of it can be read; after its last frame, if there are fewer
            than it says.
    """
    if not path.is_file():
        raise DataError("no such file", where=path, remedy="Check the path.")
    with _opened(path) as (capture, promised):
        read, failed_in_a_row = 0, 0
        for number in count(1):
            is_read, frame = capture.read()
            if is_read:
                read, failed_in_a_row = read + 1, 0
                yield number, np.ascontiguousarray(frame[:, :, ::-1], dtype=np.uint8)  # OpenCV gives BGR
                continue
            failed_in_a_row += 1
            if number >= promised or failed_in_a_row >= _GIVE_UP:
                break
        if not read:
            raise DataError(
                "not a video that OpenCV can read",
                where=path,
                remedy="Convert it, for example with: ffmpeg -i INPUT -c:v libx264 output.mp4",
            )
        # Where there is no count in the file, OpenCV makes one of duration and rate, and sound may last longer.
        exact = path.suffix.lower() in _COUNTED
        slack = 0 if exact else max(capture.get(cv2.CAP_PROP_FPS), _SHARE * promised)
        if promised - read > slack:
            raise DataError(
                f"{promised - read:,} of {promised:,} frames could not be read: the video is cut off or damaged",
                where=path,
                remedy="Copy it again; or repair it with: ffmpeg -i INPUT -c:v libx264 output.mp4",
            )
