"""Sheets: equal cells in their places, captions that fit, a legend that wraps."""

import numpy as np
import pytest
from PIL import Image, ImageFont

from finemask.pages.contact_sheet import Cell, contact_sheet, fitting

RED, GREEN, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)
MAGENTA = (255, 0, 255)


def cell(colour, size_wh=(100, 60), title="name.png", facts="id 1"):
    return Cell(Image.new("RGB", size_wh, colour), title, facts)


def extent(sheet, colour):
    """x0, y0, x1, y1 of the pixels of one colour."""
    y, x = np.nonzero((np.asarray(sheet) == colour).all(axis=2))
    return int(x.min()), int(y.min()), int(x.max()) + 1, int(y.max()) + 1


def sheet_of(groups, columns=2, **options):
    return contact_sheet(groups, cell_wh=(100, 60), columns=columns, title="title", subtitle="more", **options)


def test_cells_stand_in_rows_and_columns_and_pairs_side_by_side():
    sheet = sheet_of([[cell(RED), cell(GREEN)], [cell(BLUE), cell(MAGENTA)]])
    red, green, blue, magenta = (extent(sheet, colour) for colour in (RED, GREEN, BLUE, MAGENTA))
    assert {(x1 - x0, y1 - y0) for x0, y0, x1, y1 in (red, green, blue, magenta)} == {(100, 60)}
    assert red[1] == green[1] == blue[1] == magenta[1]
    assert green[0] - red[2] == magenta[0] - blue[2] == 8
    assert blue[0] - green[2] > 8
    assert sheet.width - magenta[2] == red[0]
    lower = sheet_of([[cell(RED)], [cell(GREEN)], [cell(BLUE)]])
    assert extent(lower, BLUE)[0] == extent(lower, RED)[0]
    assert extent(lower, BLUE)[1] > extent(lower, RED)[3] + 40  # captions between


def test_smaller_pictures_stand_in_the_middle_of_their_cell():
    sheet = sheet_of([[cell(RED, (40, 60))], [cell(GREEN, (100, 20))]])
    red, green = extent(sheet, RED), extent(sheet, GREEN)
    assert red[0] - 32 == 30
    assert green[1] - red[1] == 20


def test_fewer_groups_than_columns_make_a_narrower_sheet():
    assert sheet_of([[cell(RED)]], columns=4).width == 100 + 2 * 32


def test_a_legend_wraps_and_pushes_the_cells_down():
    plain = sheet_of([[cell(RED)] * 2] * 2)
    few = sheet_of([[cell(RED)] * 2] * 2, legend=[("one", BLUE), ("two", GREEN)])
    many = sheet_of([[cell(RED)] * 2] * 2, legend=[(f"class {k}", BLUE) for k in range(30)])
    tops = [extent(sheet, RED)[1] for sheet in (plain, few, many)]
    assert tops[0] < tops[1] < tops[2]
    assert extent(many, BLUE)[2] < many.width
    assert extent(few, GREEN)[3] < tops[1]


@pytest.mark.parametrize("width", [40, 90, 200])
def test_long_names_lose_their_middle(width):
    font = ImageFont.load_default(15)
    name = "a_very_long_name_of_a_file_from_a_camera_000123.png"
    short = fitting(name, font, width)
    assert font.getlength(short) <= width
    start, end = short.split("...")
    assert name.startswith(start)
    assert name.endswith(end)
    assert fitting("a.png", font, 200) == "a.png"
    assert fitting("long enough", font, 1) == ""
