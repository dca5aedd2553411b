"""Two pictures of each suspect: what is labelled, and what the model sees."""

import base64
import io
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from finemask.coco.index import CocoIndex
from finemask.datatools.suspects.find import Suspect
from finemask.ops.colours import VERDICTS, Colour
from finemask.ops.drawing import FAINT_OPACITY, draw_instances, is_captioned
from finemask.ops.rle import crop_to_rle, rle_box_xywh, rle_to_crop
from finemask.types import Rle

_SIDE_PX = 400  # of a picture; smaller ones would be enlarged for drawing, and shrunk again
_MARGIN = 0.4  # around what is shown, of its longer side
_LEAST_PX = 48  # of the image, in a picture: a tiny object needs its surroundings
_JPEG_QUALITY = 78


class Pair(NamedTuple):
    """Both pictures as ``data:`` addresses."""

    labelled: str
    seen: str


def draw_pairs(index: CocoIndex, suspects: Sequence[Suspect]) -> list[Pair]:
    """Draws suspects of one image.

    Args:
        index: that they were found in.
        suspects: at least one; all on the same image.

    Raises:
        DataError: the image cannot be read.
    """
    image = suspects[0].scene.image
    pixels = index.read_image(image)
    return [_pair(pixels, suspect, [category.name for category in index.categories]) for suspect in suspects]


def _pair(pixels: NDArray[np.uint8], suspect: Suspect, names: Sequence[str]) -> Pair:
    scene = suspect.scene
    window = _window([suspect.rle, *(scene.label_rles[a] for a in suspect.labels)], *pixels.shape[:2])
    shown = list(suspect.labels) or range(len(scene.label_ids))  # where a label is missing: whatever is around
    if not suspect.labels:
        palette = [VERDICTS["found"]] * len(shown)
    else:
        doubt = "wrong-class" if suspect.rule == "wrong-class" else "false"
        palette = [VERDICTS[doubt], *[VERDICTS["found"]] * (len(shown) - 1)]  # of a duplicate the first is to go
    labelled = _draw(
        pixels,
        window,
        [scene.label_rles[a] for a in shown],
        [names[scene.label_classes[a] - 1] for a in shown],
        palette,
    )
    caption = f"{names[suspect.label - 1]} {scene.scores[suspect.detection]:.2f}"
    seen = VERDICTS["found" if suspect.labels else "missed"]
    return Pair(labelled, _draw(pixels, window, [suspect.rle], [caption], [seen]))


def _window(rles: Sequence[Rle], height: int, width: int) -> tuple[int, int, int, int]:
    """Part of the image that is shown: x0, y0, x1, y1 in px."""
    boxes = np.array([rle_box_xywh(rle) for rle in rles])
    low, high = boxes[:, :2].min(axis=0), (boxes[:, :2] + boxes[:, 2:]).max(axis=0)
    half = max(float((high - low).max()) * (0.5 + _MARGIN), _LEAST_PX / 2)
    centre = (low + high) / 2
    x0, y0 = np.maximum(np.floor(centre - half), 0).astype(int).tolist()
    x1, y1 = np.minimum(np.ceil(centre + half), (width, height)).astype(int).tolist()
    return x0, y0, x1, y1


def _draw(
    pixels: NDArray[np.uint8],
    window: tuple[int, int, int, int],
    rles: Sequence[Rle],
    captions: Sequence[str],
    palette: Sequence[Colour],
) -> str:
    x0, y0, x1, y1 = window
    factor = _SIDE_PX / max(x1 - x0, y1 - y0)
    size = (max(1, round((x1 - x0) * factor)), max(1, round((y1 - y0) * factor)))
    ground = Image.fromarray(pixels[y0:y1, x0:x1]).resize(size, Image.Resampling.BICUBIC)
    inside = [
        (_cut(rle, window, size), caption if is_captioned(*rle_box_xywh(rle)[2:]) else "", colour)
        for rle, caption, colour in zip(rles, captions, palette, strict=True)
    ]
    kept = [(rle, caption, colour) for rle, caption, colour in inside if rle is not None]
    boxes = np.array([rle_box_xywh(rle) for rle, _, _ in kept]).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    picture = draw_instances(
        np.asarray(ground),
        rles=[rle for rle, _, _ in kept],
        boxes_xyxy=boxes,
        captions=[caption for _, caption, _ in kept],
        palette=[colour for _, _, colour in kept],
        fill_opacity=FAINT_OPACITY,
    )
    stream = io.BytesIO()
    picture.save(stream, "JPEG", quality=_JPEG_QUALITY)
    return f"data:image/jpeg;base64,{base64.b64encode(stream.getvalue()).decode()}"


def _cut(rle: Rle, window: tuple[int, int, int, int], size_wh: tuple[int, int]) -> Rle | None:
    """The part of a mask inside the window, at the size of the picture; None: nothing of it."""
    mask, left, top = rle_to_crop(rle)
    x0, y0, x1, y1 = window
    part = np.zeros((y1 - y0, x1 - x0), dtype=np.uint8)
    a0, b0 = max(left, x0), max(top, y0)
    a1, b1 = min(left + mask.shape[1], x1), min(top + mask.shape[0], y1)
    if a0 >= a1 or b0 >= b1:
        return None
    part[b0 - y0 : b1 - y0, a0 - x0 : a1 - x0] = mask[b0 - top : b1 - top, a0 - left : a1 - left]
    scaled = np.asarray(Image.fromarray(part).resize(size_wh, Image.Resampling.NEAREST)) > 0
    return crop_to_rle(scaled, 0, 0, *scaled.shape) if scaled.any() else None
