"""Brightness, contrast, sharpness and kinds of files."""

import numpy as np
import pytest
from PIL import Image, ImageFilter
from scipy import ndimage
from stats_data import rectangle

from finemask.datatools.stats.image_stats import chosen_rows, measure_images, sharpness_of, thumbnail

HW = (40, 50)
MASK = rectangle(HW, 5, 5, 20, 20)


def plain(colour):
    return np.full((*HW, 3), colour, np.uint8)


def test_brightness_and_contrast_of_known_pictures(index_of):
    halves = plain((0, 0, 0))
    halves[:, :25] = 200
    index = index_of([plain((0, 0, 0)), plain((255, 255, 255)), plain((255, 0, 0)), halves], [(0, "a", MASK)])
    opened = measure_images(index, None).images
    assert [image.brightness for image in opened] == pytest.approx([0, 255, 0.299 * 255, 100], abs=0.1)
    assert [image.contrast for image in opened] == pytest.approx([0, 0, 0, 100], abs=0.1)
    assert [image.row for image in opened] == [0, 1, 2, 3]


def test_sharpness_is_the_variance_of_the_laplacian():
    luma = np.random.default_rng(1).uniform(0, 255, (30, 40)).astype(np.float32)
    inner = ndimage.laplace(luma)[1:-1, 1:-1]
    assert sharpness_of(luma) == pytest.approx(inner.var(), rel=1e-4)
    assert sharpness_of(luma[:2]) == 0


def test_blur_lowers_sharpness_and_order_is_kept(index_of):
    noise = np.random.default_rng(2).integers(0, 255, (*HW, 3), dtype=np.uint8)
    blurred = np.asarray(Image.fromarray(noise).filter(ImageFilter.GaussianBlur(2)))
    sharp, soft = measure_images(index_of([noise, blurred], [(0, "a", MASK)]), None).images
    assert sharp.sharpness > 20 * soft.sharpness


def test_kinds_of_files_and_what_cannot_be_used(index_of, tmp_path):
    index = index_of([HW] * 5, [(0, "a", MASK)])
    folder = tmp_path / "images"
    Image.fromarray(np.zeros(HW, np.uint8)).save(folder / "image_1.png")
    Image.fromarray(np.zeros(HW, np.uint16)).save(folder / "image_2.png")
    (folder / "image_3.png").write_bytes(b"no image")
    Image.fromarray(np.zeros((10, 10), np.uint8)).save(folder / "image_4.png")
    found = measure_images(index, None)
    assert found.kinds == {"PNG, 8-bit RGB": 1, "PNG, 8-bit grey": 1, "PNG, 16-bit grey": 1}
    assert [name for name, _ in found.unreadable] == ["image_3.png", "image_4.png"]
    assert "10 × 10" in found.unreadable[1][1]
    assert found.images[0].size_bytes == (folder / "image_0.png").stat().st_size


def test_a_sample_is_spread_over_the_file(index_of):
    assert chosen_rows(5, None) == [0, 1, 2, 3, 4]
    assert chosen_rows(5, 9) == [0, 1, 2, 3, 4]
    assert chosen_rows(101, 3) == [0, 50, 100]
    calls = []
    opened = measure_images(index_of([HW] * 7, [(0, "a", MASK)]), 3, lambda: calls.append(1)).images
    assert [image.row for image in opened] == [0, 3, 6]
    assert len(calls) == 3


def test_thumbnails_keep_proportions(index_of, tmp_path):
    index = index_of([(100, 200)], [(0, "a", rectangle((100, 200), 0, 0, 5, 5))])
    assert thumbnail(index, 0, 50).size == (50, 25)
