import cv2
import numpy as np
import pytest
from inference_data import make_instances

from finemask.inference.content.video_frames import Frame
from finemask.inference.outputs import video_file
from finemask.inference.outputs.writers import open_writers


def write(folder, shape, numbers=(1, 2, 3, 4), video="sub/clip.avi", fps=12.5):
    (writer,) = open_writers(["video"], folder)
    for number in numbers:
        masks = np.zeros((1, *shape), bool)
        masks[0, 10:60, 10 * number : 10 * number + 50] = True
        image = np.full((*shape, 3), 120, np.uint8)
        found = make_instances(masks, [1], image=image, name=f"sub/clip/clip_{number:06d}")
        object.__setattr__(found, "frame", Frame(video, number, (number - 1) / 25, fps))
        writer.add(found)
    writer.add(make_instances(masks, [1], image=image, name="photo.png"))  # no frame of a video
    writer.finish([])
    return found


def read(path):
    capture = cv2.VideoCapture(str(path))
    fps, frames = capture.get(cv2.CAP_PROP_FPS), []
    while (got := capture.read())[0]:
        frames.append(got[1][:, :, ::-1])
    capture.release()
    return fps, frames


@pytest.mark.parametrize("shape", [(480, 640), (401, 431)])
@pytest.mark.parametrize("encoder", ["h264", "vp8"])
def test_a_video_has_every_frame_as_it_was_drawn(tmp_path, monkeypatch, shape, encoder):
    if encoder == "h264":
        pytest.importorskip("av")
    else:
        monkeypatch.setattr(video_file, "_has_h264", lambda: False)
    last = write(tmp_path, shape)
    (path,) = (tmp_path / "video").rglob("*.*")
    assert path == tmp_path / "video" / "sub" / ("clip.mp4" if encoder == "h264" else "clip.webm")
    fps, frames = read(path)
    assert fps == pytest.approx(12.5, abs=0.01)
    assert len(frames) == 4
    assert frames[-1].shape == (shape[0] + shape[0] % 2, shape[1] + shape[1] % 2, 3)
    drawn = np.asarray(last.draw()).astype(int)
    assert np.abs(frames[-1][: shape[0], : shape[1]].astype(int) - drawn).mean() < 8  # it is compressed
    marks = ["av01", "hvc1", "hev1", "mp4v"]
    if encoder == "h264":
        assert b"avc1" in path.read_bytes()
        assert not any(mark.encode() in path.read_bytes() for mark in marks)


def test_each_video_of_the_source_is_one_and_a_second_run_replaces_it(tmp_path, monkeypatch):
    monkeypatch.setattr(video_file, "_has_h264", lambda: False)
    write(tmp_path, (400, 400))
    write(tmp_path, (400, 400), numbers=(1, 2))
    write(tmp_path, (400, 400), video="other.mp4")
    lengths = {path.name: len(read(path)[1]) for path in (tmp_path / "video").rglob("*.webm")}
    assert lengths == {"clip.webm": 2, "other.webm": 4}
    assert not list((tmp_path / "video").rglob(".*"))


def test_the_codec_that_is_absent_is_said(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(video_file, "_has_h264", lambda: False)
    write(tmp_path, (400, 400))
    assert "pip install 'finemask[video]' for MP4 (H.264)" in caplog.text
