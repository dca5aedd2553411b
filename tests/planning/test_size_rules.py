"""Image size and anchors: by hand, for objects whose size in training can be computed in one's head."""

import pytest
from plan_data import GPU, changes, decided, fingerprint

from finemask.planning.size_rules import anchors, image_size


@pytest.mark.parametrize(
    ("model", "data", "named"),
    [
        # 640 × 480 at 320 is a scale of 2/3
        ("light", {"boxes_px": [100]}, None),
        ("light", {"boxes_px": [24]}, None),  # 16 px are enough
        ("light", {"boxes_px": [23]}, "model.min_size=416 model.max_size=672"),
        ("light", {"boxes_px": [20] * 11 + [400] * 89}, "model.min_size=416 model.max_size=672"),
        ("light", {"boxes_px": [20] * 9 + [400] * 91}, None),  # nine of ten count
        ("light", {"boxes_px": [16]}, "model.min_size=512 model.max_size=832"),
        # long images keep their length: 1000 × 400 is 2.5 times as long as wide
        ("light", {"boxes_px": [18], "size_hw": (400, 1000)}, "model.min_size=416 model.max_size=1056"),
        # images of 160 px: 320 is twice that, and no more
        ("light", {"boxes_px": [5], "size_hw": (160, 160)}, None),
        # 60 × 2,000 px: the longer side bounds the size, and nothing is enlarged
        ("resnet50_fpn", {"boxes_px": [50], "size_hw": (60, 2000)}, None),
        ("resnet50_fpn", {"boxes_px": [2], "size_hw": (4000, 6000)}, None),  # torchvision's size is its largest
        ("light", {"per_image": [0]}, None),
    ],
)
@pytest.mark.parametrize("machine", [None, GPU])
def test_the_size_that_shows_nine_of_ten_objects_at_sixteen_pixels_is_named(model, data, named, machine) -> None:
    found = decided(image_size, fingerprint(**data), model, machine=machine)
    assert not changes(found)
    assert (found is not None and f": type {named} for a long training" in found.why) == (named is not None)


def test_what_a_larger_size_costs_is_said() -> None:
    assert decided(image_size, fingerprint(boxes_px=[16])).why == (
        "a tenth of the objects are under 11 px; at 512 px they would be under 17 px, but each step takes 2.6 times as "
        "long, which did not pay in 15 minutes of a core: type model.min_size=512 model.max_size=832 for a long "
        "training"
    )


@pytest.mark.parametrize(
    ("model", "size_hw", "expected"),
    [
        ("light", (100, 100), {"model.min_size": 192, "model.max_size": 320}),
        ("light", (256, 256), {}),
        ("resnet50_fpn", (256, 256), {"model.min_size": 512, "model.max_size": 864}),
    ],
)
def test_images_are_enlarged_to_twice_their_size_at_most(model, size_hw, expected) -> None:
    assert changes(decided(image_size, fingerprint(boxes_px=[50], size_hw=size_hw), model)) == expected


def test_objects_that_no_size_shows_are_to_be_cut_out_of_tiles() -> None:
    found = decided(image_size, fingerprint(boxes_px=[30], size_hw=(4000, 6000)))
    # 30 px of a tile of 960 are 16 px at 512
    assert "under 2 px; at 512 px they would be under 4 px" in found.why
    assert found.why.endswith("Tiles show more: finemask data tile size=960, and tile=auto in prediction")
    found = decided(image_size, fingerprint(boxes_px=[2], size_hw=(4000, 6000)), "resnet50_fpn")
    assert found.kept
    assert "finemask data tile size=256" in found.why
    assert "tile" not in decided(image_size, fingerprint(boxes_px=[5], size_hw=(160, 160))).why


def test_a_typed_size_is_kept_and_its_cost_said() -> None:
    small = fingerprint(boxes_px=[10] * 20 + [20] * 60)
    found = decided(image_size, small, model__min_size=64)
    assert found.kept
    assert found.why == (
        "kept as typed; at 64 px half of your objects are under 3 px and a tenth under 1 px; 512 px would show more"
    )
    assert decided(image_size, fingerprint(boxes_px=[400]), model__min_size=64) is None, "it costs nothing to speak of"
    assert decided(image_size, small, model__min_size=[256, 320]) is None
    assert ": type model.min_size=416 for" in decided(image_size, fingerprint(boxes_px=[20]), model__max_size=700).why


def test_anchors_are_fitted_where_the_usual_ones_miss() -> None:
    # squares of 8 px are 10 px at 320; the smallest anchor has 16: an overlap of 100 / 256
    tiny = fingerprint(boxes_px=[8], size_hw=(256, 256), images=200)
    found = decided(anchors, tiny, model__weights="imagenet")
    assert changes(found) == {"model/anchors": "auto"}
    assert found.why.startswith("0 % of the objects have an anchor that overlaps them by half")
    assert found.words() == ["model.anchors=auto"]
    assert decided(anchors, fingerprint(boxes_px=[60]), model__weights="imagenet") is None
    kept = decided(anchors, tiny, **{"model/anchors": "default"})
    assert kept.kept
    assert "kept as typed" in kept.why
    assert decided(anchors, tiny, **{"model/anchors": "auto", "model__anchors__fit": "auto"}) is None
    assert decided(anchors, fingerprint(per_image=[0]), model__weights="imagenet") is None


@pytest.mark.parametrize("weights", ["objects", "auto", "coco", "runs/mine/latest/model.safetensors"])
def test_anchors_that_a_pretrained_rpn_has_learned_stay(weights: str) -> None:
    tiny = fingerprint(boxes_px=[8], size_hw=(256, 256), images=200)
    assert decided(anchors, tiny, model__weights=weights) is None
    for of_backbone in ("imagenet", "none", "features.pth"):
        assert changes(decided(anchors, tiny, model__weights=of_backbone)) == {"model/anchors": "auto"}
