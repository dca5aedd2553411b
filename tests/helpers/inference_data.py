"""A model that finds coloured rectangles, so that its answer is known, and instances made by hand."""

import numpy as np
import torch
from pycocotools import mask as coco_mask
from torch import nn

from finemask.inference.instances import Instances
from finemask.model_header import ModelHeader
from finemask.types import Category, Detections, Preprocessing

CATEGORIES = (Category(3, "red fig", "fruit"), Category(70, "green/date"), Category(9, "blue"))
SCORES = {1: 0.9, 2: 0.6, 3: 0.3}


class ColourModel(nn.Module):
    """Finds, for each of red, green and blue, the box of pixels in which that channel alone is above 200."""

    def __init__(self) -> None:
        super().__init__()
        self.batches: list[list[tuple[int, ...]]] = []

    def forward(self, images):
        self.batches.append([tuple(image.shape) for image in images])
        assert all(image.dtype == torch.uint8 and image.shape[0] == 3 for image in images)
        return [self._detect(image) for image in images]

    def _detect(self, image) -> Detections:
        boxes, labels = [], []
        for channel in range(3):
            bright = image > 200
            rows, columns = torch.nonzero(bright[channel] & (bright.sum(0) == 1), as_tuple=True)
            if len(rows):
                corners = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
                boxes.append([float(corner) for corner in corners])
                labels.append(channel + 1)
        return Detections(
            boxes=torch.tensor(boxes).reshape(-1, 4),
            labels=torch.tensor(labels, dtype=torch.int64),
            scores=torch.tensor([SCORES[label] for label in labels]),
            mask_probs=torch.ones(len(labels), 28, 28),
            image_size_hw=(image.shape[1], image.shape[2]),
        )


def colour_header(**changes) -> ModelHeader:
    values = {
        "model": {},
        "categories": CATEGORIES,
        "preprocessing": Preprocessing((128,), 192, (0.5, 0.5, 0.5), (0.2, 0.2, 0.2)),
        "thresholds": {"global": 0.5, "per_class": {}},
    }
    return ModelHeader(**(values | changes))


def rectangles(height: int = 40, width: int = 60, *, red=None, green=None, blue=None) -> np.ndarray:
    """A dark picture with rectangles (x0, y0, x1, y1) of pure colours."""
    image = np.full((height, width, 3), 20, dtype=np.uint8)
    for channel, box in enumerate((red, green, blue)):
        if box is not None:
            x0, y0, x1, y1 = box
            image[y0:y1, x0:x1] = 0
            image[y0:y1, x0:x1, channel] = 255
    return image


def encode(mask) -> dict:
    rle = coco_mask.encode(np.asfortranarray(mask, dtype=np.uint8))
    return {"size": [int(side) for side in rle["size"]], "counts": rle["counts"].decode()}


def make_instances(masks: np.ndarray, labels, scores=None, **changes) -> Instances:
    """Instances with boxes read off dense masks [N, H, W]."""
    boxes = []
    for mask in masks:
        rows, columns = np.nonzero(mask)
        boxes.append([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1] if len(rows) else [0] * 4)
    values = {
        "boxes": np.array(boxes, dtype=np.float32).reshape(-1, 4),
        "labels": np.array(labels, dtype=np.int64),
        "scores": np.array(scores if scores is not None else [0.5] * len(labels), dtype=np.float32),
        "rles": [encode(mask) for mask in masks],
        "image_size_hw": tuple(masks.shape[1:]),
        "categories": CATEGORIES,
    }
    return Instances(**(values | changes))
