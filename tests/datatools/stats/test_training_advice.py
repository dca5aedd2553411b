"""Advice on datasets that call for it, and on those that do not; every override must compose."""

import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from stats_data import rectangle

from finemask.cli import VERBS
from finemask.config import compose
from finemask.datatools.stats.input_resolution import LEAST_PX, Resolution, choose_resolution, small_side
from finemask.datatools.stats.object_stats import measure_objects
from finemask.datatools.stats.training_advice import advise, train_command


@pytest.fixture
def advice_on(index_of, settings_of, tmp_path):
    """Advice by topic. Every override and command in it is composed on the way."""

    def advice(images, objects, *overrides, **options):
        index = index_of(images, objects, **options)
        found = advise(index, measure_objects(index), settings_of(*overrides), tmp_path / "images")
        if found:
            compose("train", ["data.root=DIR", *overrides, *(line for item in found for line in item.overrides)])
        for item in found:
            if item.command and "data tile" in VERBS:
                compose("data tile", shlex.split(item.command)[3:])
        return {item.topic: item for item in found}

    return advice


def grid_of(size_hw, side, number, step):
    """So many squares in rows."""
    per_row = (size_hw[1] - side) // step
    return [
        rectangle(size_hw, x, y, x + side, y + side)
        for x, y in ((k % per_row * step, k // per_row * step) for k in range(number))
    ]


def test_a_dataset_that_fits_needs_nothing(advice_on):
    hw = (800, 1000)
    objects = [(0, name, mask) for name in "ab" for mask in grid_of(hw, 90, 10, 97)]
    found = advice_on([hw], objects)
    assert {topic: item.state for topic, item in found.items()} == dict.fromkeys(
        ("image size", "tiles", "anchors", "detection cap", "rare classes"), "keep"
    )
    assert found["image size"].overrides == ("model.min_size=800", "model.max_size=1333")
    assert "about the size the images have" in found["image size"].text


def test_small_objects_ask_for_larger_images_and_those_are_enough(advice_on, index_of, settings_of):
    hw = (400, 500)
    objects = [(0, "a", mask) for mask in grid_of(hw, 8, 300, 20)]
    found = advice_on([hw], objects, "model=light")["image size"]
    assert found.state == "change"
    sizes = dict(override.split("=") for override in found.overrides)
    resolution = Resolution(int(sizes["model.min_size"]), int(sizes["model.max_size"]))
    index = index_of([hw], objects)
    measured = measure_objects(index)
    assert small_side(index, measured, resolution) >= LEAST_PX
    again = settings_of("model=light", *found.overrides)
    assert choose_resolution(index, measured, again) == resolution


def test_large_objects_in_small_images_can_do_with_less(advice_on):
    hw = (300, 400)
    found = advice_on([hw], [(0, "a", mask) for mask in grid_of(hw, 90, 6, 100)])["image size"]
    assert found.state == "option"
    assert found.overrides[0] == "model.min_size=320"
    assert "6.2 times fewer" in found.text


def test_small_objects_in_large_images_ask_for_tiles(advice_on, index_of, settings_of, tmp_path):
    hw = (1500, 2000)
    objects = [(0, "a", mask) for mask in grid_of(hw, 7, 40, 90)]
    found = advice_on([hw], objects)
    assert found["tiles"].state == "change"
    assert found["image size"].state == "keep"
    size, overlap = re.search(r"size=(\d+) overlap=([\d.]+)$", found["tiles"].command).groups()
    assert 800 / int(size) * 7 >= 16
    assert int(size) % 64 == 0
    assert float(overlap) == 0.1
    index = index_of([hw], objects)
    command = train_command(list(found.values()), settings_of(), tmp_path / "x.json", tmp_path)
    assert command.startswith("finemask train data.root=tiles")
    resolution = choose_resolution(index, measure_objects(index), settings_of())
    assert resolution.tile == int(size)
    assert resolution.sizes_hw(index.heights, index.widths).tolist() == [[800, 800]]


def test_tiny_images_are_not_enlarged_for_ever(advice_on):
    hw = (64, 64)
    found = advice_on([hw], [(0, "a", mask) for mask in grid_of(hw, 1, 30, 3)], "model=tiny")
    assert int(found["image size"].overrides[0].split("=")[1]) <= 256
    assert found["tiles"].state == "keep"


def test_anchors_for_the_size_that_is_advised(advice_on):
    hw = (800, 1000)
    found = advice_on([hw], [(0, "a", mask) for mask in grid_of(hw, 15, 400, 40)])
    assert found["image size"].state == "keep"
    assert found["anchors"].state == "change"
    (override,) = found["anchors"].overrides
    smallest = int(override.removeprefix("model.anchors.sizes=[").split(",")[0])
    assert 15 <= smallest < 15 * 2**0.5  # the IoU of two squares about one centre is the ratio of their areas


@pytest.mark.parametrize(
    ("override", "state", "advised"),
    [
        ("model.roi_heads.detections_per_img=auto", "keep", "auto"),
        ("model.roi_heads.detections_per_img=200", "keep", "200"),
        ("model.roi_heads.detections_per_img=100", "change", "auto"),
    ],
)
def test_room_for_the_fullest_image(advice_on, override, state, advised):
    hw = (200, 300)
    objects = [(0, "a", mask) for mask in grid_of(hw, 10, 150, 12)] + [(1, "a", rectangle(hw, 0, 0, 50, 50))]
    found = advice_on([hw, hw], objects, override)["detection cap"]
    assert found.state == state
    assert found.overrides[0] == f"model.roi_heads.detections_per_img={advised}"
    assert "150 objects" in found.text
    if advised == "auto" and state == "keep":
        assert "225" in found.text  # half as many again


def test_proposals_for_the_fullest_image(advice_on):
    hw = (200, 300)
    objects = [(0, "a", mask) for mask in grid_of(hw, 8, 170, 12)]
    assert "proposals" not in advice_on([hw], objects)
    found = advice_on([hw], objects, "model=light")["proposals"]
    assert found.state == "change"
    assert set(found.overrides) == {
        f"model.rpn.{stage}_nms_top_n_{mode}=400" for stage in ("pre", "post") for mode in ("train", "test")
    }


def test_boxes_that_suppression_would_drop(advice_on):
    hw = (200, 300)
    pairs = [(0, "a", rectangle(hw, x + shift, 0, x + shift + 40, 40)) for x in (0, 100, 200) for shift in (0, 12)]
    found = advice_on([hw], pairs)["crowded boxes"]  # IoU 28 / 52
    assert found.state == "option"
    assert found.overrides == ("model.roi_heads.nms_thresh=0.6",)
    assert "6 objects" in found.text
    assert "crowded boxes" not in advice_on([hw], pairs, "model.roi_heads.nms_thresh=0.6")


def test_rare_classes_are_repeated_as_the_sampler_understands_it(advice_on):
    hw = (60, 60)
    mask = rectangle(hw, 5, 5, 40, 40)
    objects = [(k, "common", mask) for k in range(40)] + [(k, "middle", mask) for k in range(20)]
    objects += [(0, "rare", mask), (1, "rare", mask)]
    found = advice_on([hw] * 40, objects, names=["common", "middle", "rare", "absent"])["rare classes"]
    assert found.state == "change"
    assert found.overrides == ("data.repeat_threshold=0.5",)  # the median class is in half of the images
    assert "20.0 times" in found.text
    assert "1 class has no object at all: absent." in found.text
    assert "1 class has fewer than 10: rare." in found.text
    assert "3.2 times an epoch" in found.text  # sqrt(0.5 / 0.05)


def test_classes_that_are_even_or_all_rare_repeat_nothing(advice_on):
    hw = (60, 60)
    mask = rectangle(hw, 5, 5, 40, 40)
    even = advice_on([hw, hw], [(0, "a", mask), (1, "b", mask)])["rare classes"]
    assert (even.state, even.overrides) == ("keep", ("data.repeat_threshold=null",))
    small = grid_of(hw, 4, 20, 6)
    rare = advice_on([hw] * 4, [(0, "a", m) for m in small] + [(k, name, mask) for k, name in enumerate("bcd", 1)])
    assert rare["rare classes"].state == "keep"
    assert "would not even that out" in rare["rare classes"].text


def test_mostly_empty_images(advice_on):
    hw = (60, 60)
    mask = rectangle(hw, 5, 5, 40, 40)
    assert "empty images" not in advice_on([hw] * 2, [(0, "a", mask)])
    found = advice_on([hw] * 10, [(0, "a", mask), (1, "a", mask)])["empty images"]
    assert found.overrides == ("data.empty_images=0.25",)
    assert "8 of 10 images" in found.text


def test_no_objects_no_advice(index_of, settings_of):
    index = index_of([(60, 60)], [], crowds=[(0, "a", rectangle((60, 60), 0, 0, 9, 9))])
    assert advise(index, measure_objects(index), settings_of(), None) == []


def test_the_command_names_the_data_and_what_is_worth_changing(advice_on, settings_of, tmp_path):
    hw = (200, 300)
    found = list(advice_on([hw], [(0, "a", mask) for mask in grid_of(hw, 8, 170, 12)], "model=light").values())
    changes = [override for item in found if item.state == "change" for override in item.overrides]
    annotations = tmp_path / "annotations" / "train.json"
    command = train_command(found, settings_of("model=light"), annotations, tmp_path / "images")
    assert command.split() == ["finemask", "train", f"data.root={tmp_path}", "model=light", *changes]
    compose("train", command.split()[2:])
    other = train_command([], settings_of(), tmp_path / "set.json", tmp_path / "pictures")
    assert other == f"finemask train data.root={tmp_path} data.train=set.json data.images=pictures"
    assert (
        train_command([], settings_of(), annotations, None) == f"finemask train data.root={tmp_path}"
    )  # images beside
    elsewhere = tmp_path / "alone" / "train.json"
    assert train_command([], settings_of(), elsewhere, None) == "finemask train data.root=DIR"


def test_commands_can_be_pasted_whatever_the_folders_are_called(advice_on, settings_of, tmp_path):
    """Through a shell's own parser and Hydra's: the words mean the files that they are to mean."""
    root = tmp_path / "my (own) data's"
    (root / "pictures").mkdir(parents=True)
    for annotations, images in (
        (root / "annotations/train.json", root / "pictures"),
        (root / "labels/a b.json", root / "pictures"),  # from the folder that holds both
        (root / "set.json", root),
    ):
        words = shlex.split(train_command([], settings_of(), annotations, images))
        assert words[:2] == ["finemask", "train"]
        data = compose("train", words[2:]).data
        assert Path(data.root) / data.train == annotations
        assert Path(data.root) / data.images == images
    small = [(0, "a", mask) for mask in grid_of((800, 1000), 15, 400, 40)]
    changed = advice_on([(800, 1000)], small)["anchors"]
    assert shlex.split(changed.typed()) == list(changed.overrides)
    assert changed.typed() != " ".join(changed.overrides)  # brackets mean something to a shell


def test_what_is_worth_doing_comes_first_and_what_is_in_use_is_not_asked_for(advice_on):
    objects = [(0, "a", mask) for mask in grid_of((200, 300), 8, 170, 12)]
    found = list(advice_on([(200, 300)], objects, "model=light").values())
    states = [item.state for item in found]
    assert states == sorted(states, key=("change", "option", "keep").index)
    assert {"change", "keep"} <= set(states)
    assert all(item.typed() == "" for item in found if item.state == "keep")


def test_a_plan_scales_as_the_models_own_transform_does(settings_of):
    from finemask.model.mask_rcnn import ImageTransform
    from finemask.types import Preprocessing

    sizes = [(480, 640), (100, 3000), (1200, 900), (64, 64), (333, 501)]
    settings = settings_of()
    transform = ImageTransform(Preprocessing((settings.min_size,), settings.max_size, (0, 0, 0), (1, 1, 1)))
    heights, widths = np.array(sizes).T
    ours = Resolution(settings.min_size, settings.max_size).sizes_hw(heights, widths)
    assert [tuple(size) for size in ours.tolist()] == [transform.resized_size(size) for size in sizes]


def test_several_training_sizes_count_as_the_last(settings_of):
    assert settings_of("model.min_size=[640,704]").min_size == 704
