"""Parts of the training images: each image in one of them, and none of a part is shown in training."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from finemask.coco.index import CocoIndex
from finemask.data.datamodule import CocoDataModule
from finemask.data.image_sampling import checked_part, held_out, image_weights
from finemask.errors import ConfigError, DataError


@given(st.lists(st.integers(-5, 10**20), unique=True, max_size=40), st.integers(2, 6), st.randoms())
def test_every_image_is_in_one_part_whatever_the_order(ids, parts, random):
    chosen = [held_out(ids, f"{k}/{parts}") for k in range(1, parts + 1)]
    sizes = [int(part.sum()) for part in chosen]
    assert np.sum(chosen, axis=0).tolist() == [1] * len(ids)
    assert max(sizes) - min(sizes) <= 1
    shuffled = random.sample(ids, len(ids))
    again = held_out(shuffled, f"1/{parts}")
    assert {id_ for id_, is_in in zip(shuffled, again, strict=True) if is_in} == {
        id_ for id_, is_in in zip(ids, chosen[0], strict=True) if is_in
    }


def test_the_parts_stay_what_they_are():
    """Pinned: SHA-256 of the decimal id, from sha256sum; a model file relies on it for years."""
    # printf 1 | sha256sum: 6b86…, 2: d473…, 3: 4e07…, 4: 4b22…, 5: ef2d… so the order is 4, 3, 1, 2, 5
    assert held_out([1, 2, 3, 4, 5], "1/2").tolist() == [True, False, False, True, True]
    assert held_out([1, 2, 3, 4, 5], "2/2").tolist() == [False, True, True, False, False]


@pytest.mark.parametrize("wrong", ["0/2", "3/2", "1/1", "half", "1/2/3", "", 0.5, None, True])
def test_what_is_no_part_is_refused(wrong):
    with pytest.raises(ConfigError, match=r"data\.held_out"):
        checked_part(wrong)


def test_the_loader_never_shows_a_part(shapes_dir):
    seen = []
    for part in (None, "1/2", "2/2"):
        data = CocoDataModule(shapes_dir, val=None, batch_size=1, num_workers=0, cache=None, held_out=part)
        data.setup("fit")
        seen.append(sorted(int(targets[0]["image_id"]) for _, targets in data.train_dataloader()))
    assert seen[0] == sorted(seen[1] + seen[2])
    assert seen[1]
    assert seen[2]


def test_images_that_are_not_shown_weigh_nothing(document, write_dataset):
    index = CocoIndex.read(*write_dataset(document))
    assert image_weights(index, "keep", None, np.array([True, False, True])).tolist() == [1, 0, 1]
    with pytest.raises(DataError, match="no image in it has an object"):
        image_weights(index, "drop", None, np.array([False, False, True]))  # the empty one is left
