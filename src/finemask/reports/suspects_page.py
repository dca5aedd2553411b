"""The page on which a person looks at suspects and ticks those that are right."""

import base64
import io
import json
from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any, NamedTuple

import numpy as np
from jinja2 import Environment, StrictUndefined
from markupsafe import Markup
from numpy.typing import NDArray
from PIL import Image

from finemask.coco.index import CocoIndex
from finemask.datatools.suspects.label_faults import RULES, Suspect
from finemask.ops.colours import VERDICTS, Colour
from finemask.ops.drawing import FAINT_OPACITY, draw_instances, is_captioned
from finemask.ops.rle import crop_to_rle, rle_box_xywh, rle_to_crop
from finemask.ops.wording import plural
from finemask.pages.shell import page
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


EYEBROW = "finemask data suspects"
"""In every page of this verb, so that nobody else's is written over."""

_ACTIONS = {
    "add-label": "Add the model's outline as a label",
    "change-class": "Change the class to",
    "replace-mask": "Replace the mask by the model's",
    "remove-label": "Remove annotation",
}


def suspects_page(
    content: Mapping[str, Any],
    pairs: Sequence[Pair | None],
    title: str,
    lines: Sequence[str],
    footer: Mapping[str, str],
) -> str:
    """Renders the page.

    Args:
        content: of ``suspects.json``.
        pairs: pictures of each of its suspects; None where the image could not be read.
        title: the heading.
        lines: sentences under it.
        footer: where everything comes from.
    """
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    template = files(__package__).joinpath("templates", "suspects.html.j2").read_text(encoding="utf-8")
    entries = content["suspects"]
    rules = [(rule, what, sum(entry["rule"] == rule for entry in entries)) for rule, what in RULES.items()]
    body = environment.from_string(template).render(
        lines=lines,
        rules=[row for row in rules if row[2]],
        items=[
            {"entry": entry, "pair": pair, "action": action(entry)} for entry, pair in zip(entries, pairs, strict=True)
        ],
        data=_as_script(content),
    )
    return page(title, Markup(body), eyebrow=EYEBROW, lead=_lead(len(entries)), footer=footer)


def action(entry: Mapping[str, Any]) -> str:
    """What accepting an entry does, in a few words."""
    change = entry["change"]
    words = _ACTIONS[change["action"]]
    if change["action"] == "change-class":
        return f"{words} {change['category']!r}"
    return f"{words} {change['annotation_id']}" if change["action"] == "remove-label" else words


def _lead(number: int) -> str:
    if not number:
        return "None of the labels is contradicted."
    suspects = plural(number, "label")
    return f"{suspects} that the model contradicts, the surest first. Tick those where the model is right, and save."


def _as_script(content: Mapping[str, Any]) -> Markup:
    """JSON that no text in it can end the script element of."""
    return Markup(json.dumps(content).replace("<", "\\u003c"))
