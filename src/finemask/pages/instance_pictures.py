"""Pictures of instances for a page: a whole image or a window of it, as ``data:`` addresses."""

import base64
import io
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from finemask.ops.colours import Colour
from finemask.ops.drawing import FAINT_OPACITY, draw_instances, is_captioned, upscale_factor
from finemask.ops.images.shrinking import read_shrunk, shrink_factor, shrunk_mask
from finemask.ops.images.window_reader import WindowReader
from finemask.ops.rle import crop_to_rle, rle_box_xywh, rle_to_crop
from finemask.types import Rle

WHOLE_PX, CROP_PX = 880, 440  # longer side of a picture
WHOLE_BYTES, CROP_BYTES = 120_000, 32_000  # at most, before base64 makes four of three
_QUALITIES = (84, 70, 50)
CONTEXT = 3.0  # a crop's side in sides of what it is of
_LEAST_PX = 32  # side that what a crop is of is taken to have: a tiny object needs its surroundings


class Window(NamedTuple):
    """A part of an image, px; the ends are not inside."""

    x0: int
    y0: int
    x1: int
    y1: int


class ColouredInstance(NamedTuple):
    """An annotation or a result, and the colour that says what became of it."""

    entry: Mapping[str, Any]
    colour: Colour


def picture_of(
    image: WindowReader,
    instances: Sequence[ColouredInstance],
    names: Mapping[int, str],
    around: Sequence[float] | None = None,
    *,
    context: float = CONTEXT,
    framed: bool = True,
) -> str:
    """Annotations or results on an image, or on what surrounds a place in it, as a ``data:`` address.

    Args:
        image: open.
        instances: of the image; crowd regions are not drawn.
        names: of the categories, by id; one name is not written on the picture.
        around: a box, xywh px, to show large; by default the whole image is shown.
        context: side of what is shown, in sides of the box.
        framed: whether the box gets a frame.

    Raises:
        DataError: the image is damaged.
    """
    window = Window(0, 0, *image.size_hw[::-1]) if around is None else window_around(around, image.size_hw, context)
    return data_uri(draw_window(image, instances, names, window, around if framed else None), whole=around is None)


def window_around(box: Sequence[float], shape: Sequence[int], context: float = CONTEXT) -> Window:
    """A square around a box with room at its sides, moved and cut to lie inside the image.

    Args:
        box: xywh px.
        shape: [H, W, …] of the image.
        context: side of the square, in sides of the box.
    """
    side = round(context * max(box[2], box[3], _LEAST_PX))
    x, y = box[0] + box[2] / 2 - side / 2, box[1] + box[3] / 2 - side / 2
    x0 = round(min(max(x, 0), max(shape[1] - side, 0)))
    y0 = round(min(max(y, 0), max(shape[0] - side, 0)))
    return Window(x0, y0, min(x0 + side, shape[1]), min(y0 + side, shape[0]))


def draw_window(
    image: WindowReader,
    instances: Sequence[ColouredInstance],
    names: Mapping[int, str],
    window: Window,
    framed: Sequence[float] | None = None,
) -> Image.Image:
    """Draws annotations or results on a part of an image; on a large one shrunk, so that no more of it is held.

    Args:
        image: open.
        instances: crowd regions, and what lies outside the window, are not drawn.
        names: of the categories, by id; one name is not written on the picture.
        window: the part.
        framed: a box, xywh px, that is framed.

    Raises:
        DataError: the image is damaged.
    """
    factor = shrink_factor(window.y1 - window.y0, window.x1 - window.x0)
    inside = [drawn for drawn in instances if not drawn.entry.get("iscrowd") and _touches(drawn.entry, window)]
    shown = [drawn.entry for drawn in inside]
    boxes = [(_box_xyxy(instance) - [window.x0, window.y0, window.x0, window.y0]) / factor for instance in shown]
    crop = read_shrunk(image, window, factor)
    picture = draw_instances(
        crop,
        rles=[_rle_in_window(instance, window, factor) for instance in shown],
        boxes_xyxy=np.array(boxes, dtype=np.float64).reshape(-1, 4),
        captions=[_caption(instance, names, factor) for instance in shown],
        palette=[drawn.colour for drawn in inside],
        fill_opacity=FAINT_OPACITY,
    )
    if framed is not None:
        x, y, w, h = framed
        corners = np.array([x - window.x0, y - window.y0, x + w - window.x0, y + h - window.y0])
        _frame(picture, corners * upscale_factor(*crop.shape[:2]) / factor)
    return picture


