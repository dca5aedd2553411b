"""Tiles cover a picture, share what they should, and what is found in them goes back to the very same pixels."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco_mask

from finemask.ops.images.tile_windows import boxes_from_tile, rle_from_tile, tile_starts, tile_windows
from finemask.ops.rle import mask_to_rle


@pytest.mark.parametrize(
    ("length", "size", "overlap", "starts"),
    [
        (100, 128, 0.2, [0]),
        (128, 128, 0.2, [0]),
        (129, 128, 0.2, [0, 1]),
        (1000, 400, 0.25, [0, 300, 600]),  # 600 + 400 = 1000: fits exactly
        (1001, 400, 0.25, [0, 200, 400, 601]),
        (90, 30, 0.0, [0, 30, 60]),
        (32, 30, 0.9, [0, 2]),
        (40, 30, 0.9, [0, 2, 5, 7, 10]),
    ],
)
def test_where_tiles_begin(length: int, size: int, overlap: float, starts: list[int]) -> None:
    assert tile_starts(length, size, overlap) == starts


@given(
    length=st.integers(1, 700),
    size=st.integers(4, 128),
    overlap=st.floats(0, 0.9),
    data=st.data(),
)
@settings(max_examples=200, deadline=None)
def test_tiles_cover_the_side_and_hold_every_short_interval(length, size, overlap, data):
    starts = tile_starts(length, size, overlap)
    assert starts == sorted(set(starts))
    steps = {b - a for a, b in pairwise(starts)}
    assert max(steps, default=0) - min(steps, default=0) <= 1  # evenly
    assert starts[0] == 0
    assert max(starts[-1] + size, length) == (length if length > size else size)
    shared = round(size * overlap)
    stride = max(1, size - shared)
    assert all(step <= stride for step in steps)
    assert (len(starts) - 2) * stride < max(length - size, 0) or len(starts) == 1  # with one fewer they could not
    short = data.draw(st.integers(1, max(1, min(shared, length))))
    at = data.draw(st.integers(0, length - short))
    assert any(start <= at and at + short <= start + size for start in starts)


def test_windows_go_row_by_row_and_have_the_full_size():
    windows = tile_windows(100, 250, 100, 0.2)
    assert windows.tolist() == [[0, 0, 100, 100], [75, 0, 175, 100], [150, 0, 250, 100]]
    assert windows.dtype == np.int64
    small = tile_windows(30, 250, 100, 0.2)
    assert set((small[:, 3] - small[:, 1]).tolist()) == {30}
    assert set((small[:, 2] - small[:, 0]).tolist()) == {100}
    assert tile_windows(20, 30, 100, 0.2).tolist() == [[0, 0, 30, 20]]
    rows = tile_windows(300, 300, 100, 0.5)[:, 1]
    assert (np.diff(rows) >= 0).all()


@given(st.data())
@settings(max_examples=100, deadline=None)
def test_a_mask_comes_back_to_its_pixels(data):
    height, width = data.draw(st.integers(1, 60)), data.draw(st.integers(1, 60))
    h, w = data.draw(st.integers(1, height)), data.draw(st.integers(1, width))
    y0, x0 = data.draw(st.integers(0, height - h)), data.draw(st.integers(0, width - w))
    density = data.draw(st.sampled_from([0.0, 0.1, 0.5, 1.0]))
    mask = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1))).random((h, w)) < density
    full = np.zeros((height, width), dtype=np.uint8, order="F")
    full[y0 : y0 + h, x0 : x0 + w] = mask
    expected = coco_mask.encode(full)["counts"].decode()
    assert rle_from_tile(mask_to_rle(mask), x0, y0, height, width) == {"size": [height, width], "counts": expected}


@pytest.mark.parametrize(("x0", "y0"), [(-1, 0), (0, -1), (11, 0), (0, 6)])
def test_a_tile_that_is_not_inside_is_refused(x0: int, y0: int) -> None:
    rle = mask_to_rle(np.ones((5, 10)))
    assert rle_from_tile(rle, 10, 5, 10, 20)["size"] == [10, 20]
    with pytest.raises(ValueError, match="not inside a picture of 20 × 10 px"):
        rle_from_tile(rle, x0, y0, 10, 20)


def test_boxes_move_exactly_also_far_from_the_origin():
    boxes = np.array([[0.1, 0.2, 10.3, 20.4]], dtype=np.float32)
    moved = boxes_from_tile(boxes, 29_000, 16_000_000)
    np.testing.assert_allclose(moved - [29_000, 16_000_000, 29_000, 16_000_000], boxes, rtol=0, atol=1e-8)
    assert boxes_from_tile(np.zeros((0, 4)), 3, 4).shape == (0, 4)
    assert boxes[0, 0] == np.float32(0.1)  # the caller's array is left alone
