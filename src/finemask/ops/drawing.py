"""Drawing instances: coloured masks, outlines, boxes, and labels that stay readable.

Drawing works inside each mask's box: its cost follows the area of the instances, not picture × instances.

Labels stay inside the picture, off one another and off other instances: one goes where it hides least of what is near,
and is left out where it would hide ``MOST_HIDDEN`` of another's box. There are none at all where they would bury the
picture. A label whose plate is much larger than its instance's box is left out. If the remaining plates would take more
than ``MAX_COVER`` of the picture, scores are dropped from the captions; if that is not enough, all labels are left out
and colours speak alone.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from finemask.ops.colours import Colour, colours, text_colour
from finemask.ops.rle import rle_to_crop
from finemask.types import Rle

FILL_OPACITY = 0.42
FAINT_OPACITY = 0.24  # where many instances have one colour: what is nested in another, and the picture, stay visible
BOX_OPACITY = 0.75
SMALL_PICTURE_PX = 400
UPSCALED_TO_PX = 768
MAX_UPSCALE = 8
MAX_COVER = 0.20  # of the picture
MAX_PLATE_TO_BOX = 2.0  # area of a plate to that of its box
MOST_HIDDEN = 0.25  # of the box of another instance
MOST_HIDDEN_OF_OWN = 0.4
MIN_FONT_PX, MAX_FONT_PX = 11, 72
LEAST_CAPTIONED_PX = 20  # an object in an example picture that is smaller is shown, and not written upon
_SCORE = re.compile(r"\s+[01]?\.\d+%?$|\s+\d+%$")
_CROSS = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))
_SQUARE = cv2.getStructuringElement(cv2.MORPH_RECT, (3, 3))


class _Crop(NamedTuple):
    mask: NDArray[np.bool_]  # [h, w]
    x0: int
    y0: int
    colour: Colour


class _Plate(NamedTuple):
    text: str
    w: int
    h: int


def upscale_factor(height: int, width: int) -> int:
    """By how much a picture is enlarged before drawing.

    1 if its longer side has at least ``SMALL_PICTURE_PX``; else the whole number that brings it near
    ``UPSCALED_TO_PX``, at most ``MAX_UPSCALE``: a label has room only on a picture of some size.
    """
    longer = max(height, width)
    if longer >= SMALL_PICTURE_PX:
        return 1
    return min(MAX_UPSCALE, max(1, UPSCALED_TO_PX // longer))


def draw_instances(
    image: NDArray[np.uint8],
    *,
    rles: Sequence[Rle],
    boxes_xyxy: NDArray[np.floating],
    captions: Sequence[str],
    palette: Sequence[Colour] | None = None,
    fill_opacity: float = FILL_OPACITY,
) -> Image.Image:
    """Draws instances on a copy of a picture.

    Small pictures come back enlarged by ``upscale_factor``; everything is drawn at that size. Labels stay
    inside the picture and off one another; one that finds no place is left out, and all are left out where
    they would bury the picture (see ``finemask.ops.drawing``). An empty caption draws none.

    Args:
        image: uint8 [H, W, 3], RGB.
        rles: N masks of size [H, W].
        boxes_xyxy: [N, 4], px.
        captions: N texts, such as ``"fig 0.97"``.
        palette: N colours. Default: every instance its own.
        fill_opacity: of the masks, 0..1; their outlines are opaque.

    Returns:
        An RGB picture of [H, W] × ``upscale_factor(H, W)``.

    Raises:
        ValueError: the arguments disagree on N, or a mask's size on the picture's.
    """
    height, width = image.shape[:2]
    palette = colours(range(len(rles))) if palette is None else palette
    boxes = np.asarray(boxes_xyxy, dtype=np.float64).reshape(-1, 4)
    if not len(rles) == len(boxes) == len(captions) == len(palette):
        raise ValueError(f"{len(rles)} masks, {len(boxes)} boxes, {len(captions)} captions and {len(palette)} colours")
    for rle in rles:
        if list(rle["size"]) != [height, width]:
            raise ValueError(f"a mask of {rle['size']} (height, width) on a picture of {[height, width]}")
    factor = upscale_factor(height, width)
    canvas = _enlarged(image, factor)
    crops = [_crop(rle, factor, colour) for rle, colour in zip(rles, palette, strict=True)]
    crops.sort(key=lambda crop: -crop.mask.size)  # small ones last, so that none is hidden under a large one
    line = max(1, round(max(canvas.shape[:2]) / 420))
    for crop in crops:
        _blend(_window(canvas, crop), crop.mask, crop.colour, fill_opacity)
    for crop in crops:
        _blend(_window(canvas, crop), outline(crop.mask, line), crop.colour, 1.0)
    pixel_boxes = _pixel_boxes(boxes * factor, *canvas.shape[:2])
    for box, colour in zip(pixel_boxes, palette, strict=True):
        _draw_box(canvas, box, colour, max(1, line // 2))
    picture = Image.fromarray(canvas)
    draw_labels(picture, pixel_boxes, captions, palette)
    return picture


def outline(mask: NDArray[np.bool_], thickness: int) -> NDArray[np.bool_]:
    """The outline of a mask [h, w]: its pixels within ``thickness`` px of the outside, and of the array's edge."""
    inner = np.pad(mask, 1).astype(np.uint8)
    for step in range(thickness):
        # every other step takes the diagonals too: as thick on a slope as on a side
        inner = np.asarray(cv2.erode(inner, _SQUARE if step % 2 else _CROSS))
    return np.asarray(mask & (inner[1:-1, 1:-1] == 0))


