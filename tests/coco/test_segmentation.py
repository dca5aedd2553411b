"""What stands under ``segmentation``: masks agree with pycocotools, faults are named, nothing is misread."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco_mask

from finemask.coco.polygons import crosses_itself
from finemask.coco.segmentation import Outline, read_outlines

HEIGHT, WIDTH = 40, 50
SQUARE = [10.0, 10.0, 20.0, 10.0, 20.0, 20.0, 10.0, 20.0]


def read(segmentation, height=HEIGHT, width=WIDTH) -> Outline:
    return read_outlines([(segmentation, height, width)])[0]


def rules_of(segmentation):
    return [fault.rule for fault in read(segmentation).faults]


coordinate = st.floats(-30, 80, allow_nan=False)
polygon = st.lists(st.tuples(coordinate, coordinate), min_size=3, max_size=12).map(
    lambda points: [number for point in points for number in point]
)


@settings(max_examples=80, deadline=None)
@given(
    entries=st.lists(st.tuples(st.lists(polygon, min_size=1, max_size=3), st.integers(5, 60)), min_size=1, max_size=6)
)
def test_polygons_read_together_have_the_masks_that_pycocotools_gives_them_one_by_one(entries):
    outlines = read_outlines([(parts, height, WIDTH) for parts, height in entries])
    for (parts, height), outline in zip(entries, outlines, strict=True):
        if outline.faults:
            assert {fault.rule for fault in outline.faults} == {"polygon-no-area"}
            continue
        expected = coco_mask.merge(coco_mask.frPyObjects(parts, height, WIDTH))
        assert outline.area == coco_mask.area(expected)
        points = np.concatenate([np.reshape(part, (-1, 2)) for part in parts])
        assert outline.extent_xyxy == (*points.min(axis=0), *points.max(axis=0))
        if outline.area:
            assert outline.rle == {"size": [height, WIDTH], "counts": expected["counts"].decode()}
            x, y, w, h = coco_mask.toBbox(expected)
            assert outline.box_xyxy == (x, y, x + w, y + h)
        else:
            assert outline.rle is None


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10_000), share=st.floats(0, 1))
def test_run_lengths_compressed_or_not_are_the_mask_they_encode(seed, share):
    mask = (np.random.default_rng(seed).random((HEIGHT, WIDTH)) < share).astype(np.uint8)
    encoded = coco_mask.encode(np.asfortranarray(mask))
    flat = mask.ravel(order="F")
    counts = np.diff(np.concatenate([[0], np.flatnonzero(np.diff(flat)) + 1, [flat.size]])).tolist()
    counts = counts if flat[0] == 0 else [0, *counts]
    for written in (encoded["counts"].decode(), counts):
        outline = read({"size": [HEIGHT, WIDTH], "counts": written})
        assert outline.faults == ()
        assert outline.area == mask.sum()
        if mask.any():
            ys, xs = np.nonzero(mask)
            assert outline.rle["counts"].encode() == encoded["counts"]
            assert outline.box_xyxy == (xs.min(), ys.min(), xs.max() + 1, ys.max() + 1)


@pytest.mark.parametrize(
    ("segmentation", "rule"),
    [
        ("a word", "segmentation-invalid"),
        (7, "segmentation-invalid"),
        (True, "segmentation-invalid"),
        ({"size": [HEIGHT, WIDTH]}, "segmentation-invalid"),
        ({"counts": [2000]}, "rle-size"),
        ({"size": [HEIGHT, WIDTH], "counts": None}, "segmentation-invalid"),
        ([None], "segmentation-invalid"),
        ([SQUARE, "x"], "segmentation-invalid"),
        (SQUARE, "segmentation-nesting"),
        ([[[10, 10], [20, 10], [20, 20]]], "segmentation-nesting"),
        ([[10, 10], [20, 10], [20, 20]], "segmentation-nesting"),
        ([{"size": [HEIGHT, WIDTH], "counts": [2000]}], "segmentation-nesting"),
        ([[10, 10, 20, 20]], "polygon-is-box"),
        ([SQUARE[:-1]], "polygon-odd"),
        ([[1.0]], "polygon-odd"),
        ([[]], "polygon-too-few-points"),
        ([[5, 5]], "polygon-too-few-points"),
        ([[1, 2, 3, "4", 5, 6]], "polygon-not-numbers"),
        ([[1, 2, 3, True, 5, 6]], "polygon-not-numbers"),
        ([[1, 2, 3, float("nan"), 5, 6]], "polygon-not-finite"),
        ([[1, 2, 3, float("-inf"), 5, 6]], "polygon-not-finite"),
        ([[1, 2, 3, 10**400, 5, 6]], "polygon-not-finite"),
        ([[1, 2, 3, 1e200, 5, 6]], "polygon-not-finite"),
        ([[1, 2, 3, 90_000, 5, 6]], "polygon-far-away"),
        ([[1, 2, 3, -1501, 5, 6]], "polygon-far-away"),
        ([[1, 1, 2, 2, 9, 9, 4, 4]], "polygon-no-area"),
        ([[3, 3, 3, 3, 3, 3]], "polygon-no-area"),
        ({"size": [WIDTH, HEIGHT], "counts": [2000]}, "rle-size"),
        ({"size": [HEIGHT], "counts": [2000]}, "rle-size"),
        ({"size": "large", "counts": [2000]}, "rle-size"),
        ({"size": [HEIGHT, WIDTH], "counts": [1999]}, "rle-counts"),
        ({"size": [HEIGHT, WIDTH], "counts": [2010, -10]}, "rle-counts"),
        ({"size": [HEIGHT, WIDTH], "counts": [1.5, 1998.5]}, "rle-counts"),
        ({"size": [HEIGHT, WIDTH], "counts": []}, "rle-counts"),
        ({"size": [HEIGHT, WIDTH], "counts": ""}, "rle-counts"),
        ({"size": [HEIGHT, WIDTH], "counts": "no such é"}, "rle-counts"),
        ({"size": [HEIGHT, WIDTH], "counts": "o"}, "rle-counts"),
    ],
)
def test_each_kind_of_fault_has_its_rule(segmentation, rule):
    assert rules_of(segmentation) == [rule]
    assert read(segmentation).rle is None


def test_the_sound_polygons_of_an_annotation_are_kept():
    (fault,) = read([SQUARE, [1, 2, 3, 4], [5, 6, 7, 8]]).faults
    assert fault.repaired == [SQUARE]
    assert (
        fault.message
        == "a polygon has 4 numbers, [1, 2, 3, 4], which is a box or a line but no outline (and 1 more of its 3)"
    )
    two = read([SQUARE, [1, 2, 3, 4], [1.0]]).faults
    assert [fault.rule for fault in two] == ["polygon-is-box", "polygon-odd"]
    assert read([[1, 2, 3, 4]]).faults[0].repaired is None


def test_what_was_nested_wrongly_is_the_same_polygon():
    pairs = [[SQUARE[i], SQUARE[i + 1]] for i in range(0, 8, 2)]
    for wrong in (SQUARE, pairs, [pairs], [SQUARE, pairs]):
        (fault,) = read(wrong).faults
        assert fault.repaired in ([SQUARE], [SQUARE, SQUARE])
        assert read(fault.repaired).area == 100


def test_only_a_size_that_is_certain_is_mended():
    turned = {"size": [WIDTH, HEIGHT], "counts": [2000]}
    assert read(turned).faults[0].repaired == {"size": [HEIGHT, WIDTH], "counts": [2000]}
    assert read({"size": [20, 100], "counts": [2000]}).faults[0].repaired is None
    assert read({"size": [WIDTH, HEIGHT], "counts": [1999]}).faults[0].repaired is None


def test_text_of_python_bytes_is_taken_back():
    mask = np.zeros((HEIGHT, WIDTH), dtype=np.uint8)
    mask[3:30, 7:9] = 1
    counts = coco_mask.encode(np.asfortranarray(mask))["counts"]
    rle = {"size": [HEIGHT, WIDTH], "counts": str(counts)}
    assert read(rle).faults[0].repaired == {"size": [HEIGHT, WIDTH], "counts": counts.decode()}
    assert read({**rle, "counts": "b'zz'"}).faults[0].repaired is None


def test_a_mask_without_pixels_is_no_fault_of_the_outline():
    for empty in ([[100, 5, 120, 5, 120, 25]], {"size": [HEIGHT, WIDTH], "counts": [2000]}):
        outline = read(empty)
        assert (outline.faults, outline.rle, outline.area, outline.box_xyxy) == ((), None, 0, None)


def brute_force_crossing(points):
    """Two segments cross where their parameters, found by Cramer's rule, both lie strictly between 0 and 1."""
    n = len(points)
    for i in range(n):
        for j in range(i + 1, n):
            (a, b), (c, d) = (points[i], points[(i + 1) % n]), (points[j], points[(j + 1) % n])
            u, v, w = np.subtract(b, a), np.subtract(d, c), np.subtract(c, a)
            determinant = u[0] * v[1] - u[1] * v[0]
            if determinant == 0:
                continue
            s, t = (w[0] * v[1] - w[1] * v[0]) / determinant, (w[0] * u[1] - w[1] * u[0]) / determinant
            if 0 < s < 1 and 0 < t < 1:
                return True
    return False


@settings(max_examples=150, deadline=None)
@given(points=st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=3, max_size=9))
def test_crossing_agrees_with_solving_for_the_point_where_edges_meet(points):
    assert crosses_itself([number for point in points for number in point]) == brute_force_crossing(points)


def test_touching_is_not_crossing():
    assert crosses_itself([0, 0, 10, 10, 10, 0, 0, 10])
    assert not crosses_itself([0, 0, 10, 0, 5, 5, 10, 10, 0, 10, 5, 5])  # two triangles that meet in a point
    angles = np.linspace(0, 2 * np.pi, 3000, endpoint=False)
    assert not crosses_itself(np.stack([np.cos(angles), np.sin(angles)], axis=1).ravel().tolist())


def test_only_crossings_that_change_the_mask_are_looked_at():
    bow_tie = [10, 10, 30, 30, 30, 10, 10, 30]
    nick = [10, 10, 30, 10, 30, 30, 20, 30, 20.2, 29.8, 20.2, 30.2, 19, 30, 10, 30]  # a tiny loop in one edge
    assert read([SQUARE, bow_tie]).doubtful_parts == (1,)
    assert read([nick]).doubtful_parts == ()
