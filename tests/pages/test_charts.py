"""Charts: proportions, ends, ticks, and what the figures of an evaluation show."""

import re
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from report_data import with_extras

from finemask.pages.axes import FLOOR, HEIGHT, TOP, WIDTH, Axis, Frame, nice_limit, tick_text
from finemask.pages.charts import (
    Bar,
    Column,
    Line,
    bar_chart,
    column_chart,
    cumulative_chart,
    histogram,
    line_chart,
    scatter,
)
from finemask.pages.heat_maps import heat_map
from finemask.reports.curve_figures import training_figures
from finemask.reports.error_figures import _size_figure, error_breakdown


def test_training_curves_leave_gaps_out():
    rows = [
        {"epoch": "0", "step": "3", "train/loss": "2.0", "val/segm_AP": ""},
        {"epoch": "0", "step": "5", "train/loss": "1.0", "val/segm_AP": ""},
        {"epoch": "0", "step": "5", "train/loss": "", "val/segm_AP": "0.25"},
        {"epoch": "1", "step": "9", "train/loss": "nan", "val/segm_AP": "0.5"},
        {"epoch": "1", "step": "9", "train/loss": None, "train/loss_mask_step": 1},
    ]
    losses, precisions = training_figures(rows)
    assert [label for _, label in losses.legend] == ["train/loss"]
    assert losses.svg.count("<circle") == 1  # the mean of epoch 0 alone
    assert precisions.svg.count("<polyline") == 1
    assert training_figures([]) == []
    assert training_figures([{"epoch": 0, "lr": 0.1}]) == []


def points_of(svg):
    return [tuple(map(float, pair.split(","))) for pair in re.search(r'points="([^"]+)"', svg).group(1).split()]


def test_a_chart_keeps_its_proportions_and_its_ends():
    x = np.linspace(0, 1, 5001)
    svg = line_chart([Line("a < b", x, x**2, "s0")], Frame("n & m", Axis("x"), Axis("y")), marker=(0.5, 0.25))
    points = points_of(svg)
    assert len(points) <= 400
    (left, bottom), (right, top) = points[0], points[-1]
    assert left < right
    assert top < bottom  # up is up
    middle = min(points, key=lambda point: abs(point[0] - (left + right) / 2))
    assert (bottom - middle[1]) / (bottom - top) == pytest.approx(0.25, abs=0.01)
    assert "a &lt; b" in svg
    assert "n &amp; m" in svg


def test_a_chart_stays_inside_its_frame():
    line = Line("wild", np.array([-1.0, 0.5, 9.0]), np.array([5.0, 0.5, -5.0]), "s0")
    points = points_of(line_chart([line], Frame("n", Axis("x"), Axis("y"))))
    assert all(0 <= x <= WIDTH and 0 <= y <= HEIGHT for x, y in points)


@pytest.mark.parametrize(("value", "limit"), [(0.7, 0.8), (1, 1), (1.3, 1.5), (2.7, 3), (30, 30), (0, 1)])
def test_axis_limits(value, limit):
    assert nice_limit(value) == pytest.approx(limit)


def test_epochs_are_whole_numbers():
    for last in range(1, 60):
        svg = line_chart([], Frame("n", Axis("epoch", 0, last), Axis("y")))
        ticks = re.findall(r'text-anchor="middle">([^<]+)</text>', svg)
        numbers = [float(tick) for tick in ticks if tick not in ("epoch", "y")]
        whole = numbers if last >= 5 else [n for n in numbers if n == int(n)]
        assert whole == sorted({int(n) for n in whole})
        assert 3 <= len(numbers) <= 6
        assert numbers[-1] <= last


def rectangles(svg):
    pattern = r'<rect class="([\w ]+)" x="([\d.]+)" y="([\d.]+)" width="([\d.]+)" height="([\d.]+)"'
    return [(css, *map(float, numbers)) for css, *numbers in re.findall(pattern, svg)]


def test_bars_are_as_long_as_their_values():
    bars = [Bar("a <b>", 0.1, "+0.1", "bad"), Bar("none", 0.0, "0", "bad"), Bar("c", 0.4, "+0.4", "rest")]
    svg = bar_chart(bars, name="n", x_label="AP50")
    (_, left, top, first, _), (_, other_left, other_top, second, _) = rectangles(svg)  # nothing has no bar
    assert left == other_left
    assert top < other_top
    assert second == pytest.approx(4 * first, rel=0.01)
    assert "a &lt;b&gt;" in svg


