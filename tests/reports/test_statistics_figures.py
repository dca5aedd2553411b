"""The charts of the page show all of the data and say the numbers of the summary."""

import re

import numpy as np
import pytest
from stats_data import rectangle

from finemask.datatools.stats.dataset_summary import summarise
from finemask.datatools.stats.image_stats import measure_images
from finemask.datatools.stats.object_stats import measure_objects
from finemask.reports.statistics_figures import image_figures, object_figures

HW = (60, 80)


@pytest.fixture
def figures_of(index_of, settings_of):
    def figures(images, objects, **options):
        index = index_of(images, objects, **options)
        measured, opened, settings = measure_objects(index), measure_images(index, None), settings_of()
        drawn = {f.title: f for f in [*object_figures(index, measured, settings), *image_figures(index, opened)]}
        return drawn, summarise(index, measured, opened, settings)

    return figures


def counted(figure):
    """What the bars of a histogram add up to."""
    return sum(int(number.replace(",", "")) for number in re.findall(r"<title>[^<]*: ([\d,]+) \w+</title>", figure.svg))


def test_every_object_and_every_image_is_in_its_histogram(figures_of):
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 255, (*HW, 3), dtype=np.uint8) for _ in range(6)]
    objects = [
        (int(rng.integers(5)), "a", rectangle(HW, x, y, x + int(rng.integers(1, 40)), y + int(rng.integers(1, 30))))
        for x, y in rng.integers(0, 30, (25, 2))
    ]
    figures, summary = figures_of(images, objects)
    for title in ("Size of the objects", "Shape of the boxes"):
        assert counted(figures[title]) == 25
    for title in ("Objects in an image", "Size of the images", "Brightness", "Contrast", "Sharpness"):
        assert counted(figures[title]) == 6
    assert (
        f"at most {summary['objects_per_image']['max']:.0f}; 1 image has none." in figures["Objects in an image"].note
    )


def test_notes_say_what_the_summary_says(figures_of):
    wide = (40, 160)
    figures, summary = figures_of(
        [HW, HW, wide], [(0, "a", rectangle(HW, 0, 0, 30, 30)), (0, "a", rectangle(HW, 30, 0, 50, 20))]
    )
    covered = summary["training"]["anchor_covers_half"]
    assert f"{100 * covered:.0f} % reach an IoU of 0.5" in figures["Anchors"].note
    assert figures["Crowding"].note.startswith("100 % of the objects touch another, 0 % lie in several pieces")
    assert figures["Size of the images"].note == "2 different sizes; most often 80 × 60 px (2 images)."
    assert "The strongest colour: 100 %" in figures["Where objects sit"].note


def test_one_size_is_called_one_size(figures_of):
    figures, _ = figures_of([HW, HW], [(0, "a", rectangle(HW, 0, 0, 30, 30))])
    assert figures["Size of the images"].note == "All images have 80 × 60 px."
    assert [label for _, label in figures["Size of the objects"].legend] == [
        "in training (shorter side 800 px)",
        "in the image as it is",
    ]


def test_a_plain_black_image_does_not_break_the_logarithm(figures_of):
    figures, _ = figures_of([HW], [(0, "a", rectangle(HW, 0, 0, 1, 1))])
    assert counted(figures["Sharpness"]) == 1
    assert not re.search(r"\bnan\b", "".join(figure.svg for figure in figures.values()))
