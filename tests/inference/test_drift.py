"""Images that are unlike the training images: found on real sets, said in numbers and words."""

from dataclasses import replace

import numpy as np
import pytest
from inference_data import colour_header

from finemask.coco.index import CocoIndex
from finemask.inference.drift import DriftWatch, drift_of
from finemask.model_header import header_from_json, header_to_json
from finemask.ops.images.image_look import LooksOfASet, look_of
from finemask.training.save_model import training_looks


def noise(low, high, seed):
    return np.random.default_rng(seed).integers(low, high, (48, 64, 3)).astype(np.uint8)


@pytest.fixture
def header():
    looks = LooksOfASet.of([look_of(noise(100, 140 + i, i)) for i in range(20)])
    return replace(colour_header(), training_looks=looks)


def test_a_header_comes_back_with_its_looks(header):
    assert header_from_json(header_to_json(replace(header, sha256="0"))).training_looks == header.training_looks


def test_a_file_from_before_says_nothing():
    content = header_to_json(replace(colour_header(), sha256="0"))
    del content["training_looks"]
    old = header_from_json(content)
    assert old.training_looks is None
    assert drift_of(noise(0, 255, 0), old) is None
    watch = DriftWatch(old)
    assert watch.add("a.png", noise(0, 255, 0)) is None
    assert watch.in_words() is None


@pytest.mark.parametrize("change", [{"limit": 0}, {"limit": float("inf")}, {"spread": [1] * 7}, {"looks": []}])
def test_looks_that_cannot_be_meant(header, change):
    content = header_to_json(replace(header, sha256="0"))
    content["training_looks"] |= change
    with pytest.raises(ValueError, match="training_looks"):
        header_from_json(content)


def test_one_image_is_told_of_by_its_name(header):
    watch = DriftWatch(header)
    assert watch.add("dark.png", noise(0, 30, 0)).value > 1
    assert watch.in_words().startswith("dark.png looks unlike all training images: ")
    assert "lightness " in watch.in_words()


def test_of_many_images_one_that_is_unlike_is_no_news_and_ten_are(header):
    watch = DriftWatch(header)
    for i in range(40):
        assert watch.add("like.png", noise(100, 150, 100 + i)).value <= 1
    watch.add("dark.png", noise(0, 30, 0))
    assert watch.in_words() is None
    for i in range(9):
        watch.add("white.png", noise(225, 256, i))
    assert watch.in_words().startswith("10 of 50 images, ")


def test_what_is_not_held_in_memory_is_not_looked_at(header):
    assert DriftWatch(header).add("huge.tif", None) is None


def test_real_sets_are_told_apart_and_held_out_images_are_not(shared_dir):
    folders = [shared_dir / "datasets" / name for name in ("bottles", "nuclei")]
    known = [training_looks(CocoIndex.read(folder / "annotations/train.json", folder / "images")) for folder in folders]
    for trained_on, looks in zip(folders, known, strict=True):
        for folder in folders:
            index = CocoIndex.read(folder / "annotations/val.json", folder / "images")
            unlike = np.mean([looks.drift(look_of(index.read_image(i))) > 1 for i in range(len(index))])
            assert (unlike < 0.05) if folder == trained_on else (unlike > 0.95)