def test_columns_stack_and_share_the_axis():
    columns = [Column(0, 1, [(30, "found"), (10, "missed")], "75 %", "t & u"), Column(1, 2, [(0, "found")], "", "")]
    frame = Frame("n", Axis("x", 0, 2), Axis("y", 0, 40))
    (_, x, found_y, w, found_h), (_, same_x, missed_y, same_w, missed_h) = rectangles(column_chart(columns, frame))
    assert (x, w) == (same_x, same_w)
    assert found_h == pytest.approx(3 * missed_h, rel=0.01)
    assert missed_y + missed_h == pytest.approx(found_y)
    assert missed_y == pytest.approx(frame.top(40.0), abs=0.1)
    assert found_y + found_h == pytest.approx(FLOOR, abs=0.1)


def test_large_numbers_are_short():
    assert [tick_text(value) for value in (0, 0.25, 9999, 10_000, 25_000)] == ["0", "0.25", "9,999", "10k", "25k"]


def test_objects_are_counted_by_size():
    """By hand; an object of 32 px is COCO's smallest medium one."""
    figure = _size_figure([(31.9, True), (32.0, True), (40.0, False), (47.9, False), (5000.0, False)])
    titles = re.findall(r"<title>([^<]+)</title>", figure.svg)
    assert titles[0] == "objects of 24 to 32 px: 1 found, 0 missed"
    assert titles[1] == "objects of 32 to 48 px: 1 found, 2 missed"
    assert titles[-1] == "objects from 2,048 px: 0 found, 1 missed"
    assert all(title.endswith(": 0 found, 0 missed") for title in titles[2:-1])
    assert "33 %" in figure.svg
    assert _size_figure([]) is None


def test_the_breakdown_of_what_was_evaluated():
    metrics = with_extras({"operating_point": {"iou_type": "segm"}, "per_class": {"a": {}}, "iou_types": []} | empty())
    breakdown = error_breakdown(metrics, "segm")
    assert [kind.name for kind in breakdown.kinds][:3] == ["classification", "localisation", "both"]
    assert breakdown.kinds[1].times == 731
    assert breakdown.ap50 == 0.615
    widths = {
        css: [w for c, _, _, w, _ in rectangles(breakdown.figure.svg) if c == f"bar {css}"] for css in ("bad", "rest")
    }
    assert widths["bad"][-1] / widths["rest"][-1] == pytest.approx(0.187 / 0.223, abs=0.01)
    assert error_breakdown(metrics, "bbox") is None
    assert error_breakdown({}, "segm") is None


def empty():
    return {"operating_point": {"iou_type": "segm", "precision": None, "recall": None, "f1": None}, "per_class": {}}


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
    (line,) = elements(svg, "polyline")
    assert len(line.get("points").split()) == 2 * 5 + 2  # from the axis, across each bin, and back


def test_marks_beyond_the_axis_are_left_out_and_close_ones_do_not_run_together():
    svg = histogram(np.array([1.0]), TEN, name="n", marks=[(5.0, "five"), (5.1, "more"), (50.0, "far")])
    labels = {e.text: float(e.get("y")) for e in elements(svg, "text") if e.get("class") == "mark-text"}
    assert labels.keys() == {"five", "more"}
    assert labels["five"] != labels["more"]


def test_a_curve_is_the_share_that_reaches_a_value():
    svg = cumulative_chart(np.array([0.25, 0.5, 0.75, 1.0]), Axis("x"), name="n")
    (line,) = elements(svg, "polyline")
    heights = [float(pair.split(",")[1]) for pair in line.get("points").split()]
    assert heights[0] == TOP
    shares = [(FLOOR - heights[at]) / (FLOOR - TOP) for at in (10, 40, 60, 90)]
    assert shares == pytest.approx([1, 0.75, 0.5, 0.25], abs=0.01)
    assert elements(cumulative_chart(np.array([]), Axis("x"), name="n"), "polyline")


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
        cumulative_chart(np.array([1.0]), Axis(evil), name=evil, what=evil),
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
        (Axis("", 0, 2), [0, 0.5, 1, 1.5, 2]),
        (Axis("", 0, 2, whole=True), [0, 1, 2]),
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
    assert Axis("", 0, 90000).text(30000) == "30k"
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
