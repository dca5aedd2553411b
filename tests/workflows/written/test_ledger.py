"""No old masks among the new, and nothing of anybody's is deleted."""

import json
import os
import shutil

import numpy as np
import pytest
from inference_data import ColourModel, colour_header, rectangles
from PIL import Image

from finemask import cli
from finemask.inference.predictor import Predictor
from finemask.workflows import predict_images as verb
from finemask.workflows.written.ledger import FOLDERS, LEDGER

TWO, ONE = rectangles(red=(5, 6, 25, 20), green=(30, 10, 50, 36)), rectangles(red=(5, 6, 25, 20))


@pytest.fixture
def photos(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(verb, "load", lambda path, device, trust: Predictor(ColourModel(), colour_header()))
    (tmp_path / "photos" / "sub").mkdir(parents=True)
    for name, image in (("a.png", TWO), ("sub/b.png", ONE), ("sub.png", TWO)):
        Image.fromarray(image).save(tmp_path / "photos" / name)
    return tmp_path / "photos"


def predict(*words, source="photos"):
    save = f"save=[{','.join(sorted(FOLDERS))},overlay,coco,csv]"
    return cli.main(["predict", "model=m", f"source={source}", "output=out", save, *words])


def files(folder) -> list[str]:
    paths = (path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    return sorted(path for path in paths if not path.startswith(LEDGER))


def masks(folder) -> dict[str, int]:
    return {name: int((np.asarray(Image.open(folder / name)) > 0).sum()) for name in files(folder)}


def test_a_second_run_leaves_what_a_first_run_in_an_empty_folder_would(photos):
    out = photos.parent / "out"
    assert predict("threshold=0") == 0
    before = files(out)
    assert "masks/sub/0001_red-fig.png" in before
    assert "masks/sub/b/0001_red-fig.png" in before
    assert predict("threshold=0.7") == 0  # the green ones go
    assert masks(out / "masks") == {f"{name}/0001_red-fig.png": 280 for name in ("a", "sub", "sub/b")}
    again = files(out)
    assert len(again) == len(before) - 4  # two masks, two crops
    out.rename(photos.parent / "kept")
    assert predict("threshold=0.7") == 0
    assert files(out) == again
    assert predict("threshold=1") == 0
    assert masks(out / "masks") == {}
    assert not (out / "masks" / "a").exists()


def test_more_images_may_come(photos):
    assert predict(source="photos/a.png") == 0
    assert predict("threshold=0.7") == 0
    assert len(masks(photos.parent / "out" / "masks")) == 3


@pytest.mark.parametrize("folder", sorted(FOLDERS))
def test_results_of_other_images_are_not_mixed_and_not_deleted(photos, folder, capsys):
    out = photos.parent / "out"
    assert predict(f"save={folder}") == 0
    before = files(out)
    assert predict(f"save={folder}", source="photos/a.png") == 2
    error = capsys.readouterr().err
    assert f"out/{folder}: this folder holds results of images that are not in the source, such as s" in error
    assert "another output=" in error
    assert files(out) == before
    assert (
        predict("save=[overlay,coco]", source="photos/a.png") == 0
    )  # these say for themselves which image they are of
    assert set(before) < set(files(out))


def test_what_predict_did_not_write_is_refused_and_kept(photos, capsys):
    out = photos.parent / "out"
    (out / "masks" / "a").mkdir(parents=True)
    (out / "masks" / "a" / "0007_mine.png").write_bytes(b"mine")
    (out / "masks" / ".DS_Store").write_bytes(b"")
    assert predict() == 2
    error = capsys.readouterr().err
    assert "out/masks: this folder holds 1 file not known to be of an earlier run, such as 0007_mine.png" in error
    assert files(out) == ["masks/.DS_Store", "masks/a/0007_mine.png"]
    (out / "masks" / "a" / "0007_mine.png").unlink()
    assert predict() == 0
    shutil.rmtree(out / LEDGER)
    assert predict() == 2


def test_what_was_corrected_by_hand_is_kept(photos, capsys):
    path = photos.parent / "out" / "labelme" / "a.json"
    assert predict() == 0
    content = json.loads(path.read_text())
    content["shapes"] = []
    path.write_text(json.dumps(content))
    assert predict() == 2
    assert (
        "out/labelme: this folder holds 1 file changed after being written, such as a.json" in capsys.readouterr().err
    )
    assert json.loads(path.read_text())["shapes"] == []
    os.utime(path, (1, 1))
    assert predict("save=masks") == 0  # another folder


@pytest.mark.parametrize("after", range(8))
def test_a_run_that_was_interrupted_can_be_run_again(photos, monkeypatch, after):
    out = photos.parent / "out"
    assert predict("threshold=0") == 0
    expected = files(out)
    opened = iter(range(1000))
    save = Image.Image.save

    def interrupted(self, *args, **kwargs):
        if next(opened) == after:
            raise KeyboardInterrupt
        return save(self, *args, **kwargs)

    with monkeypatch.context() as patched:
        patched.setattr(Image.Image, "save", interrupted)
        assert predict("threshold=0") == 130
    assert predict("threshold=0") == 0
    assert files(out) == expected


def test_frames_of_a_video_are_its_own(photos, monkeypatch):
    import cv2

    writer = cv2.VideoWriter(str(photos / "clip.avi"), cv2.VideoWriter_fourcc(*"MJPG"), 5, (64, 48))
    for _ in range(3):
        writer.write(np.zeros((48, 64, 3), np.uint8))
    writer.release()
    assert predict("save=label_map", source="photos/clip.avi") == 0
    assert predict("save=label_map", source="photos/clip.avi") == 0
    assert predict("save=label_map", source="photos/a.png") == 2
    assert len(files(photos.parent / "out" / "label_map")) == 3
