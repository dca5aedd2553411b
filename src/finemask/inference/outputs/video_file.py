"""A video of drawn frames, in what browsers play: H.264 with PyAV, else VP8 by OpenCV."""

import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from fractions import Fraction
from pathlib import Path, PurePosixPath
from tempfile import NamedTemporaryFile
from typing import Any, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from finemask.errors import FinemaskError
from finemask.inference.content.video_frames import VIDEO_SUFFIXES
from finemask.inference.instances import Instances
from finemask.types import Category

log = logging.getLogger(__name__)

_MOST_OFF = 1001  # largest denominator of a rate: that of 30000/1001


class Encoder(Protocol):
    """Takes the frames of a video."""

    def add(self, frame: NDArray[np.uint8]) -> None:
        """Takes one more, uint8 [H, W, 3] RGB with even sides."""

    def close(self) -> None:
        """Writes what is still to be written."""


class VideoFiles:
    """``FOLDER/NAME.mp4`` (or ``.webm``): one video for each video of the source, of the frames as they were drawn.

    Args:
        folder: of the videos.
        stem: of a video's name, without what its file is to have for a suffix.
        draw: a frame with its instances.
    """

    def __init__(self, folder: Path, stem: Callable[[str], str], draw: Callable[[Instances], Image.Image]) -> None:
        self._folder, self._stem, self._draw = folder, stem, draw
        self._video: str | None = None
        self._encoder: Encoder | None = None
        self._temporary, self._target = Path(), Path()
        self._size = (0, 0)

    @property
    def gathered(self) -> list[Path]:
        """None: each video is written as its frames come."""
        return []

    def add(self, instances: Instances) -> list[Path]:
        """Draws one frame, the next of its video; an image that is none has no place in one."""
        if instances.frame is None:
            return []
        picture = self._draw(instances)
        if instances.frame.video != self._video:
            self._close()
            self._video = instances.frame.video
            self._size = (picture.width + picture.width % 2, picture.height + picture.height % 2)
            self._open(self._stem(instances.frame.video), instances.frame.fps)
        if picture.size != self._size:
            picture = _fitted(picture, self._size)
        assert self._encoder is not None
        self._encoder.add(np.asarray(picture))
        return []

    def finish(self, categories: Sequence[Category]) -> list[Path]:
        """Closes the last video; says so if there was none."""
        self._close()
        if self._video is None:
            log.warning("There is no video in the source, so save=video has written none")
            return []
        return [self._folder]

    def _open(self, stem: str, fps: float) -> None:
        suffix = ".mp4" if _has_h264() else ".webm"
        name = PurePosixPath(stem)
        own = name.stem if name.suffix.lower() in VIDEO_SUFFIXES else name.name
        self._target = self._folder / name.with_name(f"{own}{suffix}")
        self._target.parent.mkdir(parents=True, exist_ok=True)
        with NamedTemporaryFile(prefix=".", suffix=suffix, dir=self._target.parent, delete=False) as file:
            self._temporary = Path(file.name)
        encoder = H264 if suffix == ".mp4" else Vp8
        self._encoder = encoder(self._temporary, self._size, fps)

    def _close(self) -> None:
        """Gives the video its name: it is whole now, or as long as the run went."""
        if self._encoder is not None:
            encoder, self._encoder = self._encoder, None
            try:
                encoder.close()
                self._temporary.chmod(0o644)
                self._temporary.replace(self._target)
            finally:
                self._temporary.unlink(missing_ok=True)


class H264:
    """H.264 in MP4 by PyAV: what every browser plays.

    Args:
        path: to write to.
        size: width and height, even.
        fps: frames a second.
    """

    def __init__(self, path: Path, size: tuple[int, int], fps: float) -> None:
        import av

        self._container: Any = av.open(str(path), "w", options={"movflags": "faststart"})
        self._stream: Any = self._container.add_stream("libx264", Fraction(fps).limit_denominator(_MOST_OFF))
        self._stream.width, self._stream.height = size
        self._stream.pix_fmt = "yuv420p"
        self._stream.options = {"crf": "20", "preset": "veryfast"}
        self._frame_of = av.VideoFrame.from_ndarray

    def add(self, frame: NDArray[np.uint8]) -> None:
        """See ``Encoder``."""
        self._container.mux(self._stream.encode(self._frame_of(np.ascontiguousarray(frame), format="rgb24")))

    def close(self) -> None:
        """See ``Encoder``."""
        self._container.mux(self._stream.encode())
        self._container.close()


class Vp8:
    """VP8 in WebM by OpenCV: for browsers, where PyAV is not installed.

    Args:
        path: to write to.
        size: width and height.
        fps: frames a second.

    Raises:
        FinemaskError: this OpenCV cannot write it.
    """

    def __init__(self, path: Path, size: tuple[int, int], fps: float) -> None:
        self._writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"VP80"), fps, size)
        if not self._writer.isOpened():
            with suppress(OSError):
                path.unlink()
            raise FinemaskError(
                "this OpenCV has no encoder of videos for browsers (VP8)",
                remedy="Install PyAV, which writes H.264: pip install 'finemask[video]'",
            )
        log.warning("Videos are written as WebM (VP8): pip install 'finemask[video]' for MP4 (H.264)")

    def add(self, frame: NDArray[np.uint8]) -> None:
        """See ``Encoder``."""
        self._writer.write(np.ascontiguousarray(frame[:, :, ::-1]))

    def close(self) -> None:
        """See ``Encoder``."""
        self._writer.release()


def _has_h264() -> bool:
    try:
        import av
    except ImportError:
        return False
    return "libx264" in av.codecs_available


def _fitted(picture: Image.Image, size: tuple[int, int]) -> Image.Image:
    """On the size of the video, whose sides are even: the last row and column may be twice there."""
    width, height = size
    pixels = np.asarray(picture)[:height, :width]
    below, beside = height - pixels.shape[0], width - pixels.shape[1]
    return Image.fromarray(np.pad(pixels, ((0, below), (0, beside), (0, 0)), mode="edge"))
