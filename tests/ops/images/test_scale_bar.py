import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from finemask.errors import ConfigError
from finemask.ops.images.scale_bar import bar_length, parse_length, with_scale_bar


@pytest.mark.parametrize(
    ("text", "metres"),
    [("0.65um", 6.5e-7), ("0.65 µm", 6.5e-7), ("30 cm", 0.3), ("2m", 2), (".1km", 100), ("7e2nm", 7e-7)],
)
def test_lengths_as_they_are_typed(text, metres):
    assert parse_length(text, "pixel_size") == pytest.approx(metres)


@pytest.mark.parametrize("text", ["", "5", "um", "0um", "-1m", "5 inches", "nan m", "1,5mm", "1e999m"])
def test_what_is_no_length_is_refused(text):
    with pytest.raises(ConfigError, match="pixel_size="):
        parse_length(text, "pixel_size")


@pytest.mark.parametrize(
    ("width_m", "printed"),
    [(1024 * 0.65e-6, "100 µm"), (4000 * 0.3, "200 m"), (0.004, "1 mm"), (8000, "2 km"), (2e-6, "500 nm")],
)
def test_the_bar_by_hand(width_m, printed):
    assert bar_length(width_m)[1] == printed


@given(st.floats(1e-8, 1e6))
def test_the_bar_is_round_and_the_longest_of_its_kind(width_m):
    length, printed = bar_length(width_m)
    share = length / width_m
    assert 0.1 - 1e-6 < share <= 0.25 + 1e-6  # the next round length is at most 2.5 times as long
    mantissa = length / 10 ** math.floor(math.log10(length) + 1e-9)
    assert min(abs(mantissa - number) for number in (1, 2, 5)) < 1e-6
    assert parse_length(printed, "it") == pytest.approx(length)


def test_it_stands_below_the_picture_and_is_as_long_as_it_says():
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 255, (300, 500, 3)).astype(np.uint8))
    shown = np.asarray(with_scale_bar(picture, 2e-6))  # 500 px are a millimetre: 200 µm are 100 px
    assert (shown[:300] == np.asarray(picture)).all()
    strip = shown[300:]
    rows = (strip == 16).all(axis=2)
    bar = rows[rows[:, :110].sum(axis=1).argmax(), :110]
    assert bar.sum() == 100
    assert np.flatnonzero(bar)[-1] - np.flatnonzero(bar)[0] == 99
    assert (strip[:, 120:200].min(axis=2) < 100).any()  # the words
