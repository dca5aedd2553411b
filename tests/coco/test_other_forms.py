"""Segmentations in other forms than COCO's are turned into it without the loss of a pixel, and nothing else is."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco_mask

from finemask.coco.entries import number_in_text
from finemask.coco.other_forms import are_run_lengths, known_form
from finemask.coco.segmentation import read_outlines

HEIGHT, WIDTH = 30, 40


def runs_of(mask):
    flat = mask.ravel(order="F")
    edges = np.concatenate([[0], np.flatnonzero(np.diff(flat)) + 1, [flat.size]])
    counts = np.diff(edges).tolist()
    return counts if flat[0] == 0 else [0, *counts]


def repaired(segmentation):
    """What is left when each form has been undone, and the rules that did it."""
    rules = []
    for _ in range(5):
        (outline,) = read_outlines([(segmentation, HEIGHT, WIDTH)])
        if not outline.faults:
            return outline, rules
        rules.append(outline.faults[0].rule)
        segmentation = outline.faults[0].repaired
        assert segmentation is not None, rules
    raise AssertionError(rules)


RLE_FORMS = {
    "text of JSON": lambda text, runs: json.dumps({"size": [HEIGHT, WIDTH], "counts": text}),
    "text of text": lambda text, runs: json.dumps(json.dumps({"size": [HEIGHT, WIDTH], "counts": text})),
    "text of Python": lambda text, runs: str({"size": [HEIGHT, WIDTH], "counts": text}),
    "text of Python's bytes": lambda text, runs: str({"size": [HEIGHT, WIDTH], "counts": text.encode()}),
    "bytes in text": lambda text, runs: {"size": [HEIGHT, WIDTH], "counts": str(text.encode())},
    "in a list": lambda text, runs: [{"size": [HEIGHT, WIDTH], "counts": text}],
    "no size": lambda text, runs: {"counts": text},
    "turned size": lambda text, runs: {"size": [WIDTH, HEIGHT], "counts": text},
    "floats": lambda text, runs: {"size": [HEIGHT, WIDTH], "counts": [float(run) for run in runs]},
    "text of numbers": lambda text, runs: {"size": [HEIGHT, WIDTH], "counts": [str(run) for run in runs]},
    "text of a list": lambda text, runs: {"size": [HEIGHT, WIDTH], "counts": json.dumps(runs)},
    "everything at once": lambda text, runs: json.dumps([{"size": [WIDTH, HEIGHT], "counts": str(text.encode())}]),
}


@pytest.mark.parametrize("form", RLE_FORMS)
@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), share=st.floats(0.02, 0.9))
def test_run_lengths_keep_every_pixel(form, seed, share):
    rng = np.random.default_rng(seed)
    blocks = rng.random((6, 8)) < share
    mask = np.kron(blocks, np.ones((5, 5))).astype(np.uint8) if seed % 2 else (rng.random((HEIGHT, WIDTH)) < share)
    encoded = coco_mask.encode(np.asfortranarray(mask, dtype=np.uint8))
    outline, rules = repaired(RLE_FORMS[form](encoded["counts"].decode(), runs_of(mask.astype(np.uint8))))
    assert rules
    assert outline.area == np.count_nonzero(mask)
    if outline.rle is not None:
        assert (coco_mask.decode({**outline.rle, "counts": outline.rle["counts"].encode()}) == mask).all()


@settings(max_examples=40, deadline=None)
@given(x=st.integers(0, 30), y=st.integers(0, 20), w=st.integers(1, 10), h=st.integers(1, 10), nested=st.booleans())
def test_counts_in_place_of_a_polygon_are_run_lengths(x, y, w, h, nested):
    mask = np.zeros((HEIGHT, WIDTH), dtype=np.uint8)
    mask[y : y + h, x : x + w] = 1
    runs = runs_of(mask)
    outline, rules = repaired([runs] if nested else runs)
    assert rules == ["run-lengths-as-polygon"]
    assert outline.area == w * h


POLYGON_FORMS = {
    "points": lambda part: [[list(point) for point in zip(part[::2], part[1::2], strict=True)]],
    "points of one": lambda part: [list(point) for point in zip(part[::2], part[1::2], strict=True)],
    "flat": lambda part: part,
    "one list too many": lambda part: [[part]],
    "text": lambda part: [[str(value) for value in part]],
    "flat text": lambda part: [str(value) for value in part],
    "text of JSON": lambda part: json.dumps([part]),
    "an empty one beside": lambda part: [part, []],
    "a null beside": lambda part: [part, None],
}

inside = st.tuples(st.floats(0, WIDTH), st.floats(0, HEIGHT))


@pytest.mark.parametrize("form", POLYGON_FORMS)
@settings(max_examples=25, deadline=None)
@given(points=st.lists(inside, min_size=3, max_size=9))
def test_polygons_keep_every_pixel(form, points):
    part = [round(value, 3) for point in points for value in point]
    plain = read_outlines([([part], HEIGHT, WIDTH)])[0]
    if plain.faults:  # three points on a line
        return
    outline, rules = repaired(POLYGON_FORMS[form](part))
    assert rules
    assert (outline.rle, outline.area) == (plain.rle, plain.area)


@settings(max_examples=200, deadline=None)
@given(points=st.lists(st.tuples(st.integers(0, WIDTH), st.integers(0, HEIGHT)), min_size=3, max_size=80))
def test_no_polygon_inside_its_image_is_taken_for_run_lengths(points):
    part = [value for point in points for value in point]
    assert not are_run_lengths(part, HEIGHT, WIDTH)
    assert known_form([part], HEIGHT, WIDTH) is None


def test_several_run_lengths_in_a_list_are_one_mask():
    masks = np.zeros((2, HEIGHT, WIDTH), dtype=np.uint8)
    masks[0, 3:9, 4:20], masks[1, 6:20, 15:30] = 1, 1
    rles = [{"size": [HEIGHT, WIDTH], "counts": runs_of(mask)} for mask in masks]
    outline, rules = repaired(rles)
    assert rules == ["segmentation-nesting"]
    assert outline.area == np.count_nonzero(masks.any(axis=0))


@pytest.mark.parametrize(
    ("text", "number"),
    [("54.4", 54.4), (" 7 ", 7), ("-3", -3), ("1e2", 100.0), ("1_0", None), ("", None), ("nan", None), ("inf", None)],
)
def test_numbers_in_text(text, number):
    assert number_in_text(text) == number
    assert type(number_in_text(text)) is type(number)


@pytest.mark.parametrize("text", ["", "polygon", "[", "[]", "{}", "12", "null", '"x"', "[1, 2", "'" * 50, "[" * 10_000])
def test_text_that_spells_no_mask_stays_a_fault(text):
    (outline,) = read_outlines([(text, HEIGHT, WIDTH)])
    assert [(fault.rule, fault.repaired) for fault in outline.faults] == [("segmentation-invalid", None)]
