"""Charts: proportions, ends, ticks, and what the figures of an evaluation show."""

import re

import numpy as np
import pytest
from report_data import with_extras

from finemask.pages.axes import HEIGHT, WIDTH, Frame, nice_limit, tick_text
from finemask.pages.charts import Bar, Column, Line, bar_chart, column_chart, line_chart
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
    svg = line_chart([Line("a < b", x, x**2, "s0")], Frame("n & m", "x", "y"), marker=(0.5, 0.25))
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
    points = points_of(line_chart([line], Frame("n", "x", "y")))
    assert all(0 <= x <= WIDTH and 0 <= y <= HEIGHT for x, y in points)


@pytest.mark.parametrize(("value", "limit"), [(0.7, 0.8), (1, 1), (1.3, 1.5), (2.7, 3), (30, 30), (0, 1)])
def test_axis_limits(value, limit):
    assert nice_limit(value) == pytest.approx(limit)


def test_epochs_are_whole_numbers():
    for last in range(1, 60):
        svg = line_chart([], Frame("n", "epoch", "y", x_range=(0.0, float(last))))
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
    frame = Frame("n", "x", "y", x_range=(0.0, 2.0), y_range=(0.0, 40.0))
    (_, x, found_y, w, found_h), (_, same_x, missed_y, same_w, missed_h) = rectangles(column_chart(columns, frame))
    assert (x, w) == (same_x, same_w)
    assert found_h == pytest.approx(3 * missed_h, rel=0.01)
    assert missed_y + missed_h == pytest.approx(found_y)
    assert missed_y == pytest.approx(frame.y(40.0), abs=0.1)
    assert found_y + found_h == pytest.approx(frame.y(0.0), abs=0.1)


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
    widths = {css: [w for c, _, _, w, _ in rectangles(breakdown.figure.svg) if c == css] for css in ("bad", "rest")}
    assert widths["bad"][-1] / widths["rest"][-1] == pytest.approx(0.187 / 0.223, abs=0.01)
    assert error_breakdown(metrics, "bbox") is None
    assert error_breakdown({}, "segm") is None


def empty():
    return {"operating_point": {"iou_type": "segm", "precision": None, "recall": None, "f1": None}, "per_class": {}}
