"""Decoding to a crop against pycocotools' decoding of the whole mask."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco_mask

from finemask.ops.rle import crop_to_rle, mask_to_rle, rle_to_crop, run_lengths
from finemask.types import Rle


@given(
    height=st.integers(1, 50),
    width=st.integers(1, 50),
    seed=st.integers(0, 2**32 - 1),
    density=st.sampled_from([0.0, 0.02, 0.3, 0.9, 1.0]),
)
@settings(max_examples=150, deadline=None)
def test_the_crop_is_tight_and_holds_every_pixel(height, width, seed, density):
    mask = np.random.default_rng(seed).random((height, width)) < density
    crop, x0, y0 = rle_to_crop(mask_to_rle(mask))
    full = np.zeros((height, width), dtype=bool)
    full[y0 : y0 + crop.shape[0], x0 : x0 + crop.shape[1]] = crop
    assert np.array_equal(full, mask)
    assert crop.dtype == np.bool_
    if mask.any():
        assert crop[0].any()
        assert crop[-1].any()
        assert crop[:, 0].any()
        assert crop[:, -1].any()
    else:
        assert crop.shape == (0, 0)
    assert crop_to_rle(crop, x0, y0, height, width) == mask_to_rle(mask)


@given(counts=st.lists(st.integers(0, 3_000_000_000), min_size=1, max_size=12))
@settings(max_examples=150, deadline=None)
def test_run_lengths_of_any_magnitude(counts):
    # pycocotools counts in 32 bits: what it writes for numbers beyond 2**31 is read back as well
    total = sum(counts)
    if total >= 2**32:
        counts = [count % 300_000_000 for count in counts]
    text = coco_mask.frPyObjects({"size": [1, sum(counts)], "counts": counts}, 1, sum(counts))["counts"].decode()
    assert run_lengths(text).tolist() == counts


def test_runs_of_length_zero_join_their_neighbours():
    # two pixels, a run of no zeros, two more pixels: one column of four, as pycocotools decodes it
    rle = coco_mask.frPyObjects({"size": [4, 3], "counts": [4, 2, 0, 2, 4]}, 4, 3)
    text = Rle(size=[4, 3], counts=rle["counts"].decode())
    crop, x0, y0 = rle_to_crop(text)
    assert np.array_equal(coco_mask.decode(rle)[y0:, x0 : x0 + 1].astype(bool), crop)
    assert (crop.shape, x0, y0) == ((4, 1), 1, 0)


def test_a_run_that_ends_a_column_does_not_leak_into_the_next():
    mask = np.zeros((5, 4), dtype=bool)
    mask[3:, 1] = True
    crop, x0, y0 = rle_to_crop(mask_to_rle(mask))
    assert (crop.tolist(), x0, y0) == ([[True], [True]], 1, 3)


def test_a_small_mask_in_a_huge_picture_costs_little():
    # 2.5 thousand million pixels: decoded whole this would not fit
    rle = crop_to_rle(np.ones((3, 2), dtype=bool), 49_000, 48_000, 50_000, 50_000)
    crop, x0, y0 = rle_to_crop(rle)
    assert (crop.all(), crop.shape, x0, y0) == (True, (3, 2), 49_000, 48_000)


@pytest.mark.parametrize(("counts", "reason"), [("11", "add up to 2"), ("`", "middle of a number"), ("o", "middle")])
def test_counts_that_do_not_fit_are_refused(counts: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        rle_to_crop(Rle(size=[4, 4], counts=counts))


def test_no_counts_are_an_empty_mask():
    assert run_lengths("").size == 0
    assert rle_to_crop(Rle(size=[0, 0], counts=""))[0].shape == (0, 0)
