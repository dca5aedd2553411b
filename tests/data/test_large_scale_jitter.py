"""Large-scale jitter: one factor for image and maps, then a crop or a border; sizes known by arithmetic."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from finemask.data.image_mixing import LargeScaleJitter
from finemask.errors import ConfigError

FILL = [124, 116, 104]


def noise(height, width, num_layers=2, seed=0):
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 256, (height, width, 3)).astype(np.uint8)
    return image, rng.integers(0, 5, (num_layers, height, width)).astype(np.uint8)


def test_at_its_own_size_nothing_happens():
    image, layers = noise(64, 64)
    out, maps = LargeScaleJitter(64, scale=(1.0, 1.0))(image, layers, np.random.default_rng(0))
    np.testing.assert_array_equal(out, image)
    np.testing.assert_array_equal(maps, layers)


def test_half_the_size_is_the_mean_of_four_pixels_inside_a_border():
    image, layers = noise(64, 32)
    out, maps = LargeScaleJitter(64, scale=(0.5, 0.5))(image, layers, np.random.default_rng(3))
    fill = (out == FILL).all(axis=2)
    rows, columns = np.flatnonzero(~fill.all(axis=1)), np.flatnonzero(~fill.all(axis=0))
    inside = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
    assert out[inside].shape == (32, 16, 3)
    mean = image.reshape(32, 2, 16, 2, 3).mean(axis=(1, 3))
    assert np.abs(out[inside] - mean).max() <= 0.51
    maps_inside = maps[:, inside[0], inside[1]]
    choices = np.stack([layers[:, y::2, x::2] for y in (0, 1) for x in (0, 1)])
    assert any((maps_inside == choice).all() for choice in choices)  # nearest neighbour: one and the same of the four
    assert not maps[:, fill].any()


def test_twice_the_size_is_a_part():
    image, layers = noise(40, 40)
    out, maps = LargeScaleJitter(40, scale=(2.0, 2.0))(image, layers, np.random.default_rng(1))
    assert out.shape == (40, 40, 3)
    shown = maps[:, ::2, ::2]
    np.testing.assert_array_equal(maps, shown.repeat(2, axis=1).repeat(2, axis=2))
    places = [(y, x) for y in range(21) for x in range(21) if (layers[:, y : y + 20, x : x + 20] == shown).all()]
    assert len(places) == 1
    y, x = places[0]
    centre = (out[19, 19] + out[19, 20].astype(int) + out[20, 19] + out[20, 20]) / 4
    np.testing.assert_allclose(centre, image[y + 9 : y + 11, x + 9 : x + 11].mean(axis=(0, 1)), atol=2)


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 150), st.integers(50, 150), st.integers(0, 4), st.integers(0, 2**32))
def test_image_and_maps_move_together(height, width, num_layers, seed):
    """An ellipse in the image and in the maps: afterwards they are still one, in proportion."""
    y, x = np.mgrid[:height, :width]
    inside = ((y + 0.5) / height - 0.5) ** 2 + ((x + 0.5) / width - 0.5) ** 2 < 0.2
    image = np.where(inside[:, :, None], 240, 10).astype(np.uint8).repeat(3, axis=2)
    layers = np.stack([inside * np.uint8(k + 1) for k in range(num_layers + 1)]).astype(np.uint8)
    before = image.copy(), layers.copy()
    out, maps = LargeScaleJitter(96, fill=(10, 10, 10))(image, layers, np.random.default_rng(seed))
    assert out.shape == (96, 96, 3)
    assert maps.shape == (num_layers + 1, 96, 96)
    for k, layer in enumerate(maps):
        assert set(np.unique(layer)) <= {0, k + 1}
        np.testing.assert_array_equal(layer > 0, maps[0] > 0)
    bright, on = out[:, :, 0] > 125, maps[0] > 0
    edge = ndimage.binary_dilation(on, iterations=2) & ~ndimage.binary_erosion(on, iterations=2)
    if min(height, width) >= 60:  # otherwise a pixel of the original may be larger than the edge
        assert not ((bright != on) & ~edge).any()
    np.testing.assert_array_equal(image, before[0])
    np.testing.assert_array_equal(layers, before[1])


def test_factors_and_places_are_uniform():
    image = np.full((50, 100, 3), 255, np.uint8)
    layers = np.ones((1, 50, 100), np.uint8)
    jitter, rng = LargeScaleJitter(100, scale=(0.1, 1.0)), np.random.default_rng(0)
    widths, places = [], []
    for _ in range(400):
        out, maps = jitter(image, layers, rng)
        rows, columns = maps[0].any(axis=1).nonzero()[0], maps[0].any(axis=0).nonzero()[0]
        widths.append(len(columns))
        assert abs(len(rows) - len(columns) / 2) <= 1
        if len(columns) < 95:
            places.append(columns[0] / (100 - len(columns)))
        np.testing.assert_array_equal((out == 255).all(axis=2), maps[0] > 0)
    for values, low, high in ((np.array(widths) / 100, 0.1, 1.0), (np.array(places), 0.0, 1.0)):
        assert values.min() < low + 0.03
        assert values.max() > high - 0.03
        assert abs(values.mean() - (low + high) / 2) < 0.05


def test_wrong_values_are_named():
    for wrong in ({"size": 16}, {"size": [640, 800]}, {"scale": [2, 1]}, {"scale": 0.5}, {"fill": [0, 0, 256]}):
        with pytest.raises(ConfigError, match=f"{next(iter(wrong))} of LargeScaleJitter"):
            LargeScaleJitter(**{"size": 64, **wrong})
