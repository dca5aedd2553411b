"""Contact sheet: equal cells in rows and columns, with captions, a heading and a legend."""

from collections.abc import Sequence
from typing import NamedTuple

from PIL import Image, ImageDraw, ImageFont

from finemask.ops.colours import Colour

_PAPER: Colour = (246, 247, 249)
_CELL: Colour = (227, 231, 238)
_INK: Colour = (22, 27, 38)
_FAINT: Colour = (90, 100, 120)
_MARGIN, _GAP, _WITHIN = 32, 28, 8  # px: around the sheet, between groups, between the cells of a group
_TITLE_PX, _TEXT_PX, _LEADING = 28, 15, 21
_CHIP_PX = 14


class Cell(NamedTuple):
    """A picture with two lines under it, the first one darker."""

    picture: Image.Image
    title: str
    facts: str


def contact_sheet(
    groups: Sequence[Sequence[Cell]],
    *,
    cell_wh: tuple[int, int],
    columns: int,
    title: str,
    subtitle: str,
    legend: Sequence[tuple[str, Colour]] = (),
) -> Image.Image:
    """Puts groups of pictures on one sheet; the cells of a group stand side by side.

    Args:
        groups: at least one; all of the same length.
        cell_wh: px; pictures are no larger and stand in the middle of their cell.
        columns: greatest number of groups in a row.
        title: heading.
        subtitle: a line under it.
        legend: names and colours.

    Returns:
        An RGB picture.
    """
    width, height = cell_wh
    columns = min(columns, len(groups))
    together = len(groups[0])
    group_width = together * width + (together - 1) * _WITHIN
    row_height = height + 10 + 2 * _LEADING + _GAP
    inner = columns * group_width + (columns - 1) * _GAP
    font, large = ImageFont.load_default(_TEXT_PX), ImageFont.load_default(_TITLE_PX)
    legend_rows = _wrapped(legend, font, inner)
    top = _MARGIN + _TITLE_PX + 12 + _LEADING * (1 + len(legend_rows)) + 20
    rows = -(-len(groups) // columns)
    sheet = Image.new("RGB", (inner + 2 * _MARGIN, top + rows * row_height - _GAP + _MARGIN), _PAPER)
    draw = ImageDraw.Draw(sheet)
    draw.text((_MARGIN, _MARGIN), fitting(title, large, inner), font=large, fill=_INK)
    y = _MARGIN + _TITLE_PX + 12
    draw.text((_MARGIN, y), fitting(subtitle, font, inner), font=font, fill=_FAINT)
    for line in legend_rows:
        y += _LEADING
        for x, name, colour in line:
            left = _MARGIN + x
            draw.rounded_rectangle((left, y + 3, left + _CHIP_PX, y + 3 + _CHIP_PX), radius=4, fill=colour)
            draw.text((left + _CHIP_PX + 6, y), name, font=font, fill=_INK)
    for number, group in enumerate(groups):
        for k, cell in enumerate(group):
            x = _MARGIN + number % columns * (group_width + _GAP) + k * (width + _WITHIN)
            _draw_cell(sheet, draw, cell, (x, top + number // columns * row_height), cell_wh, font)
    return sheet


def fitting(text: str, font: ImageFont.ImageFont | ImageFont.FreeTypeFont, width: int) -> str:
    """A text at most ``width`` px wide; of a longer one the middle is left out, since names differ at the ends."""
    if font.getlength(text) <= width:
        return text
    for kept in range(len(text) - 1, 0, -1):
        short = f"{text[: (kept + 1) // 2].rstrip()}...{text[len(text) - kept // 2 :].lstrip()}"
        if font.getlength(short) <= width:
            return short
    return ""


def _draw_cell(
    sheet: Image.Image,
    draw: ImageDraw.ImageDraw,
    cell: Cell,
    corner_xy: tuple[int, int],
    cell_wh: tuple[int, int],
    font: ImageFont.ImageFont | ImageFont.FreeTypeFont,
) -> None:
    (x, y), (width, height) = corner_xy, cell_wh
    draw.rectangle((x, y, x + width - 1, y + height - 1), fill=_CELL)
    picture = cell.picture
    sheet.paste(picture, (x + (width - picture.width) // 2, y + (height - picture.height) // 2))
    draw.text((x, y + height + 8), fitting(cell.title, font, width), font=font, fill=_INK)
    draw.text((x, y + height + 8 + _LEADING), fitting(cell.facts, font, width), font=font, fill=_FAINT)


def _wrapped(
    legend: Sequence[tuple[str, Colour]], font: ImageFont.ImageFont | ImageFont.FreeTypeFont, width: int
) -> list[list[tuple[int, str, Colour]]]:
    """The legend in lines: offset, name and colour of each entry."""
    lines: list[list[tuple[int, str, Colour]]] = []
    x = width + 1
    for name, colour in legend:
        text = fitting(name, font, width // 3)
        needed = _CHIP_PX + 6 + int(font.getlength(text)) + 18
        if x + needed > width:
            lines.append([])
            x = 0
        lines[-1].append((x, text, colour))
        x += needed
    return lines
