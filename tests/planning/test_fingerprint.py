"""The fingerprint of a small file, computed by hand."""

import numpy as np
import pytest
from plan_data import fingerprint
from stats_data import rectangle, write_coco

from finemask.coco.index import CocoIndex
from finemask.planning.fingerprint import Fingerprint, Machine
from finemask.planning.plan_tables import in_words


def test_a_file_by_hand(tmp_path) -> None:
    sizes = [(40, 60), (60, 40), (100, 100), (50, 200)]
    coloured = np.zeros((50, 200, 3), np.uint8)
    coloured[:, :, 0] = 200
    objects = [
        (0, "nut", rectangle((40, 60), 0, 0, 4, 9)),  # 6 px
        (0, "nut", rectangle((40, 60), 10, 10, 26, 26)),  # 16 px
        (2, "date", rectangle((100, 100), 20, 20, 70, 70)),  # 50 px
    ]
    crowds = [(1, "nut", rectangle((60, 40), 0, 0, 30, 30))]
    path = write_coco(tmp_path, [*sizes[:3], coloured], objects, crowds=crowds, names=["date", "fig", "nut"])
    found = Fingerprint.of(CocoIndex.read(path, tmp_path / "images"))
    assert found.image_hw.tolist() == [list(size) for size in sizes]
    assert (found.images, found.objects, found.fullest) == (4, 3, 2)
    assert found.objects_per_image.tolist() == [2, 0, 1, 0]
    assert found.crowded(50) == 1  # of the two images with objects: 1.5
    assert found.class_names == ("date", "fig", "nut")
    assert (found.objects_per_class.tolist(), found.images_per_class.tolist()) == ([1, 0, 2], [1, 0, 1])
    assert (found.shorter_px, found.longer_px) == (45, 80)
    assert [found.object_px(percentile) for percentile in (0, 50, 100)] == [6, 16, 50]
    # at 80 px, 200 at most: the first image is enlarged twice, the third shrunk to 0.8
    assert [found.object_px(percentile, 80, 200) for percentile in (0, 50, 100)] == pytest.approx([12, 32, 40])
    assert found.grey_share == 0.75
    assert found.direction.lean is None
    said = in_words(found, Machine(2))
    assert said[0] == "4 images of 80 × 55 px (median, 40 to 200), some of them grey"
    assert said[1] == "3 objects of 2 classes, 1 in the median image, 2 in the fullest"
    assert said[-1] == "this machine: 2 cores, no GPU"
    assert all(len(line) <= 80 for line in said)


def test_of_very_many_objects_some_are_measured(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("finemask.planning.fingerprint._MOST_BOXES", 10)
    mask = rectangle((32, 32), 0, 0, 8, 8)
    path = write_coco(tmp_path, [(32, 32)] * 5, [(k % 5, "a", mask) for k in range(25)])
    found = Fingerprint.of(CocoIndex.read(path, tmp_path / "images"), opens_images=False)
    assert (found.objects, len(found.boxes), found.grey_share) == (25, 9, None)


def test_no_object() -> None:
    found = fingerprint(per_image=[0])
    assert (found.objects, found.object_px(10), found.object_px(50, 320, 512), found.crowded(75)) == (0, 0, 0, 0)
    assert in_words(found, Machine(1, 2, 23.6))[1:] == [
        "0 objects of 1 class, 0 in the median image, 0 in the fullest",
        "this machine: 1 core, 2 GPUs of 24 GiB",
    ]
