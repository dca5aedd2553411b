"""The sample part of bench_data.py: file to augmented sample, ours and the customary way, image by image in turn.

The customary way is that of the torchvision tutorial with pycocotools and albumentations: ``annToMask`` for every
instance, a stack of full-size masks and a list of boxes through albumentations, a float image for the model.
"""

import contextlib
import io
import json
import math
import os
import statistics
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")

import albumentations as A  # noqa: N812
import cv2
import numpy as np
import torch
from PIL import Image
from pycocotools.coco import COCO

from finemask.coco.index import CocoIndex
from finemask.data.augmentation import AlbumentationsAugmentation
from finemask.data.batches import PackedBatch
from finemask.data.dataset import InstanceDataset
from finemask.ops.layers import layers_to_masks

HEIGHT, WIDTH = 480, 640


def measure_pipeline(folder: Path, images: int, instances: list[int], rounds: int) -> dict[str, Any]:
    """Times both ways on each number of instances, prints a table and returns the figures."""
    cv2.setNumThreads(0)  # as in a worker process
    torch.set_num_threads(1)
    rows = []
    for count in instances:
        root = folder / f"instances_{count}"
        draw_scenes(root, images, count)
        for augmented in (False, True):
            rows.append(
                {"instances": count, "augment": "light" if augmented else "none"} | _row(root, augmented, rounds)
            )
    print(f"{WIDTH} × {HEIGHT} px, {images} images, medians of {rounds} interleaved rounds, one thread\n")
    columns = {
        "finemask_img_s": "finemask img/s",
        "reference_img_s": "customary img/s",
        "ratio": "× faster",
        "finemask_mb": "finemask MB/img",
        "reference_mb": "customary MB/img",
        "bytes_ratio": "× fewer bytes",
    }
    print(f"{'instances':>10}{'augment':>9}" + "".join(f"{title:>18}" for title in columns.values()))
    for row in rows:
        figures = "".join(f"{row[key]:18.2f}" for key in columns)
        print(f"{row['instances']:>10}{row['augment']:>9}{figures}")
    print("\nTimes are of the processor, MB what a worker sends to the trainer.")
    print("Masks and labels of all samples without augmentation are identical.")
    return {"height": HEIGHT, "width": WIDTH, "images": images, "rounds": rounds, "rows": rows}


def _row(root: Path, augmented: bool, rounds: int) -> dict[str, float]:
    augment = AlbumentationsAugmentation(_transforms()) if augmented else None
    index = CocoIndex.read(root / "train.json", root / "images", cache=None)
    ours = InstanceDataset(index, augment)
    theirs = CustomaryDataset(root / "train.json", root / "images", _transforms() if augmented else None)
    if not augmented:
        _check_equal(ours, theirs)
    samples = range(len(ours))
    took: tuple[list[float], list[float]] = ([], [])
    for turn in range(rounds):
        # All images one way, then the other: a worker's caches are its own, and not full of the other way's masks.
        for way in (0, 1) if turn % 2 else (1, 0):
            start = time.process_time()
            for i in samples:
                ours[(turn, i)] if way == 0 else theirs[i]
            took[way].append(time.process_time() - start)
    ours_mb = statistics.mean(PackedBatch.pack([ours[i]]).buffer.nbytes / 1e6 for i in samples)
    theirs_mb = statistics.mean(_megabytes(theirs[i]) for i in samples)
    return {
        "finemask_img_s": len(ours) / statistics.median(took[0]),
        "reference_img_s": len(ours) / statistics.median(took[1]),
        "ratio": statistics.median(b / a for a, b in zip(*took, strict=True)),
        "finemask_mb": ours_mb,
        "reference_mb": theirs_mb,
        "bytes_ratio": theirs_mb / ours_mb,
    }


