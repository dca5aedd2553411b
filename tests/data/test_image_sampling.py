"""How often images are shown: LVIS's repeat factors, images without objects, parts that are held out."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from finemask.coco.index import CocoIndex
from finemask.data.datamodule import CocoDataModule
from finemask.data.image_sampling import (
    checked_part,
    held_out,
    image_weights,
    images_per_class,
    objects_per_image,
    repeat_factors,
)
from finemask.errors import ConfigError, DataError


@pytest.fixture
def index_of(write_dataset):
    """Makes an index of images given as lists of category ids; a negative id is a crowd of that category."""

    def make(images, num_classes):
        document = {
            "images": [{"id": i, "file_name": "same.png", "height": 8, "width": 8} for i in range(len(images))],
            "categories": [{"id": k, "name": f"class {k}"} for k in range(1, num_classes + 1)],
            "annotations": [],
        }
        square = [[1, 1, 6, 1, 6, 6, 1, 6]]
        for i, ids in enumerate(images):
            for k in ids:
                entry = {"id": len(document["annotations"]), "image_id": i, "category_id": abs(k)}
                entry |= {"segmentation": square} if k > 0 else {"iscrowd": 1, "bbox": [1, 1, 3, 3]}
                document["annotations"].append(entry)
        for i, entry in enumerate(document["images"]):
            entry["file_name"] = f"{i}.png"
        return CocoIndex.read(*write_dataset(document))

    return make


def test_repeat_factors_by_hand(index_of):
    """Ten images. Class 1 in eight, 2 in two, 3 in one (and as a crowd in another), 4 in none."""
    images = [[1, 1, 1], [1], [1], [1], [1], [1], [1, 2], [1, 2, 2, 3], [-3], []]
    index = index_of(images, 4)
    assert images_per_class(index).tolist() == [8, 2, 1, 0]
    assert objects_per_image(index).tolist() == [3, 1, 1, 1, 1, 1, 2, 4, 0, 0]
    # at 0.4: sqrt(0.4 / 0.8) is under 1, sqrt(0.4 / 0.2) = sqrt(2), sqrt(0.4 / 0.1) = 2
    expected = [1, 1, 1, 1, 1, 1, math.sqrt(2), 2, 1, 1]
    np.testing.assert_allclose(repeat_factors(index, 0.4), expected)
    np.testing.assert_allclose(repeat_factors(index, 0.1), 1)
    np.testing.assert_allclose(image_weights(index, "keep", 0.4), expected)
    # without the two empty ones, eight images are left: 1 in all of them, 2 in a quarter, 3 in an eighth
    expected = [1, 1, 1, 1, 1, 1, math.sqrt(1.6), math.sqrt(3.2), 0, 0]
    np.testing.assert_allclose(image_weights(index, "drop", 0.4), expected)
    assert image_weights(index, 0.25).tolist() == [1] * 8 + [0.25] * 2
    assert image_weights(index).tolist() == [1] * 10


def by_the_book(images, threshold):
    """Gupta et al. (2019), section on the baseline's details, word by word."""
    f = {}
    for ids in images:
        for c in {k for k in ids if k > 0}:
            f[c] = f.get(c, 0) + 1 / len(images)
    r = {c: max(1, math.sqrt(threshold / f[c])) for c in f}
    return [max([r[c] for c in ids if c > 0], default=1) for ids in images]


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.lists(st.integers(-6, 6).filter(bool), max_size=5), min_size=1, max_size=12),
    st.floats(0.001, 1.0),
)
def test_repeat_factors_by_the_book(images, threshold):
    class Index:
        """What is read of an index, without a file for every example."""

        def __init__(self):
            self.categories = list(range(6))
            self.labels = np.array([abs(k) for ids in images for k in ids], dtype=np.int64)
            self.iscrowd = np.array([k < 0 for ids in images for k in ids], dtype=bool)
            self.first_annotation = np.concatenate([[0], np.cumsum([len(ids) for ids in images])]).astype(np.int64)

        def __len__(self):
            return len(images)

    np.testing.assert_allclose(repeat_factors(Index(), threshold), by_the_book(images, threshold))


def test_nothing_left_is_an_error(index_of):
    index = index_of([[], [-1]], 1)
    assert image_weights(index, "keep").tolist() == [1, 1]
    with pytest.raises(DataError, match=r"train\.json: no image in it has an object.*data\.empty_images=keep"):
        image_weights(index, "drop")
    np.testing.assert_allclose(image_weights(index, "keep", 0.5), 1)


def test_wrong_values_are_named(index_of):
    index = index_of([[1]], 1)
    for wrong in ("some", -0.1, 1.5, True, float("nan")):
        with pytest.raises(ConfigError, match=r"data\.empty_images: .*keep, drop, or the fraction"):
            image_weights(index, wrong)
    for wrong in (0, 1.01, -1, True, "rare"):
        with pytest.raises(ConfigError, match=r"data\.repeat_threshold: "):
            image_weights(index, "keep", wrong)


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
