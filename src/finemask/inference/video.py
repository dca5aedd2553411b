"""Frames of a video, through OpenCV's FFmpeg."""

from collections.abc import Iterator
from itertools import count
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from finemask.errors import DataError

VIDEO_SUFFIXES = frozenset({".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".webm", ".wmv"})

_COUNTED = frozenset({".avi", ".m4v", ".mov", ".mp4"})  # these say how many frames they hold
_SHARE = 0.05  # by which a count made of duration and rate may be off, or by a second
_GIVE_UP = 10_000  # unreadable frames in a row: the count is as damaged as the rest


def count_frames(path: Path) -> int:
    """Frames that a video says it has; 0 if it cannot be opened. Only good for showing progress."""
    capture = cv2.VideoCapture(str(path))
    try:
        return max(0, int(capture.get(cv2.CAP_PROP_FRAME_COUNT))) if capture.isOpened() else 0
    finally:
        capture.release()


def read_frames(path: Path) -> Iterator[tuple[int, NDArray[np.uint8]]]:
    """Frames in order, with their numbers from 1 on: uint8 [H, W, 3] RGB. Damaged ones are passed over.

    Raises:
        DataError: the video is missing, or not one frame of it can be read; after its last frame, if there are fewer
            than it says.
    """
    if not path.is_file():
        raise DataError("no such file", where=path, remedy="Check the path.")
    capture = cv2.VideoCapture(str(path))
    try:
        promised = max(0, int(capture.get(cv2.CAP_PROP_FRAME_COUNT))) if capture.isOpened() else 0
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
    finally:
        capture.release()
