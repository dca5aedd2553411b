"""Which image is meant, when one program wrote a folder before its name and another did not."""

import unicodedata

import pytest

from finemask.coco.image_names import match_file_names
from finemask.errors import DataError


@pytest.mark.parametrize(
    ("names", "known", "expected"),
    [
        (["a.png", "b.png"], ["b.png", "a.png"], [1, 0]),
        (["/data/val/a.png"], ["train/a.png", "val/a.png"], [1]),  # the longest end
        (["/data/val/a.png"], ["a.png", "val/a.png"], [1]),
        (["/data/a.png"], ["a.png", "val/a.png"], [0]),
        (["a.png"], ["images/a.png"], [0]),  # below a folder that the other leaves out
        (["val/a.png"], ["images\\val\\a.png"], [0]),
        (["train/a.png"], ["val/a.png"], [None]),  # another image of the same name
        (["a.jpg", "A.png", "aa.png"], ["a.png"], [None, None, None]),
        (["/train/a.png", "/val/a.png"], ["val/a.png", "c.png"], [None, 0]),
        ([unicodedata.normalize("NFD", "ä.png")], [unicodedata.normalize("NFC", "ä.png")], [0]),
        (["a.png"], ["", "./a.png"], [1]),
        ([], ["a.png"], []),
    ],
)
def test_names_are_matched_by_their_ends(names, known, expected):
    assert match_file_names(names, known) == expected


@pytest.mark.parametrize("order", [1, -1])
def test_the_better_of_two_names_takes_the_file(order):
    found = match_file_names(["a.png", "/x/val/a.png"][::order], ["val/a.png"])
    assert found == [None, 0][::order]


def test_what_is_not_clear_is_refused():
    with pytest.raises(DataError, match=r"a\.png may be any of train/a\.png, val/a\.png"):
        match_file_names(["a.png"], ["train/a.png", "val/a.png"])
    with pytest.raises(DataError, match=r"train/a\.png and val/a\.png both may be a\.png"):
        match_file_names(["train/a.png", "val/a.png"], ["a.png"])
