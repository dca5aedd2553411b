"""Outlines against pycocotools' own pixels, shapes against their formulas."""

import math

import numpy as np
import pytest
from convert_data import blob
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from finemask.datatools.convert.records import (
    ellipse,
    has_bridge,
    is_polygon,
    mask_rings,
    rectangle,
)
from finemask.ops.contours import bridge_rings
from finemask.ops.rle import mask_to_rle, rle_from_polygons, rle_to_mask

MASKS = npst.arrays(np.bool_, st.tuples(st.integers(1, 12), st.integers(1, 12)))


def shoelace(points):
    x, y = np.asarray(points, dtype=float).reshape(-1, 2).T
    return float(x @ np.roll(y, -1) - y @ np.roll(x, -1)) / 2


def rasterised(ring, shape):
    return rle_to_mask(rle_from_polygons([ring.ravel().tolist()], *shape)).astype(bool)


@settings(max_examples=150, deadline=None)
@given(MASKS)
def test_rings_and_their_bridges_give_the_very_pixels_back(mask) -> None:
    rings = mask_rings(mask_to_rle(mask))
    if not mask.any():
        assert rings == []
        return
    odd = np.zeros_like(mask)
    for ring in rings:
        odd ^= rasterised(ring, mask.shape)
    assert (odd == mask).all()
    assert (rasterised(bridge_rings(rings), mask.shape) == mask).all()
    assert (np.concatenate(rings) == np.round(np.concatenate(rings))).all()


def test_outer_rings_less_holes_have_the_area_of_the_mask() -> None:
    mask = np.zeros((20, 30), dtype=bool)
    mask[2:18, 3:25] = True
    mask[5:9, 6:10] = False
    mask[10:14, 12:20] = False
    rings = mask_rings(mask_to_rle(mask))
    areas = sorted(abs(shoelace(ring)) for ring in rings)
    assert areas == [16, 32, 16 * 22]
    assert mask.sum() == 16 * 22 - 16 - 32
    assert all(len(ring) == 4 for ring in rings)


@pytest.mark.parametrize("seed", range(6))
def test_a_thinned_outline_has_fewer_points_and_stays_near(seed) -> None:
    mask = blob(np.random.default_rng(seed), 60, 70)
    exact, thin = mask_rings(mask_to_rle(mask)), mask_rings(mask_to_rle(mask), tolerance_px=1.0)
    assert len(exact) == len(thin)
    assert sum(map(len, thin)) < 0.6 * sum(map(len, exact))


def test_bridges_are_recognised() -> None:
    outer = np.array([(0, 0), (10, 0), (10, 10), (0, 10)], dtype=float)
    hole = np.array([(3, 3), (3, 6), (6, 6), (6, 3)], dtype=float)
    joined = bridge_rings([outer, hole])
    assert has_bridge(joined.ravel().tolist())
    assert abs(shoelace(joined)) in (100 - 9, 100 + 9)  # the bridge encloses nothing
    assert not has_bridge(outer.ravel().tolist())
    assert not has_bridge([0, 0, 4, 0, 4, 4, 0, 0])  # a repeated first point is no bridge


@pytest.mark.parametrize(("rx", "ry"), [(1, 1), (8, 3), (250, 90)])
def test_an_ellipse_has_its_area_and_extent(rx, ry) -> None:
    points = ellipse(40, 30, rx, ry)
    assert abs(shoelace(points)) == pytest.approx(math.pi * rx * ry, rel=0.07)
    assert abs(shoelace(points)) > math.pi * rx * ry - 0.11 * math.pi * (rx + ry)
    assert max(points[::2]) == pytest.approx(40 + rx)
    assert min(points[1::2]) == pytest.approx(30 - ry, abs=0.06)


def test_turning_is_clockwise_on_the_screen() -> None:
    turned = np.array(rectangle(0, 0, 4, 2, 90)).reshape(-1, 2)
    # the upper left corner of a box that lies goes to the upper right of one that stands
    assert turned[0] == pytest.approx([3, -1])
    assert turned[1] == pytest.approx([3, 3])
    quarter = np.array(ellipse(0, 0, 5, 1, math.pi / 2)).reshape(-1, 2)
    assert quarter[0] == pytest.approx([0, 5])


def test_polygons_need_three_finite_points() -> None:
    assert is_polygon([0, 0, 1, 0, 1, 1])
    assert not is_polygon([0, 0, 1, 0])
    assert not is_polygon([0, 0, 1, 0, 1, 1, 2])
    assert not is_polygon([0, 0, 1, 0, 1, math.nan])
