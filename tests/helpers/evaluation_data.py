"""Random COCO datasets made by code, and what plain pycocotools says about them."""

import contextlib
import io
import json
from typing import Any

import numpy as np
import torch
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from finemask.ops.rle import mask_to_rle, rle_box_xywh
from finemask.types import Detections


def square(x: float, y: float, side: float) -> list[list[float]]:
    return [[x, y, x + side, y, x + side, y + side, x, y + side]]


def random_dataset(seed: int, images: int = 6, categories: int = 3, objects: int = 8) -> dict[str, Any]:
    """Ellipses of many sizes in images of many sizes and both orientations; RLE, some of it crowd."""
    random = np.random.default_rng(seed)
    dataset: dict[str, Any] = {"images": [], "annotations": [], "categories": []}
    dataset["categories"] = [{"id": 7 * k + 2, "name": f"class {k}"} for k in range(categories)]
    for image_id in range(1, images + 1):
        height, width = (int(side) for side in random.integers(20, 260, 2))
        dataset["images"].append({"id": image_id, "file_name": f"{image_id}.png", "height": height, "width": width})
        for _ in range(random.integers(0, objects + 1)):
            mask = ellipse(random, height, width)
            dataset["annotations"].append(
                {
                    "id": len(dataset["annotations"]) + 1,
                    "image_id": image_id,
                    "category_id": int(random.choice([c["id"] for c in dataset["categories"]])),
                    "segmentation": dict(mask_to_rle(mask)),
                    "bbox": rle_box_xywh(mask_to_rle(mask)),
                    "area": int(mask.sum()),
                    "iscrowd": int(random.random() < 0.1),
                }
            )
    return dataset


def ellipse(random: np.random.Generator, height: int, width: int) -> np.ndarray:
    y, x = np.mgrid[:height, :width]
    center_y, center_x = random.uniform(0, height), random.uniform(0, width)
    radius_y, radius_x = random.uniform(1, height / 2), random.uniform(1, width / 2)
    mask = ((y - center_y) / radius_y) ** 2 + ((x - center_x) / radius_x) ** 2 <= 1
    mask[int(center_y), int(center_x)] = True
    return mask


def random_results(dataset: dict[str, Any], seed: int, with_boxes: bool = True) -> list[dict[str, Any]]:
    """Objects moved, lost, doubled and mislabelled; scores with ties."""
    random = np.random.default_rng(seed)
    sizes = {image["id"]: (image["height"], image["width"]) for image in dataset["images"]}
    results = []
    for annotation in dataset["annotations"]:
        for _ in range(random.integers(0, 3)):
            height, width = sizes[annotation["image_id"]]
            mask = ellipse(random, height, width)
            rle = mask_to_rle(mask) if random.random() < 0.4 else annotation["segmentation"]
            result = {
                "image_id": annotation["image_id"],
                "category_id": annotation["category_id"]
                if random.random() < 0.8
                else int(random.choice([c["id"] for c in dataset["categories"]])),
                "segmentation": dict(rle),
                "score": round(float(random.random()), 1),
            }
            results.append(result | {"bbox": rle_box_xywh(rle)} if with_boxes else result)
    return results


def tangled_dataset(seed: int) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Objects and detections on top of one another, so that most of them have several to choose from.

    Areas are of every size whatever the masks are; some boxes have nothing to do with theirs, some are missing.

    Returns:
        The dataset and results for it.
    """
    random = np.random.default_rng(seed)
    height, width, categories = 40, 50, int(random.integers(1, 4))
    dataset: dict[str, Any] = {"images": [], "annotations": []}
    dataset["categories"] = [{"id": k, "name": f"class {k}"} for k in range(1, categories + 1)]
    results: list[dict[str, Any]] = []

    def near(box: np.ndarray) -> tuple[list[float], dict[str, Any]]:
        x, y, w, h = (box + random.integers(-2, 3, 4)).clip(1)
        mask = np.zeros((height, width), dtype=np.uint8)
        mask[y : y + h, x : x + w] = random.random() < 0.7 or random.random(mask[y : y + h, x : x + w].shape) < 0.9
        return [float(x), float(y), float(min(w, width - x)), float(min(h, height - y))], dict(mask_to_rle(mask))

    for image_id in range(1, int(random.integers(2, 6))):
        dataset["images"].append({"id": image_id, "height": height, "width": width})
        spots = [random.integers((0, 0, 3, 3), (30, 25, 20, 15)) for _ in range(random.integers(1, 4))]
        for _ in range(random.integers(0, 8)):
            box, rle = near(spots[random.integers(len(spots))])
            annotation = {"image_id": image_id, "category_id": int(random.integers(categories)) + 1, "bbox": box}
            area = float(random.choice([box[2] * box[3], 500, 32**2, 5000, 96**2, 20_000]))
            annotation |= {"segmentation": rle, "area": area, "iscrowd": int(random.random() < 0.15)}
            dataset["annotations"].append(annotation | {"id": len(dataset["annotations"]) + 1})
        for _ in range(random.integers(0, 15)):
            box, rle = near(spots[random.integers(len(spots))])
            if random.random() < 0.1:
                box = [0.0, 0.0, *random.choice([32.0, 96.0, 200.0], 2).tolist()]
            result = {"image_id": image_id, "category_id": int(random.integers(categories)) + 1, "segmentation": rle}
            results.append(result | {"bbox": box, "score": round(float(random.random()), int(random.choice([1, 4])))})
    random.shuffle(results)  # type: ignore[arg-type] # an image's detections need not stand together
    return dataset, results


def plain_coco_eval(dataset: dict[str, Any], results: list[dict[str, Any]], iou_type: str) -> list[float]:
    """The 12 numbers of pycocotools, used as its own documentation says."""
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = json.loads(json.dumps(dataset))
        truth.createIndex()
        found = truth.loadRes(json.loads(json.dumps(results)))
        evaluation = COCOeval(truth, found, iou_type)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return [float(value) for value in evaluation.stats]


def empty_detections(image_size_hw: tuple[int, int], mask_side: int = 28) -> Detections:
    """Detections of an image in which nothing was found."""
    return Detections(
        boxes=torch.zeros(0, 4),
        labels=torch.zeros(0, dtype=torch.int64),
        scores=torch.zeros(0),
        mask_probs=torch.zeros(0, mask_side, mask_side),
        image_size_hw=image_size_hw,
    )
