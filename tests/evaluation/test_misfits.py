"""RLEs that describe other pixels than their image has, found many at a time and named one at a time."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from finemask.coco.segmentation import rle_of_detection
from finemask.evaluation.results import first_misfit
from finemask.ops.rle import mask_to_rle
from finemask.types import Rle

SIZE = [9, 12]


def random_rles(seed: int, number: int) -> list[Rle]:
    rng = np.random.default_rng(seed)
    shares = rng.choice([0.0, 0.1, 0.5, 1.0], number)
    return [mask_to_rle(rng.random(SIZE) < share) for share in shares]


def one_by_one(rles: list[Rle]) -> int | None:
    for position, rle in enumerate(rles):
        try:
            rle_of_detection(rle, *rle["size"])
        except ValueError:
            return position
    return None


@given(seed=st.integers(0, 10_000), number=st.integers(0, 30))
@settings(max_examples=100, deadline=None)
def test_what_pycocotools_encodes_fits(seed, number):
    assert first_misfit(random_rles(seed, number)) is None


@given(
    seed=st.integers(0, 10_000),
    number=st.integers(1, 12),
    damage=st.lists(
        st.tuples(st.integers(0, 11), st.integers(0, 60), st.characters(max_codepoint=126)), min_size=1, max_size=4
    ),
)
@settings(max_examples=300, deadline=None)
def test_the_first_misfit_is_that_of_looking_one_by_one(seed, number, damage):
    rles = random_rles(seed, number)
    for which, place, character in damage:
        rle = rles[which % number]
        counts = rle["counts"]
        place %= len(counts) + 1
        rle["counts"] = counts[:place] + character + counts[place + 1 :]
    found = first_misfit(rles)
    assert (None if found is None else found[0]) == one_by_one(rles)


@pytest.mark.parametrize("counts", ["", "P", "0", "\x7f", "é"])
def test_what_is_no_counts_at_all_is_a_misfit(counts):
    rles = random_rles(0, 3)
    rles[1]["counts"] = counts
    found = first_misfit(rles)
    assert found is not None
    assert found[0] == 1
