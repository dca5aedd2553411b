"""What is shown and which regions are looked at: each rule by hand."""

import pytest
from plan_data import GPU, changes, decided, fingerprint

from finemask.planning.direction import Direction
from finemask.planning.region_rules import proposals, regions
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
        (1000, [1000, 15, 5], 0.02),  # the rarest twice as often: the root of 0.02 / 0.005
        (10_000, [10_000, 1], 0.0016),  # four times as often at most: 16 times the share of the rarest
        (1000, [1000, 20], None),  # 2 % are not rare
        (400, [400, 2], None),  # too few images to repeat some
        (1000, [5, 4], None),  # none is frequent
        (1000, [1000, 0], None),  # no image of it can be repeated
    ],
)
def test_rare_classes_are_shown_more_often_where_there_are_many_images(images, with_class, expected) -> None:
    data = fingerprint(images=images, images_per_class=with_class)
    found = decided(rare_classes, data)
    assert changes(found) == ({} if expected is None else {"data.repeat_threshold": expected})
    assert decided(rare_classes, data, data__repeat_threshold=0.5) is None
    if with_class == [1000, 15, 5]:
        assert found.why.startswith("2 classes are in under 2.0 % of 1,000 images (class 2, class 1): shown up to 2.0")


def test_crowded_images_have_room_for_all_their_objects() -> None:
    crowded = fingerprint(images=100, per_image=[10] * 70 + [50] * 29 + [375], boxes_px=[20])
    rpn = [f"model.rpn.{stage}_nms_top_n_{mode}" for stage in ("pre", "post") for mode in ("train", "test")]
    assert changes(decided(proposals, crowded, machine=GPU)) == dict.fromkeys(rpn, 800)  # two an object, in hundreds
    assert set(changes(decided(proposals, crowded, machine=GPU, model__rpn__pre_nms_top_n_test=300))) == {*rpn} - {
        rpn[1]
    }
    assert decided(proposals, crowded, "resnet50_fpn", machine=GPU) is None, "it has 1,000 and more"
    assert decided(proposals, fingerprint(), machine=GPU) is None
    assert changes(decided(regions, crowded, machine=GPU)) == {
        "model.sampler.batch_size_per_image": 224
    }  # four for each of 50: 200
    assert decided(regions, crowded, machine=GPU, model__sampler__batch_size_per_image=96) is None
    assert decided(regions, fingerprint(), machine=GPU) is None
    assert changes(decided(regions, fingerprint(per_image=[200], boxes_px=[20]), machine=GPU)) == {
        "model.sampler.batch_size_per_image": 256
    }
    assert decided(regions, crowded) is None, "without a GPU they cost too much"
    assert decided(proposals, crowded) is None
