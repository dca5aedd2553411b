"""``finemask data convert`` as it is typed: what it prints, its exit codes, and that training takes the result."""

import pytest
from convert_data import hard_coco, write_image

from finemask.cli import main
from finemask.coco.index import CocoIndex
from finemask.config import compose


@pytest.fixture
def printed(capsys):
    def run(*words):
        code = main(["data", "convert", *words])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


def test_coco_to_yolo_and_back(tmp_path, printed) -> None:
    hard_coco(tmp_path / "in")
    code, out, _ = printed(f"source={tmp_path}/in", f"output={tmp_path}/yolo", "to=yolo")
    assert code == 0
    assert "Source: coco, recognised by annotations/train.json" in out
    assert "crowd regions left out, for which YOLO has no place: 6" in out
    assert "wrote " in out
    assert "preview.png: look at it" in out
    assert "finemask train" not in out  # not from YOLO
    code, out, _ = printed(f"source={tmp_path}/yolo", f"output={tmp_path}/back")
    assert code == 0
    assert f"Next: finemask train data.root={tmp_path}/back" in out
    cfg = compose("train", [f"data.root={tmp_path}/back", "model=tiny"])
    for name in (cfg.data.train, cfg.data.val):
        index = CocoIndex.read(tmp_path / "back" / name, tmp_path / "back/images")
        assert index.num_annotations == 12


def test_one_set_without_splits_names_the_command_that_splits_it(tmp_path, printed) -> None:
    write_image(tmp_path / "in/a.jpg", 20, 20)
    (tmp_path / "in/a.txt").write_text("0 0.1 0.1 0.9 0.1 0.9 0.9\n")
    code, out, _ = printed(f"source={tmp_path}/in", f"output={tmp_path}/out", "classes=[cat]")
    assert code == 0
    assert "The source has no splits. Next:" in out
    assert f"finemask data split annotations={tmp_path}/out/annotations/train.json" in out
    assert "cat" in out


@pytest.mark.parametrize(
    ("choice", "said"),
    [
        ("keep", "finemask trains masks: it refuses them"),
        ("rectangle", "Their rectangles are now masks"),
        ("drop", "were left out"),
    ],
)
def test_boxes_without_masks_are_a_clear_warning(tmp_path, printed, choice, said) -> None:
    write_image(tmp_path / "in/a.jpg", 20, 20)
    (tmp_path / "in/a.txt").write_text("0 0.5 0.5 0.5 0.5\n0 0.1 0.1 0.9 0.1 0.9 0.9\n")
    code, out, _ = printed(f"source={tmp_path}/in", f"output={tmp_path}/out", f"boxes={choice}")
    assert code == 0
    assert "1 of 2 objects is a box without an outline in the source" in out
    assert said in out
    assert ("finemask data split" in out) is (choice != "keep")


def test_errors_are_one_paragraph(tmp_path, printed) -> None:
    code, _, err = printed(f"source={tmp_path}/none", f"output={tmp_path}/out")
    assert code == 2
    assert "there is no such file or folder" in err
    write_image(tmp_path / "in/a.jpg", 4, 4)
    code, _, err = printed(f"source={tmp_path}/in", f"output={tmp_path}/out", "format=kitti")
    assert code == 2
    assert "It is auto, coco, yolo" in err
    assert not (tmp_path / "out").exists()


def test_help_lists_the_keys(printed) -> None:
    code, out, _ = printed("--help")
    assert code == 0
    for word in ("source", "mask_values", "finemask data convert source=export/ output=data/mine", "hard links"):
        assert word in out
