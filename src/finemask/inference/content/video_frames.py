"""Frames of videos and cameras: all, every so many, or so many a second; with their numbers and times."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from math import ceil
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from finemask.errors import ConfigError, DataError

VIDEO_SUFFIXES = frozenset({".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".webm", ".wmv"})
_COUNTED = frozenset({".avi", ".m4v", ".mov", ".mp4"})  # these say how many frames they hold
_SHARE = 0.05  # by which a count made of duration and rate may be off, or by a second
_GIVE_UP = 10_000  # unreadable frames in a row: the count is as damaged as the rest
_USUAL_FPS = 25.0  # of a video or a camera that does not say
_MOST_FPS = 1000.0  # what is above is a clock, not a rate
_SLACK_S = 1e-6


class Camera(NamedTuple):
    """A camera of this machine."""

    number: int


class Frame(NamedTuple):
    """A picture's place in a video.

    Args:
        video: name of the video.
        number: from 1 on, those left out counted.
        time_s: from its beginning.
        fps: of the frames that were chosen.
    """

    video: str
    number: int
    time_s: float
    fps: float


@dataclass(frozen=True, slots=True)
class FrameChoice:
    """Which frames of a video are taken.

    Args:
        stride: every so many, the first included.
        fps: so many a second at most; None: all.
        most: so many, the first ones; None: all. A camera has no other end.

    Raises:
        ConfigError: both a stride and a rate.
    """

    stride: int = 1
    fps: float | None = None
    most: int | None = None

    def __post_init__(self) -> None:
        if self.stride < 1 or (self.fps is not None and self.fps <= 0) or (self.most is not None and self.most < 1):
            raise ConfigError(
                f"frames cannot be chosen by stride={self.stride}, fps={self.fps}, max_frames={self.most}",
                remedy="Each is above 0.",
            )
        if self.stride > 1 and self.fps is not None:
            raise ConfigError(
                f"stride={self.stride} and fps={self.fps:g} both choose frames of videos", remedy="Give one of them."
            )

    def of(self, frames: int, fps: float) -> int:
        """How many frames are taken of so many."""
        chosen = ceil(frames / self.stride) if self.fps is None else min(frames, ceil(frames / fps * self.fps))
        return chosen if self.most is None else min(chosen, self.most)


ALL_FRAMES = FrameChoice()


def count_frames(path: Path, choice: FrameChoice = ALL_FRAMES) -> int:
    """Frames that will be taken of a video, by what it says; 0 if it cannot be opened. Only good for progress."""
    with _opened(path) as (capture, frames):
        return choice.of(frames, _rate(capture)) if frames else 0


def read_frames(
    source: Path | Camera, name: str, choice: FrameChoice = ALL_FRAMES
) -> Iterator[tuple[Frame, NDArray[np.uint8]]]:
    """Frames in order: uint8 [H, W, 3] RGB. Damaged ones are passed over.

    Args:
        source: a video's file, or a camera.
        name: of the video.
        choice: which frames.

    Raises:
        DataError: the video or camera is missing, or not one frame of it can be read; after its last frame, if there
            are fewer than it says.
    """
    if isinstance(source, Path) and not source.is_file():
        raise DataError("no such file", where=source, remedy="Check the path.")
    with _opened(source) as (capture, promised):
        is_camera = isinstance(source, Camera)
        fps = _rate(capture)
        chosen_fps = fps / choice.stride if choice.fps is None else min(fps, choice.fps)
        start = time.monotonic()
        read, taken, failed_in_a_row, next_s = 0, 0, 0, 0.0
        for number in count(1):
            is_read = capture.grab()
            seconds = time.monotonic() - start if is_camera else (number - 1) / fps
            on_time = seconds + _SLACK_S >= next_s
            is_wanted = on_time if choice.fps is not None else (number - 1) % choice.stride == 0
            frame = None
            if is_read and is_wanted:
                is_read, frame = capture.retrieve()
            if is_read:
                read, failed_in_a_row = read + 1, 0
                if is_wanted and frame is not None:
                    next_s = 0.0 if choice.fps is None else max(next_s + 1 / choice.fps, seconds)
                    taken += 1
                    # OpenCV gives BGR
                    yield Frame(name, number, seconds, chosen_fps), np.ascontiguousarray(frame[:, :, ::-1], np.uint8)
                    if taken == choice.most:
                        return
                continue
            failed_in_a_row += 1
            if number >= promised or failed_in_a_row >= _GIVE_UP:
                break
        if not read:
            raise _unopened(source)
        # Where there is no count in the file, OpenCV makes one of duration and rate, and sound may last longer.
        exact = isinstance(source, Path) and source.suffix.lower() in _COUNTED
        slack = 0 if exact else max(fps, _SHARE * promised)
        if promised - read > slack:
            raise DataError(
                f"{promised - read:,} of {promised:,} frames could not be read: the video is cut off or damaged",
                where=source,
                remedy="Copy it again; or repair it with: ffmpeg -i INPUT -c:v libx264 output.mp4",
            )


@contextmanager
def _opened(source: Path | Camera) -> Iterator[tuple[cv2.VideoCapture, int]]:
    """A video or camera, and the frames that it says it has; 0 if it cannot be opened."""
    capture = cv2.VideoCapture(source.number if isinstance(source, Camera) else str(source))
    try:
        frames = int(capture.get(cv2.CAP_PROP_FRAME_COUNT)) if capture.isOpened() else 0
        yield capture, 0 if isinstance(source, Camera) else max(0, frames)
    finally:
        capture.release()


def _rate(capture: cv2.VideoCapture) -> float:
    fps = capture.get(cv2.CAP_PROP_FPS)
    return fps if 0 < fps <= _MOST_FPS else _USUAL_FPS


def _unopened(source: Path | Camera) -> DataError:
    if isinstance(source, Camera):
        return DataError(
            "there is no such camera, or it gives no picture",
            where=f"camera {source.number}",
            remedy="source=0 is the first camera; another program may be using it.",
        )
    return DataError(
        "not a video that OpenCV can read",
        where=source,
        remedy="Convert it, for example with: ffmpeg -i INPUT -c:v libx264 output.mp4",
    )
