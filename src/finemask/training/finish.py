"""What a run makes of its best weights: numbers, predictions, a report, a model file."""

import csv
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
from numpy.typing import NDArray

from finemask.errors import ConfigError, WeightsError
from finemask.evaluation.evaluator import CocoEvaluator
from finemask.model.mask_rcnn import MaskRCNN
from finemask.model.weights import read_torch_file
from finemask.model_file import save_model_file
from finemask.model_header import POINTS, ModelHeader, TrainingSizes
from finemask.ops.anchor_fit import resized_boxes
from finemask.ops.images.image_reading import AS_THE_FILE_SAYS
from finemask.ops.run_folders import MODEL_FILE
from finemask.ops.wording import plural
from finemask.reports.evaluation_files import write_evaluation
from finemask.training.anchors import trained_boxes
from finemask.training.callbacks.checkpoints import BEST, LAST
from finemask.training.callbacks.evaluation import CocoEvaluation
from finemask.training.console import show_table
from finemask.training.module import MaskRCNNModule
from finemask.training.tables import results_table
from finemask.types import Preprocessing

_ENDS_AND_MIDDLE, _MOST = (0, 50, 100), (5, 50, 95)  # percentiles of sizes that a model file holds

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Finished:
    """What a run came to.

    Args:
        metrics: of the best weights on the validation split, as in ``metrics.json``.
        model_path: the best weights, self-describing.
        paths: everything written for people to open.
    """

    metrics: Mapping[str, Any]
    model_path: Path
    paths: list[Path]


def finish(
    trainer: pl.Trainer,
    module: MaskRCNNModule,
    datamodule: Any,
    evaluation: CocoEvaluation,
    evaluators: Mapping[str, CocoEvaluator],
    model_config: Mapping[str, Any],
    run_dir: Path,
) -> Finished:
    """Evaluates the best weights on every split but training, writes all results and the model file.

    Args:
        trainer: after ``fit``.
        module: whose weights are replaced by the best ones.
        datamodule: the one that was trained on.
        evaluation: the trainer's callback.
        evaluators: by split; ``val`` and perhaps ``test``.
        model_config: resolved; it goes into the model file.
        run_dir: of the run.
    """
    checkpoint = _best_checkpoint(run_dir)
    try:
        content = read_torch_file(checkpoint)
    except WeightsError as error:
        raise WeightsError(
            error.what,
            where=checkpoint,
            remedy="The training is done. Delete this file: the same command with resume=auto takes the last weights.",
        ) from error
    module.load_state_dict(content["state_dict"])
    log.info("Best weights: epoch %d (%s)", content["epoch"] + 1, checkpoint.name)

    if evaluation.step != content["global_step"]:  # else the last validation was of these very weights
        evaluation.step = None
    settings = {
        "model.min_size": model_config["min_size"],
        "model.roi_heads.nms_thresh": model_config["roi_heads"]["nms_thresh"],
        "model.roi_heads.detections_per_img": model_config["roi_heads"]["detections_per_img"],
        "data.repeat_threshold": getattr(datamodule, "repeat_threshold", None),
    }
    trainer.loggers = []  # what is measured now goes into files: it is no point of the training's curves
    loaders = {"val": datamodule.val_dataloader, "test": datamodule.test_dataloader}
    metrics: dict[str, Any] = {}
    paths: list[Path] = []
    for split, evaluator in evaluators.items():
        if split != "val" or evaluation.step is None:
            evaluation.evaluator = evaluator
            trainer.validate(module, dataloaders=loaders[split](), verbose=False)
        if not trainer.is_global_zero:
            continue
        written = write_evaluation(
            run_dir,
            evaluator,
            suffix="" if split == "val" else f"_{split}",
            images_dir=datamodule.images_dir,
            reading=datamodule.reading,
            title=f"{run_dir.parent.name}: {split}",
            subtitle=f"{model_config['name']}, epoch {content['epoch'] + 1}",
            provenance={
                "run": run_dir.name,
                "data": str(datamodule.root),
                "model": str(model_config["name"]),
            },
            training_curves=_metrics_rows(run_dir / "metrics.csv"),
            settings=settings,
        )
        metrics[split] = written.metrics
        paths += written.paths
        title = f"Best weights on {split}, {plural(written.metrics['images'], 'image')}"
        show_table(results_table(written.metrics, title))
    if not trainer.is_global_zero:
        return Finished({}, run_dir / MODEL_FILE, [])

    assert isinstance(module.model, MaskRCNN)
    model_file = run_dir / MODEL_FILE
    save_model(module, model_file, metrics["val"])
    return Finished(metrics["val"], model_file, [model_file, *paths])


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
        held_out=getattr(data, "held_out", None) or "",
        licenses=_licences(str(model.config["weights"])),
    )
    return save_model_file(path, model.state_dict(), header)


def _measured(trainer: pl.Trainer | None) -> Mapping[str, Any]:
    """What the trainer's evaluation found last, if these are the weights that it saw."""
    callbacks = [] if trainer is None else trainer.callbacks  # type: ignore[attr-defined]
    for callback in callbacks:
        if isinstance(callback, CocoEvaluation) and trainer is not None and callback.step == trainer.global_step:
            return callback.evaluator.compute()
    return {}


def _best_checkpoint(run_dir: Path) -> Path:
    """The best weights; the last ones where no validation told which are best."""
    best = run_dir / "checkpoints" / BEST
    return best if best.is_file() else run_dir / "checkpoints" / LAST


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


def _sides(boxes: NDArray[Any]) -> NDArray[np.float64]:
    width, height = (boxes[:, 2:] - boxes[:, :2]).astype(np.float64).T
    sides: NDArray[np.float64] = np.sqrt(width * height)
    return sides


def _three(values: NDArray[Any]) -> tuple[float, float, float]:
    first, second, third = (round(float(value), 4) for value in values)
    return first, second, third


def _licences(weights: str) -> dict[str, str]:
    notes = {
        "coco": "torchvision's COCO weights (BSD-3-Clause; trained on COCO images, CC BY 4.0 annotations)",
        "imagenet": "ImageNet-1k weights of torchvision or timm; ImageNet's terms allow research use",
        "none": "trained from random weights",
    }
    return {"pretrained weights": notes.get(weights, f"from the file {Path(weights).name}: see its licence")}


def _metrics_rows(path: Path) -> list[dict[str, Any]] | None:
    if not path.is_file():
        return None
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))
