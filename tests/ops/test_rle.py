"""Our run-length encoding, and decoding to a crop, against pycocotools."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco_mask

from finemask.ops.rle import (
    crop_to_rle,
    mask_to_rle,
    rle_area,
    rle_box_xywh,
    rle_from_polygons,
    rle_from_segmentation,
    rle_to_crop,
    rle_to_mask,
    run_lengths,
)
from finemask.types import Rle


@st.composite
def crops(draw):
    height, width = draw(st.integers(1, 25)), draw(st.integers(1, 25))
    y0, x0 = draw(st.integers(0, height - 1)), draw(st.integers(0, width - 1))
    h, w = draw(st.integers(1, height - y0)), draw(st.integers(1, width - x0))
    seed, density = draw(st.integers(0, 2**32 - 1)), draw(st.sampled_from([0.0, 0.2, 0.8, 1.0]))
    crop = np.random.default_rng(seed).random((h, w)) < density
    return crop, x0, y0, height, width


@given(crops())
@settings(max_examples=300, deadline=None)
def test_a_crop_encodes_to_pycocotools_own_string(case):
    crop, x0, y0, height, width = case
    full = np.zeros((height, width), dtype=np.uint8, order="F")
    full[y0 : y0 + crop.shape[0], x0 : x0 + crop.shape[1]] = crop
    expected = coco_mask.encode(full)
    assert crop_to_rle(crop, x0, y0, height, width) == {
        "size": [height, width],
        "counts": expected["counts"].decode(),
    }


@given(crops())
@settings(max_examples=50, deadline=None)
def test_encoding_and_decoding_lose_nothing(case):
    mask = case[0]
    rle = mask_to_rle(mask)
    assert np.array_equal(rle_to_mask(rle).astype(bool), mask)
    assert rle_area(rle) == mask.sum()


def test_box_of_an_l_shape():
    mask = np.zeros((10, 12), dtype=np.uint8)
    mask[2:9, 3] = mask[8, 3:7] = 1
    assert rle_box_xywh(mask_to_rle(mask)) == [3.0, 2.0, 4.0, 7.0]


def test_an_empty_crop_is_an_empty_mask():
    rle = crop_to_rle(np.zeros((0, 0), dtype=bool), 0, 0, 5, 7)
    assert rle_area(rle) == 0
    assert rle["size"] == [5, 7]


def test_several_polygons_are_their_union():
    square, overlapping = [1, 1, 6, 1, 6, 6, 1, 6], [4, 4, 9, 4, 9, 9, 4, 9]
    union = rle_to_mask(rle_from_polygons([square, overlapping], 12, 12))
    parts = [rle_to_mask(rle_from_polygons([polygon], 12, 12)) for polygon in (square, overlapping)]
    assert np.array_equal(union, parts[0] | parts[1])


def test_all_three_kinds_of_segmentation_give_the_same():
    polygon = [[2.0, 2.0, 8.0, 2.0, 8.0, 5.0, 2.0, 5.0]]
    rle = rle_from_segmentation(polygon, 10, 11)
    flat = rle_to_mask(rle).flatten(order="F")
    edges = np.flatnonzero(np.diff(flat)) + 1
    uncompressed = {"size": [10, 11], "counts": np.diff([0, *edges, flat.size]).tolist()}
    assert rle_from_segmentation(uncompressed, 10, 11) == rle
    assert rle_from_segmentation(rle, 10, 11) == rle
    as_bytes = {"size": [10, 11], "counts": rle["counts"].encode()}
    assert rle_from_segmentation(as_bytes, 10, 11) == rle


@pytest.mark.parametrize(
    ("segmentation", "reason"),
    [
        ([], "empty"),
        ("polygon", "list of polygons"),
        ({"size": [4, 4], "counts": [16]}, "image"),
        ({"size": [5], "counts": [25]}, "size is"),
        ({"size": "5x5", "counts": [25]}, "size is"),
        ({"size": [5, 5], "counts": [3, 4]}, "add up to 7"),
        ({"size": [5, 5], "counts": [30, -5]}, "add up"),
    ],
)
def test_what_cannot_be_a_mask_is_refused(segmentation, reason):
    with pytest.raises(ValueError, match=reason):
        rle_from_segmentation(segmentation, 5, 5)


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


masks = st.tuples(st.integers(1, 40), st.integers(1, 40), st.floats(0, 1), st.integers(0, 9999)).map(
    lambda v: np.random.default_rng(v[3]).random((v[0], v[1])) < v[2]
)


@settings(max_examples=200, deadline=None)
@given(masks)
def test_crop_of_an_rle_is_the_crop_of_the_mask_pycocotools_decodes(mask):
    rle = mask_to_rle(mask)
    crop, x0, y0 = rle_to_crop(rle)
    rebuilt = np.zeros(mask.shape, dtype=bool)
    rebuilt[y0 : y0 + crop.shape[0], x0 : x0 + crop.shape[1]] = crop
    assert np.array_equal(rebuilt, mask)
    if mask.any():  # tight on all four sides
        assert all(edge.any() for edge in (crop[0], crop[-1], crop[:, 0], crop[:, -1]))


def test_large_runs_and_uncompressed_counts_agree_with_pycocotools():
    counts = [7_000_000, 3, 4_999_000, 900, 12, 84]
    counts.append(4000 * 3000 - sum(counts))
    rle = coco_mask.frPyObjects({"size": [3000, 4000], "counts": counts}, 3000, 4000)
    assert run_lengths(rle["counts"].decode()).tolist() == counts


@pytest.mark.parametrize("counts", ["0", "P", "", "52203"])
def test_counts_that_do_not_fit_are_refused_or_empty(counts):
    rle = {"size": [3, 3], "counts": counts}
    if counts == "":
        assert rle_to_crop(rle)[0].size == 0
    else:
        with pytest.raises(ValueError, match=r"counts|compressed RLE"):
            rle_to_crop(rle)
