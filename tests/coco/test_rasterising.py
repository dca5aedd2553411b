"""Packed outlines raster to the very pixels of pycocotools' full-size rasteriser."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco_mask

from finemask.coco.rasterising import (
    crop_of_counts,
    crop_of_polygons,
    from_fifths,
    to_fifths,
    window_of_fifths,
    window_of_runs,
)
from finemask.ops.rle import run_lengths

# decimals as tools write them, halves where rounding ties, and whatever a float can be
coordinate = st.one_of(
    st.integers(-60, 120).map(float),
    st.integers(-600, 1200).map(lambda n: n / 10),
    st.integers(-300, 600).map(lambda n: (n + 0.5) / 5),
    st.floats(-60, 120),
)
polygon = st.lists(st.tuples(coordinate, coordinate), min_size=3, max_size=9).map(
    lambda points: np.array(points, dtype=np.float64).ravel()
)


def packed_raster(parts, height, width):
    fifths = [to_fifths(part) for part in parts]
    points = np.concatenate(fifths).reshape(-1, 2)
    extent = np.concatenate([points.min(axis=0), points.max(axis=0)])[None]
    window = window_of_fifths(extent, np.array([[width, height]], np.int32))[0]
    x0, y0, x1, y1 = (int(v) for v in window)
    assert 0 <= x0 <= x1 <= width
    assert 0 <= y0 <= y1 <= height
    full = np.zeros((height, width), dtype=np.bool_)
    if x1 > x0:
        full[y0:y1, x0:x1] = crop_of_polygons(fifths, (x0, y0, x1, y1))
    return full


def full_raster(parts, height, width):
    rles = coco_mask.frPyObjects([part.tolist() for part in parts], height, width)
    return coco_mask.decode(coco_mask.merge(rles)).astype(bool)


@settings(max_examples=400, deadline=None)
@given(st.lists(polygon, min_size=1, max_size=3), st.integers(1, 70), st.integers(1, 70))
@example([np.array([-0.3, -0.3, 5.1, -0.1, 2.0, 7.7])], 6, 6)
@example([np.array([-50.0, -50, 200, -50, 200, 200, -50, 200])], 9, 5)
@example([np.array([-9.0, -9, -2, -9, -2, -2])], 9, 5)
@example([np.array([90.0, 9, 99, 9, 95, 20])], 9, 5)
def test_polygons_equal_the_full_raster(parts, height, width):
    np.testing.assert_array_equal(packed_raster(parts, height, width), full_raster(parts, height, width))


@settings(max_examples=300, deadline=None)
@given(st.lists(st.integers(-5_000_000, 5_000_000), min_size=1, max_size=50))
def test_fifths_survive_the_way_back(values):
    fifths = np.array(values, np.int32)
    np.testing.assert_array_equal(to_fifths(from_fifths(fifths)), fifths)


def test_fifths_truncate_toward_zero():
    assert to_fifths(np.array([0.0, 0.1, 0.09, -0.1, -0.3, -0.31, -0.5, 1.3])).tolist() == [
        0,
        1,
        0,
        0,
        -1,
        -1,
        -2,
        7,
    ]


@settings(max_examples=300, deadline=None)
@given(
    st.integers(1, 20),
    st.integers(1, 20),
    st.integers(0, 2**32 - 1),
    st.sampled_from([0.0, 0.1, 0.5, 0.95, 1.0]),
)
def test_run_lengths_are_decoded_and_cropped(height, width, seed, density):
    mask = np.random.default_rng(seed).random((height, width)) < density
    rle = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
    runs = run_lengths(rle["counts"])
    np.testing.assert_array_equal(np.repeat(np.arange(runs.size) % 2, runs), mask.ravel(order="F"))
    counts, (x0, y0, x1, y1) = window_of_runs(runs, height, width)
    if not mask.any():
        assert (counts, x0, y0, x1, y1) == (b"", 0, 0, 0, 0)
        return
    ys, xs = np.nonzero(mask)
    assert (x0, x1) == (xs.min(), xs.max() + 1)
    assert y0 <= ys.min()
    assert y1 > ys.max()
    out = np.zeros_like(mask)
    out[y0:y1, x0:x1] = crop_of_counts(counts, (x0, y0, x1, y1))
    np.testing.assert_array_equal(out, mask)


def test_long_runs_and_zero_length_runs():
    mask = np.zeros((3000, 4000), np.uint8, order="F")
    mask[1234:2345, 1999:3003] = 1
    runs = run_lengths(coco_mask.encode(mask)["counts"].decode())
    assert runs.sum() == mask.size
    assert window_of_runs(runs, 3000, 4000)[1] == (1999, 1234, 3003, 2345)
    zero_runs = np.array([0, 0, 4, 2, 0, 1, 2, 0])  # 4 zeros, 2 + 1 ones, 2 zeros
    counts, window = window_of_runs(zero_runs, 3, 3)
    assert window == (1, 0, 3, 3)
    assert crop_of_counts(counts, window).tolist() == [[False, True], [True, False], [True, False]]


@pytest.mark.parametrize("counts", ["", "\x00", "zz", b"o", "oooooooooooooo0"])
def test_damaged_counts(counts):
    with pytest.raises(ValueError, match=r"RLE|run lengths"):
        window_of_runs(run_lengths(counts), 3, 3)
