"""The model file of a trained module: weights, thresholds, and what the training images were like."""

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
from numpy.typing import NDArray

from finemask.errors import ConfigError, DataError
from finemask.model.resolve import Boxes
from finemask.model_file import save_model_file
from finemask.model_header import POINTS, ModelHeader, TrainingSizes
from finemask.model_hub import hub_address
from finemask.ops.anchor_fit import resized_boxes
from finemask.ops.images.image_look import MOST, LooksOfASet, look_of
from finemask.ops.images.image_reading import AS_THE_FILE_SAYS
from finemask.training.callbacks.validation import CocoEvaluation
from finemask.training.module import MaskRCNNModule
from finemask.types import Preprocessing

_ENDS_AND_MIDDLE, _MOST = (0, 50, 100), (5, 50, 95)  # percentiles of sizes that a model file holds


def save_model(module: MaskRCNNModule, path: Path | str, metrics: Mapping[str, Any] | None = None) -> ModelHeader:
    """Writes the model file of a trained module, whole or not at all.

    Args:
        module: after a training, or from ``load_from_checkpoint``.
        path: where to; conventionally ``model.safetensors``.
        metrics: content of ``metrics.json`` of these weights, for the thresholds; by default what the module's trainer
            measured last, if nothing was trained since.

    Returns:
        What the file says of itself.

    Raises:
        ConfigError: the module knows no categories, or its model was not built by finemask.
    """
    model = module.model
    if not module.categories or not model.config:
        lacking = "the model's configuration" if module.categories else "the categories"
        raise ConfigError(
            f"a model file needs {lacking}, which this module does not know",
            remedy="Build the model with finemask.maskrcnn, and train it on a CocoDataModule (or give categories=).",
        )
    trainer = module._trainer
    data = getattr(trainer, "datamodule", None)
    index = getattr(data, "train_index", None)
    measured = _measured(trainer) if metrics is None else metrics
    header = ModelHeader(
        model=model.config,
        categories=module.categories,
        preprocessing=model.preprocessing,
        reading=getattr(data, "reading", AS_THE_FILE_SAYS),
        thresholds=model_thresholds(measured) if measured else {},
        metrics={key: value for key, value in measured.items() if key != "source"},  # paths of this machine
        data_fingerprint=index.fingerprint if index is not None else "",
        training_sizes=training_sizes(index, model.preprocessing) if index is not None else None,
        training_looks=training_looks(index) if index is not None else None,
        held_out=getattr(data, "held_out", None) or "",
        licenses=_licences(str(model.config["weights"])),
    )
    return save_model_file(path, model.state_dict(), header)


def _measured(trainer: pl.Trainer | None) -> Mapping[str, Any]:
    """Metrics of the trainer's last evaluation, if it was of these weights."""
    callbacks = [] if trainer is None else trainer.callbacks  # type: ignore[attr-defined]
    for callback in callbacks:
        if isinstance(callback, CocoEvaluation) and trainer is not None and callback.step == trainer.global_step:
            return callback.evaluator.compute()
    return {}


def model_thresholds(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """What a model file says of thresholds, out of the content of ``metrics.json``."""
    chosen = metrics.get("thresholds")  # only where their intervals were computed, too
    points = (
        {}
        if chosen is None
        else {
            point: {
                "global": chosen[point]["threshold"],
                "per_class": {name: values[point]["threshold"] for name, values in chosen["per_class"].items()},
            }
            for point in POINTS
        }
    )
    return {
        "global": metrics["operating_point"]["threshold"],
        "per_class": {name: values["threshold"] for name, values in metrics["per_class"].items()},
        "points": points,
    }


def training_sizes(index: Any, preprocessing: Preprocessing) -> TrainingSizes | None:
    """How large images and objects are; None where there are no objects.

    Args:
        index: a ``CocoIndex`` of the training split.
        preprocessing: how the model resizes.
    """
    boxes, size_hw = trained_boxes(index)
    if not len(boxes):
        return None
    images_hw = np.stack([index.heights, index.widths], axis=1)
    scales = [preprocessing.scale((int(height), int(width))) for height, width in images_hw]
    seen, _ = resized_boxes(boxes, size_hw, preprocessing.min_size[-1], preprocessing.max_size)
    least, median, most = np.percentile(images_hw.max(axis=1), _ENDS_AND_MIDDLE).astype(int).tolist()
    return TrainingSizes(
        images_px=(least, median, most),
        scale=_three(np.percentile(scales, _ENDS_AND_MIDDLE)),
        objects_px=_three(np.percentile(_sides(boxes), _MOST)),
        objects_seen_px=_three(np.percentile(_sides(seen), _MOST)),
    )


def training_looks(index: Any) -> LooksOfASet | None:
    """What the images look like: at most a hundred of them, evenly spread; None where too few can be read.

    It takes a second for 640 × 640 px, and ten for 12 megapixels.

    Args:
        index: a ``CocoIndex`` of the training split.
    """
    looks = []
    for i in np.unique(np.linspace(0, len(index) - 1, MOST).round().astype(int)).tolist() if len(index) else []:
        with suppress(DataError):  # whoever trains has been told of images that cannot be read
            looks.append(look_of(index.read_image(i)))
    return LooksOfASet.of(looks)


def _sides(boxes: NDArray[Any]) -> Any:
    return np.sqrt((boxes[:, 2:] - boxes[:, :2]).astype(np.float64).prod(axis=1))


def _three(values: NDArray[Any]) -> tuple[float, float, float]:
    first, second, third = (round(float(value), 4) for value in values)
    return first, second, third


def _licences(weights: str) -> dict[str, str]:
    notes = {
        "coco": "torchvision's COCO weights (BSD-3-Clause; trained on COCO images, CC BY 4.0 annotations)",
        "imagenet": "ImageNet-1k weights of torchvision or timm; ImageNet's terms allow research use",
        "objects": "finemask's own, trained on CC0, CC BY and MIT pictures from ImageNet-1k weights of torchvision",
        "none": "trained from random weights",
    }
    source = weights if hub_address(weights) else f"the file {Path(weights).name}"
    return {"pretrained weights": notes.get(weights, f"from {source}: see its licence")}


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
