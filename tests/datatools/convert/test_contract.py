"""Every format that is written: COCO -> format -> COCO gives the same classes and pixels back."""

import json

import pytest
from convert_data import CATEGORIES, boundary_loss_px, hard_coco, read_back

from finemask.datatools.convert.conversion import READERS, WRITERS, convert, detect_format
from finemask.datatools.convert.source_files import Source

WITHOUT_CROWDS = {"yolo"}


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    return hard_coco(tmp_path_factory.mktemp("hard"))


@pytest.fixture(scope="module", params=WRITERS)
def there_and_back(request, original, tmp_path_factory):
    """Name of the format, folder in it, folder of COCO made of that."""
    folder = tmp_path_factory.mktemp(request.param)
    convert(original, folder / "there", to=request.param, preview=False)
    convert(folder / "there", folder / "back", preview=False)
    return request.param, folder / "there", folder / "back"


def test_every_written_format_is_recognised(there_and_back) -> None:
    name, there, _ = there_and_back
    assert detect_format(Source(there))[0] == name
    assert name in READERS


@pytest.mark.parametrize("split", ["train", "val"])
def test_categories_come_back_the_same(there_and_back, split) -> None:
    document = json.loads((there_and_back[2] / "annotations" / f"{split}.json").read_text())
    assert document["categories"] == CATEGORIES


@pytest.mark.parametrize("split", ["train", "val"])
def test_masks_come_back_to_the_pixel(original, there_and_back, split) -> None:
    name, _, back = there_and_back
    before, after = read_back(original, split), read_back(back, split)
    assert [key.split("/")[-1] for key in sorted(before)] == [key.split("/")[-1] for key in sorted(after)]
    compared = 0
    for key, instances in before.items():
        kept = [item for item in instances if not (item[2] and name in WITHOUT_CROWDS)]
        found = next(value for other, value in after.items() if other.endswith(key.removeprefix(f"{split}/")))
        assert [(item[0], item[2]) for item in found] == [(item[0], item[2]) for item in kept]
        for (_, mask, _, _), (_, other, _, annotation) in zip(kept, found, strict=True):
            assert (mask == other).all()
            assert annotation["area"] == mask.sum()
            compared += 1
    assert compared >= 12


@pytest.mark.parametrize("tolerance_px", [0.5, 1.0])
@pytest.mark.parametrize("to", ["yolo", "labelme"])
def test_thinned_outlines_stay_within_the_tolerance(original, tmp_path, to, tolerance_px) -> None:
    convert(original, tmp_path / "there", to=to, tolerance_px=tolerance_px, preview=False)
    convert(tmp_path / "there", tmp_path / "back", preview=False)
    before, after = read_back(original), read_back(tmp_path / "back")
    worst = 0.0
    for key, instances in before.items():
        found = next(value for other, value in after.items() if other.endswith(key.removeprefix("train/")))
        kept = [item for item in instances if not (item[2] and to in WITHOUT_CROWDS)]
        for (_, mask, _, _), (_, other, _, _) in zip(kept, found, strict=True):
            worst = max(worst, boundary_loss_px(mask, other))
    assert worst <= tolerance_px + 0.2  # pycocotools rounds to fifths of a px


def test_a_second_conversion_into_the_same_folder_replaces_the_first(original, tmp_path) -> None:
    for _ in range(2):
        convert(original, tmp_path / "out", to="yolo", preview=False)
    listed = {path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*.txt")}
    assert len(listed) == 8
    convert(original, tmp_path / "out", to="labelme", preview=False)
    assert not list((tmp_path / "out").rglob("images/*/*.png"))
    assert detect_format(Source(tmp_path / "out"))[0] == "labelme"
