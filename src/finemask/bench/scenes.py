"""Synthetic images and targets for benchmarks: as heavy as real ones, the same on every machine."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from pycocotools import mask as coco_mask
from torch import Tensor

from finemask.ops.layers import boxes_and_areas_from_layers, layers_to_masks, masks_to_layers
from finemask.types import Target


def scene(height: int, width: int, objects: int, seed: int, num_categories: int = 1) -> tuple[Tensor, Target]:
    """A noisy image with ellipses in it.

    Args:
        height: px.
        width: px.
        objects: how many; their sides are an eighth to a third of the image's.
        seed: of everything random.
        num_categories: labels are 1 to this.

    Returns:
        uint8 [3, H, W] and its target.
    """
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 256, (3, height, width), dtype=np.uint8)
    y, x = np.mgrid[:height, :width]
    masks = np.zeros((objects, height, width), dtype=bool)
    for mask in masks:
        radius_y, radius_x = rng.uniform(1 / 16, 1 / 6, 2) * (height, width)
        centre_y = rng.uniform(radius_y, height - radius_y)
        centre_x = rng.uniform(radius_x, width - radius_x)
        mask |= ((y - centre_y) / radius_y) ** 2 + ((x - centre_x) / radius_x) ** 2 <= 1
    layers, slots = masks_to_layers(torch.from_numpy(masks))
    boxes, _ = boxes_and_areas_from_layers(layers.numpy(), slots.numpy())
    target = Target(
        boxes=torch.from_numpy(boxes),
        labels=torch.from_numpy(rng.integers(1, num_categories + 1, objects)),
        layers=layers,
        slots=slots,
        image_id=seed,
    )
    return torch.from_numpy(image), target


def dense_target(target: Target) -> dict[str, Tensor]:
    """The same as torchvision takes it: one full-size mask an instance, uint8 [N, H, W]."""
    masks = layers_to_masks(target["layers"], target["slots"]).byte()
    return {"boxes": target["boxes"], "labels": target["labels"], "masks": masks}


def write_scenes(root: Path, images: int, height: int, width: int, objects: int, split: str = "train") -> None:
    """A COCO dataset of scenes: JPEGs in ``images`` and ``annotations/SPLIT.json``, masks as RLE, one category.

    Args:
        root: folder of the dataset; made if need be.
        images: how many.
        height: px.
        width: px.
        objects: on each image.
        split: name of the annotation file and beginning of the file names; its letters also seed the scenes.
    """
    for folder in ("images", "annotations"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    entries: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    first_seed = sum(map(ord, split)) * 1000
    for number in range(1, images + 1):
        image, target = scene(height, width, objects, first_seed + number)
        name = f"{split}_{number:05}.jpg"
        pixels = Image.fromarray(image.permute(1, 2, 0).numpy())
        small = pixels.resize((max(1, width // 16), max(1, height // 16)))  # noise is no photograph to a decoder
        small.resize((width, height)).save(root / "images" / name, quality=90)
        entries.append({"id": number, "file_name": name, "height": height, "width": width})
        for mask in layers_to_masks(target["layers"], target["slots"]).numpy():
            rle: Any = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": number,
                    "category_id": 1,
                    "iscrowd": 0,
                    "bbox": coco_mask.toBbox(rle).tolist(),
                    "area": int(coco_mask.area(rle)),
                    "segmentation": {"size": rle["size"], "counts": rle["counts"].decode()},
                }
            )
    content = {"images": entries, "annotations": annotations, "categories": [{"id": 1, "name": "ellipse"}]}
    (root / "annotations" / f"{split}.json").write_text(json.dumps(content), encoding="utf-8")


def proposals_around(boxes: Tensor, each: int, size_hw: tuple[int, int], seed: int) -> Tensor:
    """What a trained RPN proposes for objects: boxes that overlap them well.

    Args:
        boxes: float [N, 4], xyxy px.
        each: proposals an object.
        size_hw: of the image, px.
        seed: of the shifts.

    Returns:
        float [each · N, 4], xyxy px, inside the image, shifted by up to a tenth of the side.
    """
    generator = torch.Generator().manual_seed(seed)
    sides = (boxes[:, 2:] - boxes[:, :2]).repeat(each, 2)
    moved = boxes.repeat(each, 1) + (torch.rand(sides.shape, generator=generator) - 0.5) * 0.2 * sides
    height, width = size_hw
    return torch.stack([moved[:, k].clamp(0, (width, height)[k % 2]) for k in range(4)], dim=1)
