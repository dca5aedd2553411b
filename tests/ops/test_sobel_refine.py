"""Outlines moved to edges: pictures whose edges are known, and the watershed against its definition."""

import heapq

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from finemask.ops.rle import mask_to_rle, rle_to_mask
from finemask.ops.sobel_refine import flood, refine_mask

HEIGHT, WIDTH = 90, 100
ROWS, COLUMNS = np.mgrid[:HEIGHT, :WIDTH]


def disc(radius: float, row: float = 45, column: float = 50) -> np.ndarray:
    return (ROWS - row) ** 2 + (COLUMNS - column) ** 2 <= radius**2


def picture(mask: np.ndarray, noise: float = 0.0, low: int = 60, high: int = 170) -> np.ndarray:
    values = np.where(mask, high, low)[..., None] + np.random.default_rng(0).normal(0, noise, (*mask.shape, 3))
    return np.clip(values, 0, 255).astype(np.uint8)


def refined(image: np.ndarray, mask: np.ndarray, **options: float) -> np.ndarray:
    return rle_to_mask(refine_mask(image, mask_to_rle(mask), **options)).astype(bool)


def iou(one: np.ndarray, other: np.ndarray) -> float:
    return float((one & other).sum() / (one | other).sum())


@pytest.mark.parametrize("noise", [0.0, 12.0])
@pytest.mark.parametrize(
    "loosened", [disc(28), disc(22), disc(25, 47, 48), disc(24) ^ (disc(27) & (ROWS % 6 < 3) & ~disc(24))]
)
def test_a_loosened_outline_goes_back_to_the_sharp_one(loosened, noise):
    sharp = disc(25)
    before, after = iou(loosened, sharp), iou(refined(picture(sharp, noise), loosened), sharp)
    assert before < 0.95
    assert after > 0.985


@pytest.mark.parametrize("seed", range(3))
def test_without_edges_masks_stay_to_the_pixel(seed):
    rough = np.random.default_rng(seed).random((HEIGHT // 5, WIDTH // 5)) < 0.55
    mask = np.kron(rough, np.ones((5, 5), bool))  # parts, holes, corners, the image's border
    assert np.array_equal(refined(picture(mask, low=90, high=90), mask), mask)
    assert np.array_equal(refined(picture(mask, noise=2, low=90, high=90), mask), mask)


def test_a_holed_object_at_the_border_keeps_its_hole():
    sharp = disc(30, 20, 10) & ~disc(8, 20, 15)
    loose = disc(32, 20, 10) & ~disc(6, 20, 15)
    found = refined(picture(sharp), loose)
    assert iou(found, sharp) > 0.98
    assert not found[20, 15]


@pytest.mark.parametrize(
    "mask", [np.zeros((9, 9), bool), np.ones((9, 9), bool), np.eye(9, dtype=bool), np.pad([[True]], 4)]
)
def test_masks_without_room_for_a_band(mask):
    assert np.array_equal(refined(picture(mask), mask), mask)


def test_only_the_masks_own_window_is_looked_at():
    mask = disc(14, 40, 40)
    image = picture(disc(12, 40, 40), noise=20)
    wide = np.random.default_rng(1).integers(0, 256, (300, 400, 3)).astype(np.uint8)
    wide[100 : 100 + HEIGHT, 200 : 200 + WIDTH] = image
    moved = np.zeros((300, 400), bool)
    moved[100 : 100 + HEIGHT, 200 : 200 + WIDTH] = mask
    there = refined(wide, moved)
    assert np.array_equal(there[100 : 100 + HEIGHT, 200 : 200 + WIDTH], refined(image, mask))
    assert there.sum() == there[100 : 100 + HEIGHT, 200 : 200 + WIDTH].sum()


def test_inertia_holds_against_weak_edges():
    sharp, loose = disc(25), disc(28)
    image = picture(sharp, low=100, high=108)
    assert np.array_equal(refined(image, loose, inertia=0.1), loose)
    assert iou(refined(image, loose, inertia=0.01), sharp) > 0.98


def lowest_ways(relief, seeds, mask, inertia, value):
    """Height of the lowest way from each pixel to a seed, by Dijkstra's algorithm."""
    height, width = seeds.shape
    best = np.full(seeds.shape, np.inf)
    queue = [(0.0, int(row), int(column)) for row, column in np.argwhere(seeds == value)]
    while queue:
        cost, row, column = heapq.heappop(queue)
        if cost >= best[row, column]:
            continue
        best[row, column] = cost
        for r, c in ((row + 1, column), (row - 1, column), (row, column + 1), (row, column - 1)):
            if 0 <= r < height and 0 <= c < width and seeds[r, c] in (0, value):
                step = (relief[row, column] + relief[r, c]) / 2 + inertia * (mask[row, column] != mask[r, c])
                heapq.heappush(queue, (max(cost, step), r, c))
    return best


@settings(max_examples=25, deadline=None)
@given(arrays(np.uint8, (6, 7), elements=st.integers(0, 40)), st.integers(0, 10**6))
def test_the_flood_is_a_watershed(heights, seed):
    rng = np.random.default_rng(seed)
    relief = (heights / 41 + rng.random(heights.shape) * 1e-3).astype(np.float32)
    seeds = rng.choice(np.array([0, 1, 2], dtype=np.int8), heights.shape, p=[0.8, 0.1, 0.1])
    seeds[0, 0], seeds[-1, -1] = 1, 2
    mask = rng.random(heights.shape) < 0.5
    inside = flood(relief, seeds, mask, 0.2)
    to_inside, to_outside = (lowest_ways(relief.astype(float), seeds, mask, 0.2, value) for value in (1, 2))
    assert inside[seeds == 1].all()
    assert not inside[seeds == 2].any()
    assert (to_inside <= to_outside + 1e-6)[inside].all()
    assert (to_outside <= to_inside + 1e-6)[~inside].all()
