"""How well a run's anchors fit its objects, said at its start."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from finemask.model.resolve import Boxes, anchor_coverage


def trained_boxes(index: Any) -> Boxes:
    """Boxes of all objects that are trained on, and the size of the image of each.

    Args:
        index: a ``CocoIndex``.

    Returns:
        [n, 4] xyxy px of the original images, and their heights and widths [n, 2]. Crowds and outlines that lie
        outside their image are left out.
    """
    boxes = index.segments.boxes_xyxy
    image = np.repeat(np.arange(len(index)), np.diff(index.first_annotation))
    kept = ~index.iscrowd & (boxes[:, 2:] > boxes[:, :2]).all(axis=1)
    size_hw = np.stack([index.heights, index.widths], axis=1)
    return boxes[kept], size_hw[image[kept]]


def anchors_line(before: Mapping[str, Any], after: Mapping[str, Any], boxes: Boxes) -> str | None:
    """One line: the share of the objects that an anchor overlaps by half or more, fitted or not.

    Args:
        before: the group ``model`` as composed.
        after: the same, resolved.
        boxes: as ``trained_boxes`` gives them.

    Returns:
        ``None`` where there is nothing to say: no objects, or anchors of somebody else's.
    """
    now = anchor_coverage(after, boxes)
    if now is None:
        return None
    text = f"{now:.1%} of the training objects have one that overlaps them by half or more (sizes {_of(after)})"
    if before["anchors"].get("fit", "default") != "auto":
        return f"Anchors: {text}"
    then = anchor_coverage(before, boxes)
    if all(list(before["anchors"][key]) == list(after["anchors"][key]) for key in ("sizes", "aspect_ratios")):
        return f"Anchors, auto: {text}; kept, no others do clearly better"
    return f"Anchors, auto: {text}; before it were {then:.1%} (sizes {_of(before)})"


def _of(config: Mapping[str, Any]) -> str:
    sizes, ratios = (
        "[" + ", ".join(f"{value:g}" for value in config["anchors"][key]) + "]" for key in ("sizes", "aspect_ratios")
    )
    return f"{sizes} px, height/width {ratios}"
