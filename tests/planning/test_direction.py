"""Whether objects have an up: on scenes in which it is known."""

import numpy as np
import pytest

from finemask.planning.direction import _lean, direction_of


def scene(images: int, per_image: int, *, tall: float, depth: float = 0.0, seed: int = 0):
    """Boxes twice as long as wide, of which a share stands; ``depth`` makes those below larger."""
    rng = np.random.default_rng(seed)
    count = images * per_image
    stands = rng.random(count) < tall
    centre = rng.uniform(100, 900, (count, 2))
    side = np.exp(rng.normal(3, 0.3, count) + depth * centre[:, 1] / 1000)
    half = np.where(stands[:, None], [0.5, 1.0], [1.0, 0.5]) * side[:, None] / 2
    boxes = np.concatenate([centre - half, centre + half], axis=1)
    image = np.repeat(np.arange(images), per_image)
    return boxes, np.full((count, 2), 1000), image, rng.integers(1, 3, count)


def test_the_lean_of_counts() -> None:
    tall, wide = np.array([[30.0, 0.0], [20.0, 10.0]]), np.array([[10.0, 0.0], [20.0, 10.0]])
    # (30 - 10)² / 40 - 1 = 9 of 40 objects; a class without objects says nothing; halves lean nowhere
    np.testing.assert_allclose(_lean(tall, wide), [(9 / 40) ** 0.5, 0.0])


@pytest.mark.parametrize("seed", range(5))
def test_what_lies_in_every_direction_has_no_up(seed: int) -> None:
    found = direction_of(*scene(60, 40, tall=0.5, seed=seed))
    assert found.is_absent
    assert found.lean < found.most_lean < 0.15


@pytest.mark.parametrize(
    "known",
    [
        {"tall": 0.9},  # people
        {"tall": 0.3},  # cars
        {"tall": 0.5, "depth": 2.0},  # balls on a field: the nearer ones are larger, and lower in the picture
    ],
)
def test_what_stands_or_recedes_has_an_up(known) -> None:
    found = direction_of(*scene(60, 40, **known))
    assert found.lean is not None
    assert not found.is_absent


def test_a_half_of_two_classes_that_lean_apart_is_no_symmetry() -> None:
    boxes, size_hw, image, _ = scene(60, 40, tall=0.5)
    stands = (boxes[:, 3] - boxes[:, 1]) > (boxes[:, 2] - boxes[:, 0])
    assert not direction_of(boxes, size_hw, image, np.where(stands, 1, 2)).is_absent


def test_few_images_or_round_objects_tell_nothing() -> None:
    assert direction_of(*scene(19, 100, tall=0.5)).lean is None
    assert direction_of(*scene(60, 3, tall=0.5)).lean is None
    boxes, size_hw, image, labels = scene(60, 40, tall=0.5)
    boxes[:, 2:] = boxes[:, :2] + 10
    assert direction_of(boxes, size_hw, image, labels).lean is None
    nothing = np.zeros((0, 4)), np.zeros((0, 2)), np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)
    assert not direction_of(*nothing).is_absent
