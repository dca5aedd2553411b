"""What folds say, in words."""

import pytest

from finemask.reports.folds_section import folds_text


def content(seeds, mean, *, folds=2, images=200):
    """A record of folds: of each seed the AP of its folds."""
    rows = [{"seed": number, "folds": [{"AP": ap} for ap in of_seed]} for number, of_seed in enumerate(seeds)]
    of_all = {"AP": {"mean": mean, "interval": [mean - 0.1, mean + 0.1], "deviation": 0.01 if len(seeds) > 1 else None}}
    return {"metric": "segm_AP", "segm": of_all, "seeds": rows, "images": images, "folds": folds}


def test_the_number_its_interval_and_how_far_single_folds_are_apart():
    text = folds_text(content([(0.48, 0.52), (0.50, 0.49), (0.51, 0.50)], 0.5))
    assert text == (
        "2 folds of 200 images, 3 seeds: mask AP 0.500 (0.400 to 0.600), deviation over the seeds 0.010. "
        "Single folds, of about 100 images each, go from 0.480 to 0.520."
    )


@pytest.mark.parametrize(("apart", "images"), [((0.3, 0.7), 200), ((0.49, 0.51), 20)])
def test_far_apart_or_few_images_are_luck(apart, images):
    assert "on so few images one split is luck" in folds_text(content([apart], 0.5, images=images))


@pytest.mark.parametrize(("mean", "explained"), [(0.45, True), (0.49, False)])
def test_a_number_below_all_of_its_folds_is_explained(mean, explained):
    text = folds_text(content([(0.48, 0.52)], mean))
    assert ("All together lie below every one of them" in text) == explained


def test_one_or_two_seeds_say_what_they_leave_out():
    assert "seeds=3 tells" in folds_text(content([(0.5, 0.5)], 0.5))
    assert "Two seeds say little" in folds_text(content([(0.5, 0.5), (0.5, 0.5)], 0.5))


def test_nothing_to_be_found():
    nothing = content([(0.5, 0.5)], 0.5)
    nothing["segm"]["AP"]["mean"] = None
    assert folds_text(nothing) == "There is no mask AP: nothing is to be found in these images."
