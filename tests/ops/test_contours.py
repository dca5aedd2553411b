import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco_mask

from finemask.ops.contours import mask_to_polygons


def area(ring):
    x, y = ring.T
    return (x @ np.roll(y, -1) - y @ np.roll(x, -1)) / 2


def rasterised(ring, height, width):
    rle = coco_mask.frPyObjects([ring.reshape(-1).tolist()], height, width)
    return coco_mask.decode(rle)[:, :, 0].astype(bool)


blobs = st.tuples(st.integers(1, 14), st.integers(1, 14), st.floats(0, 1), st.integers(0, 9999)).map(
    lambda v: np.random.default_rng(v[3]).random((v[0], v[1])) < v[2]
)


@settings(max_examples=150, deadline=None)
@given(blobs, st.integers(0, 5), st.integers(0, 5))
def test_exact_outlines_rasterise_to_the_very_mask(mask, x0, y0):
    height, width = mask.shape[0] + 5, mask.shape[1] + 5
    expected = np.zeros((height, width), bool)
    expected[y0 : y0 + mask.shape[0], x0 : x0 + mask.shape[1]] = mask
    drawn = np.zeros((height, width), bool)
    total = 0.0
    for polygon in mask_to_polygons(mask, x0, y0, tolerance_px=0):
        assert area(polygon.outer) > 0
        assert all(area(hole) < 0 for hole in polygon.holes)
        total += area(polygon.outer) + sum(area(hole) for hole in polygon.holes)
        part = rasterised(polygon.outer, height, width)
        for hole in polygon.holes:
            part &= ~rasterised(hole, height, width)
        drawn |= part
    assert total == mask.sum()
    assert np.array_equal(drawn, expected)


def test_a_ring_with_an_island_in_its_hole_and_parts_that_touch_at_a_corner():
    mask = np.zeros((9, 9), bool)
    mask[1:8, 1:8] = True
    mask[2:7, 2:7] = False
    mask[4, 4] = True
    ring, island = mask_to_polygons(mask)
    assert len(ring.holes) == 1
    assert sorted(map(tuple, ring.outer.tolist())) == [(1, 1), (1, 8), (8, 1), (8, 8)]
    assert (len(island.holes), area(island.outer)) == (0, 1)
    corner = np.eye(2, dtype=bool)
    assert [area(polygon.outer) for polygon in mask_to_polygons(corner)] == [1, 1]


def test_thinned_outlines_have_few_points_and_stay_close():
    rows, columns = np.mgrid[:200, :200]
    disc = (rows - 100) ** 2 + (columns - 100) ** 2 < 80**2
    (exact,) = mask_to_polygons(disc, tolerance_px=0)
    (thinned,) = mask_to_polygons(disc)
    assert len(thinned.outer) < len(exact.outer) / 5
    assert np.abs(np.linalg.norm(thinned.outer - 100.0, axis=1) - 80).max() < 2
    assert area(thinned.outer) == pytest.approx(disc.sum(), rel=0.01)


@pytest.mark.parametrize("radius", [1.5, 2.5, 4, 6, 9, 14, 25])
def test_the_outline_of_a_small_disc_is_not_coarse(radius):
    """Thinned within 1 px, a disc of 21 px is a square that keeps four fifths of it."""
    rows, columns = np.mgrid[:60, :60]
    disc = (rows - 30) ** 2 + (columns - 30) ** 2 < radius**2
    (thinned,) = mask_to_polygons(disc)
    drawn = rasterised(thinned.outer, 60, 60)
    assert (drawn & disc).sum() / (drawn | disc).sum() > 0.96


@pytest.mark.parametrize("mask", [np.zeros((0, 0), bool), np.zeros((3, 4), bool)])
def test_an_empty_mask_has_no_outline(mask):
    assert mask_to_polygons(mask) == []
