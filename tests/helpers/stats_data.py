"""COCO files whose instances are known pixel by pixel, for the tests of statistics and previews."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pycocotools import mask as coco_mask

Mask = NDArray[np.bool_]


def rectangle(size_hw: tuple[int, int], x0: int, y0: int, x1: int, y1: int) -> Mask:
    """A mask that is set from x0 to x1 - 1 and from y0 to y1 - 1."""
    mask = np.zeros(size_hw, dtype=np.bool_)
    mask[y0:y1, x0:x1] = True
    return mask


def write_coco(
    root: Path,
    images: Sequence[NDArray[np.uint8] | tuple[int, int]],
    objects: Sequence[tuple[int, str, Mask]],
    *,
    crowds: Sequence[tuple[int, str, Mask]] = (),
    names: Sequence[str] = (),
    file: str = "annotations/train.json",
    suffix: str = ".png",
) -> Path:
    """Writes images and their annotations.

    Args:
        root: of the dataset; images lie in ``images``.
        images: arrays [H, W, 3], or sizes (height, width) of black images.
        objects: image number, class and mask of each.
        crowds: likewise.
        names: classes, those of the objects if empty; ids are 10, 20, ….
        file: annotation file, relative to ``root``.
        suffix: of the images.

    Returns:
        The annotation file.
    """
    names = list(names) or sorted({name for _, name, _ in [*objects, *crowds]})
    entries = []
    (root / "images").mkdir(parents=True, exist_ok=True)
    for number, image in enumerate(images):
        pixels = np.zeros((*image, 3), np.uint8) if isinstance(image, tuple) else image
        name = f"image_{number}{suffix}"
        Image.fromarray(pixels).save(root / "images" / name)
        entries.append({"id": 100 + number, "file_name": name, "height": len(pixels), "width": pixels.shape[1]})
    annotations = []
    for crowd, group in ((0, objects), (1, crowds)):
        for number, name, mask in group:
            rle = coco_mask.encode(np.asfortranarray(mask, dtype=np.uint8))
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": 100 + number,
                    "category_id": 10 * (names.index(name) + 1),
                    "segmentation": {"size": list(mask.shape), "counts": rle["counts"].decode()},
                    "iscrowd": crowd,
                }
            )
    path = root / file
    path.parent.mkdir(parents=True, exist_ok=True)
    categories = [{"id": 10 * (k + 1), "name": name} for k, name in enumerate(names)]
    path.write_text(json.dumps({"images": entries, "annotations": annotations, "categories": categories}))
    return path
