"""Mosaics: four images around one point, each in its quarter with its own instances."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from traced_scenes import masks_of, never_drawn, random_scene, scene_of

from finemask.data.image_mixing import Mosaic
from finemask.errors import ConfigError
from finemask.ops.layers import boxes_and_areas_from_layers


def plain(number, height, width):
    """One colour, and one instance that is the whole image."""
    image = np.full((height, width, 3), number, np.uint8)
    return scene_of(image, np.ones((1, height, width), bool), [number])


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32), st.lists(st.tuples(st.integers(1, 90), st.integers(1, 90)), min_size=4, max_size=4))
def test_four_images_fill_the_square_and_stay_with_their_masks(seed, sizes):
    scenes = [plain(k + 1, *size) for k, size in enumerate(sizes)]
    waiting = iter(scenes[1:])
    out = Mosaic(64, probability=1.0).augment_scene(scenes[0], lambda rng: next(waiting), np.random.default_rng(seed))
    assert out.image.shape == (64, 64, 3)
    assert sorted(out.labels.tolist()) == [1, 2, 3, 4]
    for label, mask in zip(out.labels, masks_of(out), strict=True):
        np.testing.assert_array_equal(mask, out.image[:, :, 0] == label)
    boxes, areas = boxes_and_areas_from_layers(out.layers, out.slots)
    assert areas.sum() == 64 * 64
    corners = {tuple(box) for box in boxes.tolist()}
    x, y = next((box[2], box[3]) for box in corners if box[:2] == (0, 0))
    assert corners == {(0, 0, x, y), (x, 0, 64, y), (0, y, x, 64), (x, y, 64, 64)}
    assert 0.34 * 64 <= min(x, y) <= max(x, y) <= 0.66 * 64


def test_parts_keep_their_proportions_and_masks_their_place():
    """Red counts columns and green rows, so both grow by as much a pixel; the instance is the left half."""
    y, x = np.mgrid[:120, :200]
    image = np.stack([x, y, np.zeros_like(x)], axis=2).astype(np.uint8)
    scene, zooms = scene_of(image, (x < 100)[None], [1]), []
    for seed in range(10):
        out = Mosaic(300, probability=1.0).augment_scene(scene, lambda rng: scene, np.random.default_rng(seed))
        red, green = out.image[:, :, 0].astype(int), out.image[:, :, 1].astype(int)
        np.testing.assert_array_equal(out.layers.any(axis=0)[np.abs(red - 100) > 2], (red < 100)[np.abs(red - 100) > 2])
        for corner_y, corner_x in ((5, 5), (5, 205), (205, 5), (205, 205)):  # 90 px that no quarter's edge crosses
            across = (red[corner_y, corner_x + 85] - red[corner_y, corner_x]) / 85
            down = (green[corner_y + 85, corner_x] - green[corner_y, corner_x]) / 85
            assert abs(across / down - 1) < 0.06
            zooms.append(1 / across)
    assert (
        0.85 < min(zooms) < 1.0 < 1.8 < max(zooms) < 2.5
    )  # the larger of 105 to 195 px / 200 and / 120, times 1 to 1.5


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32), st.lists(st.integers(0, 12), min_size=4, max_size=4))
def test_overlapping_instances_survive(seed, numbers):
    """Without a zoom and at its own size, a quarter is the image: nothing may be lost or mixed up."""
    rng = np.random.default_rng(seed)
    drawn = [random_scene(rng, 16, 16, number, source) for source, number in enumerate(numbers)]
    waiting = iter(drawn[1:])
    mosaic = Mosaic(32, probability=1.0, centre=(0.5, 0.5), zoom=(1.0, 1.0))
    out = mosaic.augment_scene(drawn[0][0], lambda rng: next(waiting)[0], rng)
    found = dict(zip(out.labels.tolist(), masks_of(out), strict=True))
    for source, (scene, masks) in enumerate(drawn):
        y, x = np.argwhere(out.image[:, :, 0] == source)[0]
        np.testing.assert_array_equal(out.image[y : y + 16, x : x + 16], scene.image)
        for label, mask in zip(scene.labels.tolist(), masks, strict=True):
            if mask.any():
                expected = np.zeros((32, 32), bool)
                expected[y : y + 16, x : x + 16] = mask
                np.testing.assert_array_equal(found.pop(label), expected)
    assert found == {}


def test_more_instances_than_a_layer_holds():
    masks = np.eye(100, dtype=bool).reshape(100, 10, 10).repeat(4, axis=1).repeat(4, axis=2)
    scene = scene_of(np.zeros((40, 40, 3), np.uint8), masks, np.arange(100))
    mosaic = Mosaic(80, probability=1.0, centre=(0.5, 0.5), zoom=(1.0, 1.0))
    out = mosaic.augment_scene(scene, lambda rng: scene, np.random.default_rng(0))
    assert len(out.labels) == 400
    assert len(out.layers) == 2
    assert masks_of(out).sum() == 80 * 80
    assert masks_of(out).any(axis=0).all()


def test_half_of_the_images_stay_as_they_are():
    scene = plain(1, 8, 8)
    assert Mosaic(64, probability=0.0).augment_scene(scene, never_drawn, np.random.default_rng(0)) is scene
    rng = np.random.default_rng(0)
    same = sum(Mosaic(64).augment_scene(scene, lambda rng: scene, rng) is scene for _ in range(100))
    assert 35 < same < 65


def test_wrong_values_are_named():
    for wrong in ({"size": 0}, {"size": [640, 800]}, {"zoom": [0.5, 1]}, {"centre": [0.2]}, {"probability": 2}):
        with pytest.raises(ConfigError, match=f"{next(iter(wrong))} of Mosaic"):
            Mosaic(**{"size": 64, **wrong})
