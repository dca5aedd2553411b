"""The images that changed most: as labelled, as a sees them, as b sees them."""

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from finemask.errors import FinemaskError
from finemask.evaluation.comparison.compare import Comparison, ImageChange
from finemask.evaluation.ground_truth import GroundTruth
from finemask.evaluation.result_table import ResultTable
from finemask.ops.draw import draw_instances
from finemask.ops.rle import crop_to_rle, rle_box_xywh

_MAX_SIDE_PX = 640
_JPEG_QUALITY = 80


@dataclass(frozen=True)
class Triptych:
    """An image, drawn three times; the pictures are ``data:`` addresses."""

    name: str
    change: ImageChange
    truth: str
    a: str
    b: str


def draw_changes(
    truth: GroundTruth, a: ResultTable, b: ResultTable, comparison: Comparison, images_dir: Path, number: int
) -> tuple[list[Triptych], list[str]]:
    """Draws the images that changed most.

    Returns:
        The pictures, and the names of files that could not be read.
    """
    from finemask.ops.decode import decode_image

    names = {category.id: category.name for category in truth.categories}
    triptychs, unread = [], []
    for change in comparison.changes[:number]:
        info = truth.images[change.image_id]
        size_hw = (info.height, info.width) if info.height and info.width else None
        try:
            image = decode_image(images_dir / info.file_name, size_hw)
        except (FinemaskError, OSError, ValueError):
            unread.append(info.file_name)
            continue
        labelled = [e for e in truth.annotations if e["image_id"] == change.image_id and not e["iscrowd"]]
        drawn = [
            _drawn(image, _of_image(truth, table, change.image_id, threshold), names)
            for table, threshold in zip((a, b), comparison.thresholds, strict=True)
        ]
        triptychs.append(Triptych(info.file_name, change, _drawn(image, labelled, names), *drawn))
    return triptychs, unread


def _of_image(
    truth: GroundTruth, table: ResultTable, image_id: int, threshold: float | None
) -> list[Mapping[str, Any]]:
    if threshold is None:
        return []
    position = sorted(truth.images).index(image_id)
    return [table[number] for number in np.flatnonzero((table.image == position) & (table.score >= threshold)).tolist()]


def _drawn(image: NDArray[np.uint8], instances: Sequence[Mapping[str, Any]], names: Mapping[int, str]) -> str:
    height, width = image.shape[:2]
    nothing = crop_to_rle(np.zeros((0, 0), dtype=np.bool_), 0, 0, height, width)
    boxes = [list(e["bbox"]) if "bbox" in e else rle_box_xywh(e["segmentation"]) for e in instances]
    picture = draw_instances(
        image,
        rles=[e.get("segmentation", nothing) for e in instances],
        boxes_xyxy=np.array([[x, y, x + w, y + h] for x, y, w, h in boxes], dtype=np.float64).reshape(-1, 4),
        captions=[_caption(e, names) for e in instances],
        color_keys=[e["category_id"] for e in instances] if len(names) > 1 else None,
    )
    picture.thumbnail((_MAX_SIDE_PX, _MAX_SIDE_PX))
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=_JPEG_QUALITY, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def _caption(instance: Mapping[str, Any], names: Mapping[int, str]) -> str:
    name = names[instance["category_id"]] if len(names) > 1 else ""
    score = f"{instance['score']:.2f}" if "score" in instance else ""
    return f"{name} {score}".strip()