def _enlarged(image: NDArray[np.uint8], factor: int) -> NDArray[np.uint8]:
    if factor == 1:
        return np.array(image, dtype=np.uint8, order="C")
    size = (image.shape[1] * factor, image.shape[0] * factor)
    return np.array(Image.fromarray(np.ascontiguousarray(image)).resize(size, Image.Resampling.BICUBIC))


def _crop(rle: Rle, factor: int, colour: Colour) -> _Crop:
    mask, x0, y0 = rle_to_crop(rle)
    if factor > 1:
        mask = mask.repeat(factor, axis=0).repeat(factor, axis=1)
    return _Crop(mask, x0 * factor, y0 * factor, colour)


def _window(canvas: NDArray[np.uint8], crop: _Crop) -> NDArray[np.uint8]:
    h, w = crop.mask.shape
    return canvas[crop.y0 : crop.y0 + h, crop.x0 : crop.x0 + w]


def _blend(window: NDArray[np.uint8], mask: NDArray[np.bool_], colour: Colour, opacity: float) -> None:
    paint = np.asarray(colour, dtype=np.float32) * opacity
    window[mask] = (window[mask] * np.float32(1 - opacity) + paint + 0.5).astype(np.uint8)


def _pixel_boxes(boxes: NDArray[np.float64], height: int, width: int) -> NDArray[np.int64]:
    """Whole-pixel boxes [N, 4] inside the picture that cover the given ones; at least 1 px a side."""
    limits = np.array([width, height, width, height])
    inside = np.clip(np.nan_to_num(boxes), 0, limits)
    low = np.minimum(np.floor(inside[:, :2]).astype(np.int64), limits[:2] - 1)
    high = np.maximum(np.ceil(inside[:, 2:]).astype(np.int64), low + 1)
    return np.concatenate([low, high], axis=1)


def _draw_box(canvas: NDArray[np.uint8], box: NDArray[np.int64], colour: Colour, thickness: int) -> None:
    x0, y0, x1, y1 = box
    window = canvas[y0:y1, x0:x1]
    frame = np.ones(window.shape[:2], dtype=np.bool_)
    frame[thickness : y1 - y0 - thickness, thickness : x1 - x0 - thickness] = False
    _blend(window, frame, colour, BOX_OPACITY)


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
    plates = _choose_plates(_measure(font, pad, picture.width), boxes, captions, picture.width * picture.height)
    draw = ImageDraw.Draw(picture)
    taken = np.zeros((0, 4), dtype=np.int64)
    drawn: list[tuple[int, int, int, int] | None] = []
    for number, (plate, colour) in enumerate(zip(plates, palette, strict=True)):
        spot = None if plate is None else _free_spot(plate, boxes, number, taken, picture.size)
        drawn.append(spot)
        if plate is None or spot is None:
            continue
        taken = np.concatenate([taken, [spot]])
        x0, y0, x1, y1 = spot
        draw.rectangle((x0, y0, x1 - 1, y1 - 1), fill=colour)
        middle = y0 + (y1 - y0) / 2
        draw.text((x0 + pad, middle), plate.text, font=font, fill=text_colour(colour), anchor="lm")
    return drawn


def _measure(font: ImageFont.FreeTypeFont | ImageFont.ImageFont, pad: int, max_width: int) -> Callable[[str], _Plate]:
    """What gives the plate that a text needs, cut where wider than the picture; texts repeat, so it remembers."""
    _, top, _, bottom = font.getbbox("Ágjy0")
    height = int(np.ceil(bottom - top)) + pad

    def width(text: str) -> int:
        return int(np.ceil(font.getlength(text))) + 2 * pad

    @cache
    def plate_of(caption: str) -> _Plate:
        text = _shortened(" ".join(caption.split()), lambda text: width(text) <= max_width)
        return _Plate(text, width(text), height)

    return plate_of


