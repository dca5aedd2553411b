"""For bench_train.py: training and evaluation the customary way, as torchvision's reference scripts go about it."""

import contextlib
import io
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import functional


class MaskDataset(Dataset[Any]):
    """Float images and one full-size mask an object."""

    def __init__(self, root: Path, split: str, flip: bool) -> None:
        with contextlib.redirect_stdout(io.StringIO()):
            self.coco: Any = COCO(str(root / "annotations" / f"{split}.json"))
        self._images = root / "images"
        self._ids = sorted(self.coco.imgs)
        self._flip = flip

    def __len__(self) -> int:
        return len(self._ids)

    def __getitem__(self, position: int) -> tuple[Tensor, dict[str, Any]]:
        image_id = self._ids[position]
        image = Image.open(self._images / self.coco.imgs[image_id]["file_name"]).convert("RGB")
        annotations = self.coco.loadAnns(self.coco.getAnnIds(image_id))
        masks = torch.stack([torch.as_tensor(self.coco.annToMask(annotation)) for annotation in annotations])
        boxes = torch.tensor([annotation["bbox"] for annotation in annotations], dtype=torch.float32)
        boxes[:, 2:] += boxes[:, :2]
        labels = torch.tensor([annotation["category_id"] for annotation in annotations])
        pixels = functional.to_tensor(image)
        if self._flip and torch.rand(1) < 0.5:
            pixels, masks = pixels.flip(-1), masks.flip(-1)
            boxes[:, [0, 2]] = pixels.shape[-1] - boxes[:, [2, 0]]
        return pixels, {"boxes": boxes, "labels": labels, "masks": masks, "image_id": image_id}


def run_epoch(model: nn.Module, root: Path, batch_size: int, lr: float, checkpoint: Path) -> float:
    """One epoch, its evaluation, and the checkpoint.

    Returns:
        The mean loss of the epoch.
    """
    loader = _loader(MaskDataset(root, "train", flip=True), batch_size, shuffle=True)
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.SGD(parameters, lr=lr, momentum=0.9, weight_decay=1e-4)
    warmup = torch.optim.lr_scheduler.LinearLR(optimizer, 0.001, total_iters=max(1, len(loader) - 1))
    total = 0.0
    model.train()
    for images, targets in loader:
        losses = model(list(images), list(targets))
        loss = sum(losses.values())
        value = float(loss.detach())
        if not np.isfinite(value):
            raise SystemExit(f"the reference loop diverged: {losses}")
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        warmup.step()
        total += value
    evaluate(model, MaskDataset(root, "val", flip=False))
    torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, checkpoint)
    return total / len(loader)


@torch.inference_mode()
def evaluate(model: nn.Module, dataset: MaskDataset) -> dict[str, float]:
    """AP of boxes and masks, an image at a time."""
    model.eval()
    results = []
    for images, targets in _loader(dataset, 1, shuffle=False):
        for found, target in zip(model(list(images)), targets, strict=True):
            masks = (found["masks"] > 0.5).numpy()
            for box, score, label, mask in zip(
                found["boxes"].tolist(), found["scores"].tolist(), found["labels"].tolist(), masks, strict=True
            ):
                rle = coco_mask.encode(np.array(mask[0, :, :, np.newaxis], dtype=np.uint8, order="F"))[0]
                rle["counts"] = rle["counts"].decode()
                results.append(
                    {
                        "image_id": target["image_id"],
                        "category_id": label,
                        "bbox": [box[0], box[1], box[2] - box[0], box[3] - box[1]],
                        "score": score,
                        "segmentation": rle,
                    }
                )
    scores = {}
    with contextlib.redirect_stdout(io.StringIO()):
        detections = dataset.coco.loadRes(results)
        for kind in ("bbox", "segm"):
            evaluation: Any = COCOeval(dataset.coco, detections, kind)
            evaluation.evaluate()
            evaluation.accumulate()
            evaluation.summarize()
            scores[kind] = float(evaluation.stats[0])
    return scores


def _loader(dataset: MaskDataset, batch_size: int, shuffle: bool) -> DataLoader[Any]:
    return DataLoader(dataset, batch_size, shuffle=shuffle, num_workers=1, collate_fn=lambda batch: tuple(zip(*batch)))  # noqa: B905
