"""Polygons drawn at once have the very runs of pycocotools' rasteriser."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco_mask

from finemask.coco.polygon_runs import runs_of_polygons
from finemask.ops.mask_runs import decode_runs

# fifths: on the middle of a column (5 x + 2), beside it, outside on every side
fifth = st.one_of(st.integers(-150, 450), st.integers(-10, 80).map(lambda x: 5 * x + 2), st.integers(-5, 8))
polygon = st.lists(st.tuples(fifth, fifth), min_size=3, max_size=9)
masks = st.lists(st.lists(polygon, min_size=1, max_size=3), max_size=5)


def expected(masks, height, width):
    """Each mask by ``frPyObjects`` and ``merge``; coordinates in the middle of what rounds to each fifth."""
    counts = []
    for parts in masks:
        outlines = [[(v - (v < 0)) / 5 for point in part for v in point] for part in parts]
        counts.append(coco_mask.merge(coco_mask.frPyObjects(outlines, height, width))["counts"])
    return decode_runs(counts, np.tile([0, 0, width, height], (len(masks), 1)), (height, width))


def drawn(masks, height, width, dtype=np.int32):
    polygons = [np.array(part, dtype=dtype).ravel() for parts in masks for part in parts]
    points = np.concatenate([*polygons, np.zeros(0, dtype=dtype)])
    lengths = np.array([len(part) for part in polygons], dtype=np.int64)
    return runs_of_polygons(points, lengths, np.array([len(parts) for parts in masks], dtype=np.int64), (height, width))


def assert_same(masks, height, width, dtype=np.int32):
    ours, theirs = drawn(masks, height, width, dtype), expected(masks, height, width)
    assert (ours.num_masks, ours.size_hw) == (len(masks), (height, width))
    for mine, reference in zip(ours[:3], theirs[:3], strict=True):
        assert mine.dtype == np.int64
        np.testing.assert_array_equal(mine, reference)


@settings(max_examples=250, deadline=None)
@given(masks, st.integers(1, 70), st.integers(1, 70))
@example([], 5, 5)  # no mask
@example([[[(-90, -90), (-20, -90), (-20, -20)]]], 9, 5)  # outside
@example([[[(-90, -90), (500, -90), (500, 500), (-90, 500)]]], 9, 5)  # all of the image: one run through all columns
@example([[[(0, 0), (0, 30), (30, 30)], [(0, 0), (0, 30), (30, 30)]]], 9, 9)  # a part twice
@example([[[(0, 0), (0, 25), (25, 25), (25, 0)], [(0, 25), (0, 45), (25, 45), (25, 25)]]], 9, 9)  # parts that touch
@example([[[(2, 2), (2, 2), (2, 2)]], [[(7, 0), (7, 40), (7, 0)]]], 9, 9)  # without area
def test_the_runs_of_pycocotools(masks, height, width):
    assert_same(masks, height, width)


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 40), st.integers(-40, 40), st.integers(1, 60), st.integers(-59, 59))
def test_steep_edges_round_as_the_walk_does(x, y, down, across):
    """Slopes whose steps end on a tie, where another order of operations gives another pixel."""
    triangle = [(x, y), (x + across, y + down), (x + across + 35, y + down + 1)]
    assert_same([[triangle], [triangle[::-1]]], 40, 40)


def test_hundreds_of_masks_of_many_points():
    rng = np.random.default_rng(0)
    angles = np.linspace(0, 2 * np.pi, 60, endpoint=False)
    masks = []
    for _ in range(300):
        radius = rng.uniform(5, 90) * rng.uniform(0.6, 1, angles.size)
        outline = rng.uniform(0, 1500, 2) + radius[:, None] * np.stack([np.cos(angles), np.sin(angles)], axis=1)
        masks.append([outline.round().astype(int).tolist()])
    assert_same(masks, 300, 300, np.int16)


@pytest.mark.parametrize("far", [100_000, 5_000_000])
def test_an_edge_may_end_far_outside(far):
    assert_same([[[(3, 8), (far, 17), (-far, 4000)], [(far, far), (-far, 60), (60, -far)]]], 50, 40)
