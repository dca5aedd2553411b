"""Labels on a picture: inside it, off one another, and none at all where they would bury it.

Two rules keep crowded pictures readable. A label whose plate is much larger than its instance's box is left
out. If the remaining plates would take more than ``MAX_COVER`` of the picture, scores are dropped from the
captions; if that is not enough, all labels are left out and colours speak alone.
"""

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from finemask.ops.colours import Colour, text_colour

MAX_COVER = 0.20  # of the picture
MAX_PLATE_TO_BOX = 2.0  # area of a plate to that of its box
MIN_FONT_PX, MAX_FONT_PX = 11, 72
LEAST_CAPTIONED_PX = 20  # an object in an example picture that is smaller is shown, and not written upon

_SCORE = re.compile(r"\s+[01]?\.\d+%?$|\s+\d+%$")


class _Plate(NamedTuple):
    text: str
    w: int
    h: int


def font_size(height: int, width: int) -> int:
    """Font size in px for a picture, growing with its longer side."""
    return int(np.clip(round(max(height, width) / 62), MIN_FONT_PX, MAX_FONT_PX))


def is_captioned(width: float, height: float) -> bool:
    """Whether an object of an example picture is large enough for a caption: the root of its box's area decides."""
    return width * height >= LEAST_CAPTIONED_PX**2


def draw_labels(
    picture: Image.Image, boxes: NDArray[np.int64], captions: Sequence[str], palette: Sequence[Colour]
) -> list[tuple[int, int, int, int] | None]:
    """Draws captions in place.

    Args:
        picture: RGB, drawn on.
        boxes: int64 [N, 4], xyxy px inside the picture; labels are placed in this order.
        captions: N texts; an empty one draws nothing.
        palette: N plate colours; the text is dark or white, whichever reads better on it.

    Returns:
        N plates as drawn, xyxy px, or None where a label was left out.
    """
    size = font_size(picture.height, picture.width)
    font = ImageFont.load_default(size)
    pad = max(2, size // 5)
    plates = _choose(_Measure(font, pad, picture.width), boxes, captions, picture.width * picture.height)
    draw = ImageDraw.Draw(picture)
    taken = np.zeros((0, 4), dtype=np.int64)
    drawn: list[tuple[int, int, int, int] | None] = []
    for plate, box, colour in zip(plates, boxes, palette, strict=True):
        spot = None if plate is None else _free_spot(plate, box, taken, picture.size)
        drawn.append(spot)
        if plate is None or spot is None:
            continue
        taken = np.concatenate([taken, [spot]])
        x0, y0, x1, y1 = spot
        draw.rectangle((x0, y0, x1 - 1, y1 - 1), fill=colour)
        middle = y0 + (y1 - y0) / 2
        draw.text((x0 + pad, middle), plate.text, font=font, fill=text_colour(colour), anchor="lm")
    return drawn


class _Measure:
    """The plate a text needs, cut where wider than the picture; texts repeat, so it remembers."""

    def __init__(self, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, pad: int, max_width: int) -> None:
        self._font, self._pad, self._max_width = font, pad, max_width
        self._known: dict[str, _Plate] = {}
        _, top, _, bottom = font.getbbox("Ágjy0")
        self._height = int(np.ceil(bottom - top)) + pad

    def __call__(self, caption: str) -> _Plate:
        if caption not in self._known:
            text = " ".join(caption.split())
            while text and self._width(text) > self._max_width:
                text = text.removesuffix("...")[:-1].rstrip()
                text = f"{text}..." if text else ""
            self._known[caption] = _Plate(text, self._width(text), self._height)
        return self._known[caption]

    def _width(self, text: str) -> int:
        return int(np.ceil(self._font.getlength(text))) + 2 * self._pad


def _choose(
    measure: _Measure, boxes: NDArray[np.int64], captions: Sequence[str], picture_area: int
) -> list[_Plate | None]:
    box_areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    for texts in (captions, [_SCORE.sub("", caption) for caption in captions]):
        plates: list[_Plate | None] = []
        for text, box_area in zip(texts, box_areas, strict=True):
            plate = measure(text)
            fits = plate.text and plate.w * plate.h <= MAX_PLATE_TO_BOX * box_area
            plates.append(plate if fits else None)
        if sum(plate.w * plate.h for plate in plates if plate) <= MAX_COVER * picture_area:
            return plates
    return [None] * len(captions)


def _free_spot(
    plate: _Plate, box: NDArray[np.int64], taken: NDArray[np.int64], size: tuple[int, int]
) -> tuple[int, int, int, int] | None:
    width, height = size
    for x, y in _candidates(plate, box):
        if not 0 <= y <= height - plate.h:
            continue
        x0 = min(max(x, 0), width - plate.w)
        x1, y1 = x0 + plate.w, y + plate.h
        hits = (taken[:, 0] < x1) & (taken[:, 2] > x0) & (taken[:, 1] < y1) & (taken[:, 3] > y)
        if not hits.any():
            return x0, y, x1, y1
    return None


def _candidates(plate: _Plate, box: NDArray[np.int64]) -> Iterator[tuple[int, int]]:
    """Upper left corners in order of liking: above the box, in its upper edge, below, then into it."""
    x0, y0, x1, y1 = (int(side) for side in box)
    columns = (x0, x1 - plate.w, (x0 + x1 - plate.w) // 2)
    for x in columns:
        for y in (y0 - plate.h, y0, y1, y1 - plate.h):
            yield x, y
    for y in range(y0 + plate.h, y1 - 2 * plate.h + 1, plate.h):
        yield x0, y
