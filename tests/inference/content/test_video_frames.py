import cv2
import numpy as np
import pytest

from finemask.errors import ConfigError, DataError
from finemask.inference.content.video_frames import Camera, FrameChoice, count_frames, read_frames
from finemask.inference.sources import list_items


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """50 frames at 25 a second, each as bright as four times its number."""
    path = tmp_path_factory.mktemp("clip") / "clip.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 25, (64, 48))
    for number in range(1, 51):
        writer.write(np.full((48, 64, 3), 4 * number, np.uint8))
    writer.release()
    return path


@pytest.mark.parametrize(
    ("choice", "numbers", "fps"),
    [
        (FrameChoice(), list(range(1, 51)), 25),
        (FrameChoice(stride=20), [1, 21, 41], 1.25),
        (FrameChoice(fps=10), [1, 4, 6, 9, 11, 14, 16, 19, 21, 24, 26, 29, 31, 34, 36, 39, 41, 44, 46, 49], 10),
        (FrameChoice(fps=100), list(range(1, 51)), 25),
        (FrameChoice(stride=7, most=3), [1, 8, 15], 25 / 7),
    ],
)
def test_frames_are_chosen_by_stride_by_rate_and_by_number(clip, choice, numbers, fps):
    """At 10 a second: the first frame at or after each tenth, frames being 0.04 s apart."""
    found = list(read_frames(clip, "clip.avi", choice))
    assert [frame.number for frame, _ in found] == numbers
    assert [frame.time_s for frame, _ in found] == pytest.approx([(number - 1) / 25 for number in numbers])
    assert [frame.fps for frame, _ in found] == pytest.approx([fps] * len(numbers))
    for frame, image in found:
        assert abs(float(image.mean()) - 4 * frame.number) < 3  # it is that frame
    assert count_frames(clip, choice) == len(numbers)


@pytest.mark.parametrize("given", [{"stride": 2, "fps": 5.0}, {"stride": 0}, {"fps": 0.0}, {"most": 0}])
def test_choices_that_cannot_be(given):
    with pytest.raises(ConfigError):
        FrameChoice(**given)


def test_a_number_is_a_camera_unless_a_file_is_called_so(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (item,) = list_items("7")
    assert (item.content, item.name, item.is_video, item.frames) == (Camera(7), "camera_7", True, "camera_7/camera_7_")
    (tmp_path / "7").write_bytes(b"")
    assert list_items("7")[0].is_video is False


def test_a_camera_that_is_not_there_is_said():
    with pytest.raises(DataError, match="no such camera") as caught:
        list(read_frames(Camera(97), "camera_97"))
    assert caught.value.where == "camera 97"
