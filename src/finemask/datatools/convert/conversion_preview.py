"""Preview of a conversion: one picture of converted images with their outlines, boxes and class names."""

from collections import Counter
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from finemask.datatools.convert.records import Dataset, ImageRecord, Instance
from finemask.errors import UndecidedImageError
from finemask.ops.colours import colours
from finemask.ops.drawing import draw_instances
from finemask.ops.images.decode import decode_image
from finemask.ops.images.image_reading import ImageReading
from finemask.ops.rle import crop_to_rle, rle_to_crop
from finemask.ops.wording import plural
from finemask.pages.contact_sheet import Cell, contact_sheet
from finemask.types import Rle

MAX_IMAGES = 9
CELL_WH = (560, 420)  # px
COLUMNS = 3
MAX_LEGEND = 24


def draw_preview(dataset: Dataset, format_name: str) -> Image.Image | None:
    """Draws a contact sheet: some images of every split with their instances.

    Args:
        dataset: images that are files.
        format_name: what they were converted from.

    Returns:
        A contact sheet; None if no image can be shown.
    """
    numbers = {category.name: number for number, category in enumerate(dataset.categories)}
    shown = [image for image in _chosen(dataset) if image.path is not None or image.embedded is not None]
    if not shown:
        return None
    used = Counter(instance.category for image in shown for instance in image.instances)
    classes = [name for name, _ in used.most_common(MAX_LEGEND)] if len(numbers) > 1 else []
    legend = list(zip(classes, colours(numbers[name] for name in classes), strict=True))
    total = sum(len(image.instances) for image in dataset.images)
    return contact_sheet(
        [[_cell(image, numbers)] for image in shown],
        cell_wh=CELL_WH,
        columns=min(COLUMNS, len(shown)),
        title=f"Converted from {format_name}",
        subtitle=f"{len(shown)} of {plural(len(dataset.images), 'image')}; {plural(total, 'object')} in all. "
        "Do the outlines fit?",
        legend=legend,
    )


def _chosen(dataset: Dataset) -> list[ImageRecord]:
    """Spread over the splits and over each split's images, those with objects first."""
    per_split = []
    for images in dataset.splits().values():
        filled = [image for image in images if image.instances] or images
        steps = np.linspace(0, len(filled) - 1, min(MAX_IMAGES, len(filled))).round().astype(int)
        per_split.append([filled[step] for step in dict.fromkeys(steps.tolist())])
    chosen: list[ImageRecord] = []
    while any(per_split) and len(chosen) < MAX_IMAGES:
        for images in per_split:
            if images and len(chosen) < MAX_IMAGES:
                chosen.append(images.pop(len(images) // 2))
    order = list(dataset.splits())
    return sorted(chosen, key=lambda image: (order.index(image.split or "train"), image.name))


def _cell(image: ImageRecord, numbers: dict[str, int]) -> Cell:
    pixels = _pixels(image.path or image.embedded or b"", (image.height, image.width))
    scale = min(1.0, CELL_WH[0] / image.width, CELL_WH[1] / image.height)
    height, width = (max(1, round(side * scale)) for side in pixels.shape[:2])
    small = np.asarray(Image.fromarray(pixels).resize((width, height), Image.Resampling.LANCZOS))
    shown = [_shrunk(instance, image, height, width) for instance in image.instances]
    boxes = np.array([box for _, box in shown], dtype=np.float64).reshape(-1, 4)
    picture = draw_instances(
        small,
        rles=[rle for rle, _ in shown],
        boxes_xyxy=boxes * (width / image.width),
        captions=[_caption(instance, len(numbers)) for instance in image.instances],
        palette=None if len(numbers) < 2 else colours(numbers[i.category] for i in image.instances),
    )
    picture.thumbnail(CELL_WH)
    facts = f"{image.split or 'no split'}, {plural(len(image.instances), 'object')}, {image.width} x {image.height} px"
    return Cell(picture, image.name, facts)


def _pixels(source: Path | bytes, size_hw: tuple[int, int]) -> NDArray[np.uint8]:
    """Enough to see whether the outlines fit; what training reads of such files nobody has said yet."""
    try:
        return decode_image(source, size_hw, ImageReading(page=0, range="image"))
    except UndecidedImageError:
        return decode_image(source, size_hw, ImageReading(page=0, range="image", channels=(0,)))


def _caption(instance: Instance, num_categories: int) -> str:
    """The class, unless there is only one."""
    crowd = "crowd" if instance.crowd else ""
    return crowd if num_categories < 2 else f"{instance.category} {crowd}".strip()


def _shrunk(
    instance: Instance, image: ImageRecord, height: int, width: int
) -> tuple[Rle, tuple[float, float, float, float]]:
    """The mask at the size it is shown, empty for a box; and its extent in the image, xyxy px."""
    nothing = crop_to_rle(np.zeros((0, 0), dtype=np.bool_), 0, 0, height, width)
    if instance.is_box:
        return nothing, instance.box_xyxy()
    rle = instance.mask_rle(image.height, image.width)
    crop, x0, y0 = rle_to_crop(rle)
    x1, y1 = x0 + crop.shape[1], y0 + crop.shape[0]
    box = (x0, y0, x1, y1)
    if (height, width) == (image.height, image.width):
        return rle, box
    if not crop.size:
        return nothing, box
    sy, sx = height / image.height, width / image.width
    left, top = min(int(x0 * sx), width - 1), min(int(y0 * sy), height - 1)
    size = min(max(left + 1, round(x1 * sx)), width) - left, min(max(top + 1, round(y1 * sy)), height) - top
    shrunk = cv2.resize(crop.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST) > 0
    return crop_to_rle(shrunk, left, top, height, width), box