class CustomaryDataset(torch.utils.data.Dataset[Any]):
    """What people write who follow the tutorials."""

    def __init__(self, file: Path, images_dir: Path, transforms: list[Any] | None) -> None:
        with contextlib.redirect_stdout(io.StringIO()):
            self.coco = COCO(str(file))
        self.ids = self.coco.getImgIds()
        self.images_dir = images_dir
        boxes = A.BboxParams(format="pascal_voc", label_fields=["labels", "numbers"])
        self.transforms = None if transforms is None else A.Compose(transforms, bbox_params=boxes)

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, i: int) -> tuple[torch.Tensor, dict[str, Any]]:
        entry = self.coco.loadImgs(self.ids[i])[0]
        image = np.array(Image.open(self.images_dir / entry["file_name"]).convert("RGB"))
        annotations = self.coco.loadAnns(self.coco.getAnnIds(imgIds=self.ids[i], iscrowd=False))
        masks = [self.coco.annToMask(annotation) for annotation in annotations]
        boxes = [[x, y, x + w, y + h] for x, y, w, h in (annotation["bbox"] for annotation in annotations)]
        labels = [annotation["category_id"] for annotation in annotations]
        if self.transforms is not None:
            numbers = list(range(len(masks)))
            out = self.transforms(image=image, masks=masks, bboxes=boxes, labels=labels, numbers=numbers)
            image, boxes, labels = out["image"], out["bboxes"], out["labels"]
            masks = [out["masks"][int(number)] for number in out["numbers"]]
        target = {
            "boxes": torch.as_tensor(np.array(boxes), dtype=torch.float32).reshape(-1, 4),
            "labels": torch.as_tensor(np.array(labels), dtype=torch.int64),
            "masks": torch.from_numpy(np.stack(masks) if masks else np.zeros((0, *image.shape[:2]), np.uint8)),
            "image_id": self.ids[i],
        }
        return torch.from_numpy(image).permute(2, 0, 1).float() / 255, target


def _transforms() -> list[Any]:
    """Those of augment=light."""
    return [
        A.HorizontalFlip(p=0.5),
        A.Affine(scale=(0.8, 1.25), translate_percent=(-0.05, 0.05), fill=(124, 116, 104), p=0.5),
        A.RandomBrightnessContrast(brightness_limit=0.15, contrast_limit=0.15, p=0.5),
        A.HueSaturationValue(hue_shift_limit=6, sat_shift_limit=15, val_shift_limit=10, p=0.3),
    ]


def _check_equal(ours: InstanceDataset, theirs: CustomaryDataset) -> None:
    for i in range(len(ours)):
        (image, target), (their_image, their_target) = ours[i], theirs[i]
        masks = layers_to_masks(target["layers"], target["slots"])
        same = torch.equal(masks, their_target["masks"].bool()) and torch.equal(
            target["labels"], their_target["labels"]
        )
        if not same or not torch.equal(image.float() / 255, their_image):
            raise SystemExit(f"image {i}: the two ways give different samples, so their times mean nothing")


def _megabytes(sample: tuple[torch.Tensor, Any]) -> float:
    """What the customary way sends from a worker: the tensors as they are."""
    image, target = sample
    tensors = [image, *(value for value in target.values() if isinstance(value, torch.Tensor))]
    return sum(tensor.nbytes for tensor in tensors) / 1e6


def draw_scenes(root: Path, images: int, instances: int) -> None:
    """Photograph-like JPEGs with star-shaped objects, smaller where there are more."""
    rng = np.random.default_rng(instances)
    (root / "images").mkdir(parents=True)
    entries, annotations = [], []
    for i in range(images):
        picture = cv2.resize(rng.uniform(40, 215, (24, 32, 3)), (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)
        circles: list[tuple[float, float, float]] = []
        while len(circles) < instances:
            radius = rng.uniform(0.5, 1.3) * math.sqrt(0.25 * HEIGHT * WIDTH / instances / math.pi)
            centre = rng.uniform(radius, (WIDTH - radius, HEIGHT - radius))
            # objects touch and overlap a little, as in photographs
            if any(math.hypot(centre[0] - x, centre[1] - y) < 0.75 * (radius + r) for x, y, r in circles):
                continue
            circles.append((*centre, radius))
            angles = np.linspace(0, 2 * np.pi, int(rng.integers(12, 40)), endpoint=False)
            r = radius * rng.uniform(0.7, 1, angles.size)
            points = np.stack([centre[0] + r * np.cos(angles), centre[1] + r * np.sin(angles)], axis=1).round(2)
            cv2.fillPoly(picture, [np.round(points).astype(np.int32)], rng.uniform(0, 255, 3).tolist())
            low, high = points.min(axis=0), points.max(axis=0)
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": i + 1,
                    "category_id": int(rng.integers(1, 4)),
                    "iscrowd": 0,
                    "area": float(np.prod(high - low)),
                    "bbox": [*low.tolist(), *(high - low).tolist()],
                    "segmentation": [points.ravel().tolist()],
                }
            )
        picture += rng.normal(0, 6, picture.shape)
        name = f"{i + 1}.jpg"
        Image.fromarray(picture.clip(0, 255).astype(np.uint8)).save(root / "images" / name, quality=90)
        entries.append({"id": i + 1, "file_name": name, "height": HEIGHT, "width": WIDTH})
    categories = [{"id": k, "name": f"thing {k}"} for k in (1, 2, 3)]
    document = {"images": entries, "annotations": annotations, "categories": categories}
    (root / "train.json").write_text(json.dumps(document), encoding="utf-8")
