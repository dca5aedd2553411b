"""Names that differ from their files, and names that lead out."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from finemask.coco.image_names import FileNames, check_images_exist
from finemask.errors import DataError
from finemask.ops.files.atomic_files import leaves_folder


@pytest.mark.parametrize(
    "name",
    ["../a.png", "..\\a.png", "a/..\\..\\b.png", "/a.png", "\\a.png", "C:a.png", "C:\\a.png", "\\\\host\\share\\a.png"],
)
def test_names_that_lead_out_on_any_system(name):
    assert leaves_folder(name)


@pytest.mark.parametrize("name", ["a.png", "a\\b.png", "a..png", "..a/b.png", "./a.png", "%2e%2e/a.png"])
def test_names_that_stay_inside(name):
    assert not leaves_folder(name)


@pytest.mark.parametrize(
    ("files", "name", "expected"),
    [
        (["a/b.jpg"], "A\\B.JPG", ("a/b.jpg", "backslashes and letter case")),
        (["a/B.png"], "a\\b.jpg", ("a/B.png", "backslashes, letter case and file extension")),
        (["a.jpg", "A.jpg"], "A.JPG", None),  # two files fit
        (["a.jpg", "b/a.jpg"], "./A.jpg", ("a.jpg", "letter case")),  # the nearest way of spelling it goes first
        (["a.png"], "a", ("a.png", "file extension")),
        (["frame.0001.png"], "frame.0002.png", None),
        (["a.jpg", "a.png"], "a.tif", None),
        (["a.png", "b.png", "b.jpg"], "a.jpg", None),  # one of the two b is a mask; so might a.png be
        (["a.json"], "a.jpg", None),
        (["train/a.jpg"], "a.jpg", ("train/a.jpg", "folder")),
        (["a.jpg"], "data/train/a.jpg", ("a.jpg", "folder")),
        (["val/a.jpg"], "train/a.jpg", None),  # another image of the same name
        (["a.jpg", "train/a.jpg"], "set/train/a.jpg", ("train/a.jpg", "folder")),  # shares more of the path
        (["train/a.jpg", "val/a.jpg"], "a.jpg", None),
        (["a.jpg"], "..\\images\\a.jpg", ("a.jpg", "backslashes and folder")),
        ([], "a.jpg", None),
    ],
)  # fmt: skip
def test_the_file_that_was_meant(files, name, expected):
    assert FileNames(files).meant_by(name) == expected


@given(st.lists(st.text("ab%2 /\\.é\u0301", min_size=1, max_size=8), max_size=5), st.text(max_size=12))
def test_what_was_meant_is_one_of_the_files(files, name):
    meant = FileNames(files).meant_by(name)
    assert meant is None or meant.file in files


def test_training_says_what_was_meant(tmp_path):
    (tmp_path / "my images" / "in").mkdir(parents=True)
    for name in ("in/a.jpg", "in/b.jpg"):
        (tmp_path / "my images" / name).touch()
    with pytest.raises(DataError) as raised:
        check_images_exist(
            tmp_path / "train.json", tmp_path / "my images", ["in\\a.jpg", "in\\b.jpg", "in\\c.jpg", "in/a.jpg"]
        )
    assert r"3 of 4 images are not in" in str(raised.value)
    assert (
        r"2 of them have files of another name there: 'in\\a.jpg' is 'in/a.jpg', which differs by backslashes"
        in str(raised.value)
    )
    assert f"images='{tmp_path}/my images'" in str(raised.value)  # quoted for the shell
    check_images_exist(tmp_path / "train.json", tmp_path / "my images", ["in/a.jpg", "in/b.jpg"])
