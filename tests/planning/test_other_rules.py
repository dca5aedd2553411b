"""What is shown, and how often: each rule by hand."""

import pytest
from plan_data import changes, decided, fingerprint

from finemask.planning.direction import Direction
from finemask.planning.showing_rules import augmentation, rare_classes

NO_UP = Direction(lean=0.02, depth=0.01, most_lean=0.05, most_depth=0.04)


def test_where_objects_lie_in_every_direction_it_is_said_that_images_may_be_turned() -> None:
    found = decided(augmentation, fingerprint(direction=NO_UP))
    assert found.kept
    assert found.words() == ["augment=light"]
    assert "augment=topdown turns the images" in found.why
    assert "(lean 0.02, at most 0.05)" in found.why
    assert decided(augmentation, fingerprint(direction=NO_UP), augment="flip") is None
    assert decided(augmentation, fingerprint(direction=NO_UP), **{"augment.transforms": []}) is None
    assert decided(augmentation, fingerprint()) is None, "too little to tell"
    uncertain = Direction(lean=0.02, depth=0.01, most_lean=0.3, most_depth=0.04)
    assert decided(augmentation, fingerprint(direction=uncertain)) is None


@pytest.mark.parametrize(
    ("images", "with_class", "expected"),
    [
        (1000, [1000, 30, 15], 0.06),  # 60 images are enough; the rarest twice as often: the root of 0.06 / 0.015
        (10_000, [10_000, 1], 0.0016),  # four times as often at most: 16 times the share of the rarest
        (1000, [1000, 60], None),  # 60 images are not rare
        (1000, [1000, 40], None),  # 1.2 times as often would change little
        (100, [100, 20], 0.5),  # nor is half of them
        (1000, [5, 4], None),  # none is frequent
        (1000, [1000, 0], None),  # no image of it can be repeated
    ],
)
def test_what_shows_rare_classes_more_often_is_named(images, with_class, expected) -> None:
    data = fingerprint(images=images, images_per_class=with_class)
    found = decided(rare_classes, data)
    assert not changes(found)
    assert (found is None) == (expected is None)
    if found is not None:
        assert found.words() == ["data.repeat_threshold=null"]
        assert f"data.repeat_threshold={expected} shows those" in found.why
    assert decided(rare_classes, data, data__repeat_threshold=0.5) is None
    if expected == 0.06:
        assert found.why.startswith("2 classes are in under 6.0 % of 1,000 images (class 2, class 1).")
        assert "up to 2.0 times as often" in found.why
