"""Frames of a video, through OpenCV's FFmpeg."""

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from finemask.errors import DataError

VIDEO_SUFFIXES = frozenset({".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".webm", ".wmv"})


def count_frames(path: Path) -> int:
    """Frames that a video says it has; 0 if it cannot be opened. Only good for showing progress."""
    capture = cv2.VideoCapture(str(path))
    try:
        return max(0, int(capture.get(cv2.CAP_PROP_FRAME_COUNT))) if capture.isOpened() else 0
    finally:
        capture.release()


def read_frames(path: Path) -> Iterator[NDArray[np.uint8]]:
    """Frames in order, uint8 [H, W, 3] RGB.

    Raises:
        DataError: the video is missing, or not one frame of it can be read.
    """
    if not path.is_file():
        raise DataError("no such file", where=path, remedy="Check the path.")
    capture = cv2.VideoCapture(str(path))
    try:
        frame = capture.read()[1] if capture.isOpened() else None
        if frame is None:
            raise DataError(
                "not a video that OpenCV can read",
                where=path,
                remedy="Convert it, for example with: ffmpeg -i INPUT -c:v libx264 output.mp4",
            )
        while frame is not None:
            yield np.ascontiguousarray(frame[:, :, ::-1], dtype=np.uint8)  # OpenCV gives BGR
            frame = capture.read()[1]
    finally:
        capture.release()
