"""What an image looks like, and what is unlike a set: hand-computed, and invariants."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from finemask.ops.images.image_look import FEATURES, FEWEST, MOST, LooksOfASet, look_of


def flat(*colour, side=40):
    return np.full((side, side, 3), colour, np.uint8)


# CIELAB of sRGB's corners, D65: https://www.brucelindbloom.com/index.html?ColorCalculator.html
@pytest.mark.parametrize(
    ("colour", "lab"),
    [((255, 255, 255), (100, 0, 0)), ((0, 0, 0), (0, 0, 0)), ((255, 0, 0), (53.2, 80.1, 67.2))],
)
def test_flat_colours(colour, lab):
    look = dict(zip(FEATURES, look_of(flat(*colour)), strict=True))
    assert (look["lightness"], look["redness"], look["yellowness"]) == pytest.approx(lab, abs=0.3)
    assert (look["contrast"], look["colourfulness"]) == pytest.approx((0, 0), abs=0.01)
    assert look["fine detail"] == look["detail"] == look["coarse detail"] == pytest.approx(np.log10(0.05), abs=0.01)


def test_halves_of_black_and_white_have_a_contrast_of_half_the_scale():
    image = flat(0, 0, 0)
    image[:, 20:] = 255
    look = look_of(image)
    assert look[:2] == pytest.approx((50, 50), abs=0.3)
    # Two columns beside the edge differ by 100 from one neighbour each: 2 × 100 of 40 columns.
    assert 10 ** look[5] - 0.05 == pytest.approx(2 * 100 / 40, rel=0.01)


def test_a_larger_picture_of_the_same_looks_the_same():
    rng = np.random.default_rng(0)
    small = rng.integers(0, 255, (64, 256, 3)).astype(np.uint8)
    assert look_of(small.repeat(4, axis=0).repeat(4, axis=1)) == pytest.approx(look_of(small), abs=0.02)


@pytest.mark.parametrize("shape", [(1, 1), (1, 10_000), (3, 2)])
def test_any_size(shape):
    assert np.isfinite(look_of(np.zeros((*shape, 3), np.uint8))).all()


def test_a_few_images_say_nothing():
    assert LooksOfASet.of([np.zeros(8)] * (FEWEST - 1)) is None


def test_equal_images_have_a_limit_too():
    looks = LooksOfASet.of([np.full(8, 3.0)] * FEWEST)
    assert looks.limit > 0
    assert looks.drift(np.full(8, 3.0)) == 0
    assert looks.drift(np.full(8, 3.0) + 5) > 1


@settings(max_examples=5)
@given(st.integers(0, 10_000))
def test_of_the_set_itself_none_is_unlike_and_of_another_draw_few_are(seed):
    rng = np.random.default_rng(seed)
    scale = np.array([20, 5, 3, 3, 2, 0.3, 0.3, 0.3])
    drawn = rng.normal(0, scale, (400, 8))
    looks = LooksOfASet.of(list(drawn[:200]))
    assert len(looks.looks) == MOST
    assert max(looks.drift(np.array(look)) for look in looks.looks) == 0
    assert np.mean([looks.drift(look) > 1 for look in drawn[200:]]) < 0.1
    assert all(looks.drift(look + 6 * scale) > 1 for look in drawn[200:220])


def test_it_is_said_by_what_an_image_differs():
    rng = np.random.default_rng(1)
    looks = LooksOfASet.of(list(rng.uniform(40, 60, (30, 8))))
    values = [one[0] for one in looks.looks]
    dark = np.full(8, 50.0)
    dark[0] = 8.25
    assert looks.in_words(dark) == f"lightness 8.25, theirs {min(values):.3g} to {max(values):.3g}"
    assert looks.in_words(np.full(8, 50.0)).startswith("no single feature")
