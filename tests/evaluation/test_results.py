"""Entries of a results file: what is let through at a glance is what a full check lets through."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from finemask.errors import DataError
from finemask.evaluation import results
from finemask.evaluation.ground_truth import ground_truth_from_dict
from finemask.ops.rle import mask_to_rle

NUMBERS = [0, 3, -1, 2.5, -0.5, True, None, "3", math.nan, math.inf, 10**400, [1]]


@settings(max_examples=400, deadline=None)
@given(st.data())
def test_an_entry_checked_at_a_glance_is_one_that_a_full_check_accepts_unchanged(data):
    """Any one or two of its parts replaced by something odd, or left out."""
    truth = ground_truth_from_dict(
        {
            "images": [{"id": 3, "height": 4, "width": 5}, {"id": 2}],
            "categories": [{"id": 3, "name": "fig"}],
            "annotations": [],
        }
    )
    rle = {"size": [4, 5], "counts": dict(mask_to_rle(np.eye(4, 5)))["counts"]}
    entry = {"image_id": 3, "category_id": 3, "score": 0.5, "bbox": [0.0, 1, 2.5, 3], "segmentation": rle}
    odd = st.sampled_from(
        [*NUMBERS, [], {}, 2, [0, 0, 1], [0, 0, 0, 0], (0, 0, 1, 1), "none", [4, 5], [5, 4], [4.0, 5]]
    )
    for key in data.draw(st.lists(st.sampled_from([*entry, "size", "counts", "box number"]), max_size=2)):
        if key == "box number":
            position, value = data.draw(st.integers(0, 3)), data.draw(st.sampled_from(NUMBERS))
            entry["bbox"] = [value if number == position else 1.0 for number in range(4)]
        elif key in rle:
            rle[key] = data.draw(odd)
        elif data.draw(st.booleans()):
            entry.pop(key, None)
        else:
            entry[key] = data.draw(odd)
    found = results._usual(entry, truth, {3})
    if found is None:
        return
    if results.first_misfit([found["segmentation"]]):  # which is looked for in many at once, afterwards
        with pytest.raises(ValueError, match="its "):
            results._checked(entry, truth, {3}, ("bbox", "segm"))
        return
    assert found == results._checked(entry, truth, {3}, ("bbox", "segm"))
    assert [type(value) for value in found["bbox"]] == [float] * 4
    assert [type(side) for side in found["segmentation"]["size"]] == [int] * 2


@pytest.mark.parametrize("part", [{"score": 10**400}, {"bbox": [0, 0, 5, -(10**400)]}, {"bbox": [math.nan, 0, 5, 5]}])
def test_a_number_beyond_all_floats_is_refused_in_words(part):
    truth = ground_truth_from_dict(
        {"images": [{"id": 3}], "categories": [{"id": 3, "name": "fig"}], "annotations": []}, "truth.json"
    )
    entry = {"image_id": 3, "category_id": 3, "score": 0.5, "bbox": [0, 0, 5, 5]} | part
    with pytest.raises(DataError, match=r"results: entry 0 \(image 3\): .*finite number"):
        results.check_results([entry], truth, ("bbox",))