def _frame(picture: Image.Image, corners: NDArray[np.float64]) -> None:
    """Two rings, dark and light, a little off the box: to be seen on any picture and not taken for a detection."""
    line = max(2, round(max(picture.size) / 160))
    draw = ImageDraw.Draw(picture)
    for distance, colour in ((2, "black"), (3, "white"), (4, "black")):
        x0, y0 = (corners[:2] - distance * line).round().tolist()
        x1, y1 = (corners[2:] + distance * line).round().tolist()
        low_x, low_y = max(x0, 0), max(y0, 0)
        high_x, high_y = max(low_x, min(x1, picture.width - 1)), max(low_y, min(y1, picture.height - 1))
        draw.rectangle((low_x, low_y, high_x, high_y), outline=colour, width=line)


def _box_xyxy(instance: Mapping[str, Any]) -> NDArray[np.float64]:
    x, y, w, h = box_xywh(instance)
    return np.array([x, y, x + w, y + h], dtype=np.float64)


def _touches(instance: Mapping[str, Any], window: Window) -> bool:
    x0, y0, x1, y1 = _box_xyxy(instance)
    return bool(x0 < window.x1 and x1 > window.x0 and y0 < window.y1 and y1 > window.y0)


def _rle_in_window(instance: Mapping[str, Any], window: Window, factor: int = 1) -> Rle:
    """The part of a mask inside a window, shrunk; of an instance without one, an empty mask."""
    height, width = window.y1 - window.y0, window.x1 - window.x0
    crop, x, y = np.zeros((0, 0), dtype=np.bool_), window.x0, window.y0
    if "segmentation" in instance:
        crop, x, y = rle_to_crop(instance["segmentation"])
    inside = crop[max(window.y0 - y, 0) : max(window.y1 - y, 0), max(window.x0 - x, 0) : max(window.x1 - x, 0)]
    if not inside.size:
        return shrunk_mask(crop_to_rle(np.zeros((0, 0), dtype=np.bool_), 0, 0, height, width), factor)
    rle = crop_to_rle(inside, max(x - window.x0, 0), max(y - window.y0, 0), height, width)
    return rle if factor == 1 else shrunk_mask(rle, factor)


def _caption(instance: Mapping[str, Any], names: Mapping[int, str], factor: int) -> str:
    width, height = box_xywh(instance)[2:]
    if not is_captioned(width / factor, height / factor):
        return ""
    name = names[instance["category_id"]] if len(names) > 1 else ""
    score = f"{instance['score']:.2f}" if "score" in instance else ""
    return f"{name} {score}".strip()


def data_uri(picture: Image.Image, *, whole: bool) -> str:
    """A picture as a ``data:`` address; a whole image may be larger than a close-up."""
    side, limit = (WHOLE_PX, WHOLE_BYTES) if whole else (CROP_PX, CROP_BYTES)
    picture.thumbnail((side, side), Image.Resampling.HAMMING)
    return "data:image/jpeg;base64," + base64.b64encode(_jpeg(picture, limit)).decode("ascii")


def _jpeg(picture: Image.Image, limit: int) -> bytes:
    """As good as the limit in bytes allows: lower quality first, then a smaller picture."""
    while True:
        for quality in _QUALITIES:
            buffer = io.BytesIO()
            picture.save(buffer, "JPEG", quality=quality, optimize=True)
            if buffer.tell() <= limit or max(picture.size) <= 32:
                return buffer.getvalue()
        picture = picture.reduce(2)


def box_xywh(entry: Mapping[str, Any]) -> list[float]:
    """The box of an annotation or a result, px; that of its mask if it has none of its own."""
    return list(entry["bbox"]) if "bbox" in entry else rle_box_xywh(entry["segmentation"])
