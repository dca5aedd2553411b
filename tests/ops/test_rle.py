"""Our run-length encoding against pycocotools."""

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
    rle_to_mask,
)


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
