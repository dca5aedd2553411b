"""Judging entries of an annotation file: is their size, box or file name sound, whatever else they hold?"""

from typing import Any

from finemask.coco.values import is_number, whole

MAX_PIXELS = 2**31
"""Images of more pixels cannot have masks: COCO's run lengths are 32-bit numbers."""


def has_segmentation(entry: dict[str, Any]) -> bool:
    """Whether there is anything under ``segmentation``, sound or not."""
    segmentation = entry.get("segmentation")
    return segmentation is not None and segmentation != [] and segmentation != {}


def sound_size(entry: dict[str, Any]) -> tuple[int, int] | None:
    """Height and width in px of an image entry; None unless both are whole, positive and not beyond all measure."""
    height, width = whole(entry.get("height")), whole(entry.get("width"))
    if height is None or width is None or height < 1 or width < 1 or height * width >= MAX_PIXELS:
        return None
    return height, width


def sound_box(value: Any) -> tuple[float, float, float, float] | None:
    """A box as four floats; None unless it is a list of four finite numbers."""
    if not isinstance(value, list) or len(value) != 4 or not all(is_number(number) for number in value):
        return None
    x, y, w, h = (float(number) for number in value)
    return x, y, w, h


def same_image(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether two entries describe one image."""
    return all(one.get(key) == other.get(key) for key in ("file_name", "height", "width"))
