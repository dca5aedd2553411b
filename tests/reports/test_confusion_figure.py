"""The confusion matrix as it is drawn."""

import re

import numpy as np
import pytest
from report_data import confusion as random_confusion

from finemask.reports.error_figures import MOST_CLASSES, confusion


def matrix(names, counts):
    return {"confusion": {"iou": 0.5, "threshold": 0.4, "names": [*names, "background"], "counts": counts}}


def titles(svg):
    return re.findall(r"<title>([^<]+)</title>", svg)


def test_cells_say_what_they_count():
    counts = [[6, 2, 0, 2], [0, 0, 0, 0], [0, 0, 3, 1], [5, 0, 0, 0]]
    drawn = confusion(matrix(["fig", "n<t", "date"], counts))
    assert titles(drawn.svg) == [
        "6 objects of fig reported as fig (60.0 % of the row)",
        "2 objects of fig reported as n&lt;t (20.0 % of the row)",
        "2 objects of fig missed (20.0 % of the row)",
        "3 objects of date reported as date (75.0 % of the row)",
        "1 object of date missed (25.0 % of the row)",
        "5 detections of fig where nothing is labelled (100.0 % of the row)",
    ]
    assert drawn.svg.count('class="heat right"') == 2
    assert drawn.svg.count('class="heat wrong"') == 4
    heats = [float(heat) for heat in re.findall(r"--heat:([\d.]+)", drawn.svg)]
    assert heats == [pytest.approx(share**0.5, abs=0.006) for share in (0.6, 0.2, 0.2, 0.75, 0.25, 1.0)]
    assert drawn.pairs == [("fig", "n<t", 2, 0.2)]
    assert (drawn.shown, drawn.classes) == (3, 3)


def test_nothing_to_draw():
    assert confusion({}) is None
    assert confusion({"confusion": None}) is None
    assert confusion(matrix(["a"], [[0, 0], [0, 0]])) is None


@pytest.mark.parametrize("number", [1, 5, 20, 40, 80])
def test_labels_and_numbers_keep_a_readable_size(number):
    names = [f"class number {n}" for n in range(number)]  # too long to stand level over wide columns
    svg = confusion({"confusion": random_confusion(names, np.random.default_rng(0))}).svg
    sizes = [float(size) for size in re.findall(r"font-size:([\d.]+)px", svg)]
    assert min(sizes) >= 9  # px
    width, height = map(float, re.search(r'viewBox="0 0 (\d+) (\d+)"', svg).groups())
    assert width <= 1072  # the page's column
    assert height <= 1100
    assert svg.count(">class number 0</text>") == (1 if number <= 5 else 2)
    assert (svg.count('class="count"') > 0) == (number <= 30)


def test_of_too_many_classes_those_with_the_most_errors_are_drawn():
    number = 300
    counts = np.zeros((number + 1, number + 1), dtype=int)
    np.fill_diagonal(counts, 7)
    counts[-1, -1] = 0
    counts[250, 17] = 9
    counts[250, -1] = 1
    drawn = confusion(matrix([f"c{n}" for n in range(number)], counts.tolist()))
    assert (drawn.shown, drawn.classes) == (MOST_CLASSES, number)
    assert drawn.pairs == [("c250", "c17", 9, 9 / 17)]
    assert "9 objects of c250 reported as c17 (52.9 % of the row)" in titles(drawn.svg)


def test_classes_that_do_not_occur_are_not_drawn():
    drawn = confusion(matrix(["a", "b", "c"], [[1, 0, 0, 0], [0, 0, 0, 0], [0, 0, 2, 0], [0, 0, 0, 0]]))
    assert (drawn.shown, drawn.classes) == (2, 3)
    assert ">b</text>" not in drawn.svg
