"""An image twice: as it is labelled, and as it is predicted, in the same colours."""

from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from finemask.inference.instances import Instances
from finemask.ops.colours import NO_VERDICT, Colour, colours
from finemask.ops.drawing import draw_instances, font_size, with_legend
from finemask.types import Rle

_TITLES = ("as labelled", "as predicted")


class Label(NamedTuple):
    """One object of an annotation file."""

    class_name: str
    box_xyxy: Sequence[float]  # px
    rle: Rle


LabelsOf: TypeAlias = Callable[[str], Sequence[Label]]
"""Name of an image to what is labelled in it."""


def side_by_side(instances: Instances, labels: Sequence[Label]) -> Image.Image:
    """Labels on the left, instances with their scores on the right, and below what the colours of the classes are.

    Args:
        instances: with their image.
        labels: of the same image; a class that the model does not know is grey.

    Raises:
        ValueError: the image was not kept.
    """
    if instances.image is None:
        raise ValueError("side_by_side needs the image")
    numbers = {category.name: number for number, category in enumerate(instances.categories)}
    named = [label.class_name for label in labels]
    halves = [
        _half(instances.image, [label.rle for label in labels], [label.box_xyxy for label in labels], named, numbers),
        _half(
            instances.image,
            instances.rles,
            instances.boxes,
            instances.class_names,
            numbers,
            [f"{score:.2f}" for score in instances.scores],
        ),
    ]
    width, height = halves[0].size
    size = font_size(height, width)
    font, pad = ImageFont.load_default(size), max(2, size // 3)
    sheet = Image.new("RGB", (2 * width + 2 * pad, height + size + 2 * pad), "white")
    draw = ImageDraw.Draw(sheet)
    for x, title, half in zip((0, width + 2 * pad), _TITLES, halves, strict=True):
        draw.text((x + pad, pad + size / 2), title, font=font, fill=(16, 16, 16), anchor="lm")
        sheet.paste(half, (x, size + 2 * pad))
    found = sorted({*named, *instances.class_names}, key=lambda name: (numbers.get(name, len(numbers)), name))
    return with_legend(sheet, [(_colour(name, numbers), name) for name in found])


def _half(
    image: NDArray[np.uint8],
    rles: Sequence[Rle],
    boxes: Sequence[Sequence[float]] | NDArray[np.float32],
    class_names: Sequence[str],
    numbers: dict[str, int],
    captions: Sequence[str] | None = None,
) -> Image.Image:
    return draw_instances(
        image,
        rles=rles,
        boxes_xyxy=np.array(boxes, dtype=np.float64).reshape(-1, 4),
        captions=[""] * len(rles) if captions is None else captions,
        palette=[_colour(name, numbers) for name in class_names],
    )


def _colour(class_name: str, numbers: dict[str, int]) -> Colour:
    return colours([numbers[class_name]])[0] if class_name in numbers else NO_VERDICT