def _choose_plates(
    plate_of: Callable[[str], _Plate], boxes: NDArray[np.int64], captions: Sequence[str], picture_area: int
) -> list[_Plate | None]:
    box_areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    for texts in (captions, [_SCORE.sub("", caption) for caption in captions]):
        plates: list[_Plate | None] = []
        for text, box_area in zip(texts, box_areas, strict=True):
            plate = plate_of(text)
            fits = plate.text and plate.w * plate.h <= MAX_PLATE_TO_BOX * box_area
            plates.append(plate if fits else None)
        if sum(plate.w * plate.h for plate in plates if plate) <= MAX_COVER * picture_area:
            return plates
    return [None] * len(captions)


def _free_spot(
    plate: _Plate, boxes: NDArray[np.int64], number: int, taken: NDArray[np.int64], size: tuple[int, int]
) -> tuple[int, int, int, int] | None:
    """The place at the box of that number where a plate hides least of the others; the first of equals, None if none.

    Shares are compared in steps of a tenth: a place that is liked better may hide a little more.
    """
    width, height = size
    spots = np.array(
        [(min(max(x, 0), width - plate.w), y) for x, y in _places(plate, boxes[number]) if 0 <= y <= height - plate.h],
        dtype=np.int64,
    ).reshape(-1, 2)
    spots = np.concatenate([spots, spots + np.array([plate.w, plate.h])], axis=1)
    spots = spots[(_common(spots, taken) == 0).all(axis=1)]
    if not len(spots):
        return None
    sides = boxes[:, 2:] - boxes[:, :2]
    hidden = _common(spots, boxes) / (sides[:, 0] * sides[:, 1])
    own = hidden[:, number].copy()
    hidden[:, number] = 0
    worst = hidden.max(axis=1)
    allowed = np.flatnonzero((worst <= MOST_HIDDEN) & (own <= MOST_HIDDEN_OF_OWN))
    if not len(allowed):
        return None
    x0, y0, x1, y1 = spots[allowed[np.argmin(np.floor(10 * worst[allowed]))]].tolist()
    return x0, y0, x1, y1


def _common(first: NDArray[np.int64], second: NDArray[np.int64]) -> NDArray[np.int64]:
    """Px² that boxes [A, 4] and [B, 4] have in common, [A, B]."""
    low = np.maximum(first[:, None, :2], second[None, :, :2])
    high = np.minimum(first[:, None, 2:], second[None, :, 2:])
    return np.asarray(np.clip(high - low, 0, None).prod(axis=2))


def _places(plate: _Plate, box: NDArray[np.int64]) -> Iterator[tuple[int, int]]:
    """Upper left corners in order of liking: above the box, in its upper edge, below, then into it, then beside it."""
    x0, y0, x1, y1 = (int(side) for side in box)
    columns = (x0, x1 - plate.w, (x0 + x1 - plate.w) // 2)
    for x in columns:
        for y in (y0 - plate.h, y0, y1, y1 - plate.h):
            yield x, y
    for y in range(y0 + plate.h, y1 - 2 * plate.h + 1, plate.h):
        yield x0, y
    for x in (x1, x0 - plate.w):
        for y in (y0, (y0 + y1 - plate.h) // 2, y1 - plate.h):
            yield x, y


def with_legend(picture: Image.Image, entries: Sequence[tuple[Colour, str]]) -> Image.Image:
    """The picture with a strip below it that says what its colours are; its own pixels stay as they are.

    Args:
        picture: RGB.
        entries: colours and their names, in order; as many rows as they need. None: the picture itself.
    """
    if not entries:
        return picture
    size = font_size(picture.height, picture.width)
    font = ImageFont.load_default(size)
    pad = max(2, size // 3)
    row_h, x, y = size + 2 * pad, pad, 0
    places = []
    for colour, name in entries:
        text = _shortened(" ".join(name.split()), lambda text: font.getlength(text) <= picture.width - size - 4 * pad)
        wide = size + 2 * pad + int(np.ceil(font.getlength(text))) + pad
        if x > pad and x + wide > picture.width:
            x, y = pad, y + row_h
        places.append((x, y, colour, text))
        x += wide
    shown = Image.new("RGB", (picture.width, picture.height + y + row_h), "white")
    shown.paste(picture, (0, 0))
    draw = ImageDraw.Draw(shown)
    for x, y, colour, text in places:
        top = picture.height + y + pad
        draw.rectangle((x, top, x + size - 1, top + size - 1), fill=colour)
        draw.text((x + size + pad, top + size / 2), text, font=font, fill=(16, 16, 16), anchor="lm")
    return shown


def _shortened(text: str, fits: Callable[[str], bool]) -> str:
    """A text, cut at its end until it fits, with dots where something is missing."""
    while text and not fits(text):
        text = text.removesuffix("...")[:-1].rstrip()
        text = f"{text}..." if text else ""
    return text
