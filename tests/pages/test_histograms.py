"""Charts, read back from their SVG."""

import re
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from finemask.pages.histograms import HEIGHT, WIDTH, Axis, curves, heat_map, histogram, nice_limit, scatter

TEN = Axis("value", 0, 10)


def elements(svg, tag):
    return list(ElementTree.fromstring(str(svg)).iter(tag))


def titles(svg):
    return [element.text for element in elements(svg, "title")]


def test_bars_count_what_numpy_counts_and_stand_on_the_axis():
    values = np.array([0.5, 0.5, 3.2, 9.9, 12.0, -4.0])
    svg = histogram(values, TEN, name="n", bins=10)
    assert titles(svg) == ["0 to 1: 3 objects", "3 to 4: 1 objects", "9 to 10: 2 objects"]  # beyond: at the ends
    bars = [element for element in elements(svg, "rect") if "bar" in element.get("class")]
    bottoms = {round(float(bar.get("y")) + float(bar.get("height")), 1) for bar in bars}
    assert len(bottoms) == 1
    heights = [float(bar.get("height")) for bar in bars]
    assert heights[0] / heights[1] == pytest.approx(3, rel=0.01)


def test_an_outline_is_drawn_over_the_bars():
    svg = histogram(np.array([1.0]), TEN, name="n", bins=5, outline=np.array([9.0, 9.0]))
    (path,) = elements(svg, "path")
    assert path.get("d").count("H") == 5


def test_marks_beyond_the_axis_are_left_out_and_close_ones_do_not_run_together():
    svg = histogram(np.array([1.0]), TEN, name="n", marks=[(5.0, "five"), (5.1, "more"), (50.0, "far")])
    labels = {e.text: float(e.get("y")) for e in elements(svg, "text") if e.get("class") == "mark-text"}
    assert labels.keys() == {"five", "more"}
    assert labels["five"] != labels["more"]


def test_a_curve_is_the_share_that_reaches_a_value():
    svg = curves([("o", "accent", np.array([0.25, 0.5, 0.75, 1.0]))], Axis("x", 0, 1), name="n", y_label="objects")
    (line,) = elements(svg, "polyline")
    heights = [float(pair.split(",")[1]) for pair in line.get("points").split()]
    floor, top = 256.0, 22.0
    assert heights[0] == top
    shares = [(floor - heights[at]) / (floor - top) for at in (10, 40, 60, 90)]
    assert shares == pytest.approx([1, 0.75, 0.5, 0.25], abs=0.01)
    assert elements(curves([("o", "accent", np.array([]))], Axis("x", 0, 1), name="n", y_label="y"), "polyline")


def test_dots_grow_with_their_count():
    svg = scatter([(1, 1, 1), (5, 5, 100)], TEN, TEN, name="n", what="images")
    radii = [float(element.get("r")) for element in elements(svg, "circle")]
    assert radii[0] > 2 * radii[1]
    assert titles(svg) == ["5 × 5: 100 images", "1 × 1: 1 images"]


def test_a_heat_map_has_a_cell_for_each_number():
    svg = heat_map(np.array([[0.0, 0.2], [0.4, 0.1]]), name="n", what="here", aspect=2)
    cells = [element for element in elements(svg, "rect") if element.get("class") == "cell"]
    assert [float(cell.get("fill-opacity")) for cell in cells] == pytest.approx([0.04, 0.52, 1.0, 0.28])
    assert titles(svg)[2] == "40.0 % here"
    (frame,) = (element for element in elements(svg, "rect") if element.get("class") == "frame")
    assert float(frame.get("width")) == pytest.approx(2 * float(frame.get("height")), rel=0.01)
    assert elements(heat_map(np.zeros((2, 2)), name="n", what="here"), "rect")


def test_text_is_escaped():
    evil = "<script>&"
    for svg in (
        histogram(np.array([1.0]), Axis(evil, 0, 10), name=evil, what=evil, marks=[(1.0, evil)]),
        curves([(evil, "main", np.array([1.0]))], Axis(evil, 0, 1), name=evil, y_label=evil),
        scatter([(1, 1, 1)], Axis(evil, 0, 2), TEN, name=evil, what=evil),
        heat_map(np.ones((1, 1)), name=evil, what=evil),
    ):
        assert "<script>" not in svg
        ElementTree.fromstring(str(svg))


@pytest.mark.parametrize(
    ("axis", "ticks"),
    [
        (Axis("", 0, 10), [0, 2, 4, 6, 8, 10]),
        (Axis("", 0, 255), [0, 100, 200]),
        (Axis("", -0.5, 17.5), [0, 5, 10, 15]),
        (Axis("", 1, 1000, log=True), [1, 10, 100, 1000]),
        (Axis("", 3.5, 330, log=True), [10, 30, 100, 300]),
        (Axis("", 0.25, 4, log=True), [0.5, 1, 2]),
    ],
)
def test_ticks_are_round(axis, ticks):
    assert axis.ticks() == pytest.approx(ticks)


def test_tick_labels():
    assert Axis("", 0, 1, unit=" %", scale=100).text(0.2) == "20 %"
    assert Axis("", 0, 90000).text(30000) == "30,000"
    assert Axis("", 0, 1).text(0.05) == "0.05"


@given(st.floats(1e-3, 1e7))
def test_a_limit_holds_its_value_without_wasting_room(value):
    limit = nice_limit(value)
    assert value * (1 - 1e-6) <= limit <= 2 * value + 1e-9


@given(st.lists(st.floats(-1e6, 1e6), max_size=30), st.floats(0.01, 100), st.floats(1.5, 1e4), st.booleans())
def test_nothing_is_drawn_off_the_chart(values, low, factor, log):
    svg = histogram(np.array(values), Axis("x", low, low * factor, log=log), name="n")
    for element in elements(svg, "rect"):
        assert 0 <= float(element.get("x")) <= WIDTH
        assert 0 <= float(element.get("y")) <= HEIGHT
    assert not re.search(r"nan|inf", str(svg))
