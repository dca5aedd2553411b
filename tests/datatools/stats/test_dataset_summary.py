"""The numbers of stats.json."""

import json

import numpy as np
import pytest
from stats_data import rectangle

from finemask.datatools.stats.dataset_summary import spread, summarise
from finemask.datatools.stats.image_stats import measure_images
from finemask.datatools.stats.object_stats import measure_objects
from finemask.reports.statistics_page import images_note, problems

HW = (400, 500)  # doubled at 800


@pytest.fixture
def summary_of(index_of, settings_of):
    def summary(images, objects, *overrides, look=False, **options):
        index = index_of(images, objects, **options)
        opened = measure_images(index, None) if look else None
        return summarise(index, measure_objects(index), opened, settings_of(*overrides))

    return summary


def test_counts_and_sizes_of_a_known_file(summary_of):
    objects = [
        (0, "nut", rectangle(HW, 0, 0, 20, 20)),  # 400 px² as it is, 1600 in training
        (0, "nut", rectangle(HW, 100, 100, 140, 140)),  # 1600, 6400
        (1, "fig", rectangle(HW, 0, 0, 100, 200)),  # 20000, 80000
        (1, "fig", np.zeros(HW, dtype=np.bool_)),
    ]
    found = summary_of([HW] * 3, objects, crowds=[(2, "nut", rectangle(HW, 0, 0, 9, 9))], names=["fig", "nut", "oak"])
    assert found["counts"] == {
        "images": 3,
        "images_without_objects": 1,
        "objects": 3,
        "crowd_regions": 1,
        "annotations_without_pixels": 1,
        "classes": 3,
        "classes_without_objects": 1,
    }
    third = pytest.approx(1 / 3, abs=1e-4)
    assert found["object_size"]["original_px"]["coco"] == {"small": third, "medium": third, "large": third}
    assert found["object_size"]["training_px"]["coco"] == {
        "small": 0,
        "medium": pytest.approx(2 / 3, abs=1e-4),
        "large": third,
    }
    assert found["object_size"]["original_px"]["p50"] == 40
    assert found["object_size"]["training_px"]["p50"] == 80
    assert found["classes"][1] == {
        "name": "nut",
        "id": 20,
        "objects": 2,
        "images": 1,
        "median_original_px": 30,
        "median_training_px": 60,
    }
    assert found["classes"][2]["median_training_px"] is None
    assert found["objects_per_image"]["max"] == 2
    assert (found["aspect_ratio"]["min"], found["aspect_ratio"]["max"]) == (0.5, 1)
    assert found["training"]["enlarged_by"]["p50"] == 2
    assert found["images"] is None
    json.dumps(found, allow_nan=False)


def test_objects_that_vanish_in_training(summary_of):
    hw = (3000, 3000)
    found = summary_of([hw], [(0, "a", rectangle(hw, 0, 0, 5, 5)), (0, "a", rectangle(hw, 50, 50, 90, 90))])
    assert found["object_size"]["below_2_px_in_training"] == 1
    assert any("1 object below 2 px" in line for line in problems(found))


def test_a_file_without_objects_has_numbers_too(summary_of):
    found = summary_of([HW], [], crowds=[(0, "a", rectangle(HW, 0, 0, 9, 9))])
    assert found["object_size"]["training_px"]["p50"] is None
    assert found["training"]["anchor_covers_half"] is None
    assert found["training"]["fitted"]["anchor_covers_half"] is None
    assert problems(found) == []
    json.dumps(found, allow_nan=False)


def test_what_is_said_about_the_image_files(summary_of, tmp_path):
    objects = [(0, "a", rectangle(HW, 0, 0, 9, 9))]
    beside = summary_of([HW], objects)
    assert f"Add images={tmp_path}/images for them" in images_note(beside)
    assert "Add images=DIR for them" in images_note(beside | {"annotations": str(tmp_path / "alone/train.json")})
    grey = np.full((*HW, 3), 90, np.uint8)
    found = summary_of([HW, grey], objects, look=True)
    assert images_note(found) == "Measured on 2 images (all): 2 PNG, 8-bit RGB."
    assert (found["images"]["darkest"][0], found["images"]["brightest"][0]) == ("image_0.png", "image_1.png")


def test_unreadable_images_are_named(index_of, settings_of, tmp_path):
    index = index_of([HW] * 8, [(0, "a", rectangle(HW, 0, 0, 9, 9))])
    for number in range(1, 8):
        (tmp_path / "images" / f"image_{number}.png").write_bytes(b"")
    found = summarise(index, measure_objects(index), measure_images(index, None), settings_of())
    first, ask = problems(found)
    assert first.startswith("7 images cannot be used. image_1.png: the file is empty (0 bytes); ")
    assert first.endswith(", …")
    assert ask == f"Ask: finemask data check annotations={index.annotations_path}"


def test_spread_is_numpys_percentiles():
    values = np.random.default_rng(0).normal(50, 10, 333)
    found = spread(values)
    assert found["p25"] == pytest.approx(np.percentile(values, 25), abs=1e-4)
    assert (found["min"], found["max"]) == pytest.approx((values.min(), values.max()), abs=1e-4)
    assert set(spread([]).values()) == {None}
    assert spread([]).keys() == found.keys()
