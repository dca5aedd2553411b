"""Validation, each image exactly once: COCO evaluation, as often as asked and of the last weights; a few pictures."""

from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from numpy.typing import NDArray
from pytorch_lightning.loggers import Logger, MLFlowLogger, TensorBoardLogger, WandbLogger

from finemask.errors import ConfigError
from finemask.evaluation.analysis.operating_points import Curve
from finemask.evaluation.evaluator import CocoEvaluator
from finemask.evaluation.ground_truth import ground_truth_of
from finemask.ops.drawing import draw_instances
from finemask.ops.mask_ops import masks_to_rles
from finemask.types import Detections

LOGGED = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR100")
_SHOW_PICTURES = (TensorBoardLogger, WandbLogger, MLFlowLogger)
_THRESHOLDS = 127  # of a curve: TensorBoard takes so many, and no more
_OF_THE_POINT = ("precision", "recall", "f1")  # the operating point


class CocoEvaluation(pl.Callback):
    """Feeds the evaluator with what ``validation_step`` returns and logs ``val/segm_AP`` and its kin.

    In ``trainer.test`` likewise, as ``test/segm_AP``; ``trainer.validate`` and ``trainer.test`` return the metrics.

    Args:
        evaluator: of the split that is validated on; by default made for the split of the trainer's datamodule.

    Attributes:
        step: optimiser steps behind the weights that the evaluator's results come from; None before the first
            validation.
    """

    def __init__(self, evaluator: CocoEvaluator | None = None) -> None:
        self._given = evaluator
        self._of_splits: dict[str, CocoEvaluator] = {}
        self._split = "val"
        self.step: int | None = None

    @property
    def evaluator(self) -> CocoEvaluator:
        """That of the split at hand."""
        return self._of_splits[self._split] if self._given is None else self._given

    @evaluator.setter
    def evaluator(self, evaluator: CocoEvaluator) -> None:
        """Takes its place whatever the split."""
        self._given = evaluator

    @property
    def logged(self) -> list[str]:
        """The names it logs."""
        of_types = [f"{iou_type}_{name}" for iou_type in self.evaluator.iou_types for name in LOGGED]
        return [f"{self._split}/{name}" for name in (*of_types, *_OF_THE_POINT)]

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """The last weights are evaluated whatever the interval, or what was learned since the one before is lost.

        Lightning evaluates them when something asks it to stop, and the epoch is one that is evaluated; reaching
        ``max_steps`` or ``max_epochs`` is no such thing to it.
        """
        last_epoch = trainer.current_epoch + 1 == trainer.max_epochs
        if trainer.global_step == trainer.max_steps or (last_epoch and trainer.is_last_batch):
            trainer.should_stop = True
        if trainer.should_stop and trainer.check_val_every_n_epoch is not None:
            trainer.check_val_every_n_epoch = 1

    def on_validation_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Forgets the last epoch's detections."""
        self._begin(trainer, "val")

    def on_test_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """As in validation."""
        self._begin(trainer, "test")

    def on_validation_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Detections to RLE at once; no mask is kept."""
        found: list[Detections] = outputs
        for target, detections in zip(batch[1], found, strict=True):
            self.evaluator.add(target["image_id"], detections)

    on_test_batch_end = on_validation_batch_end

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """The first process gathers what all have found, computes, and tells the others what to log.

        What cannot be computed is logged as NaN, never left out: callbacks that watch a metric must find it.
        """
        if trainer.sanity_checking:
            return
        self.step = trainer.global_step
        if trainer.world_size > 1:
            pl_module.log_dict(self._measured_together(trainer))
        else:
            pl_module.log_dict(self._measured())

    on_test_epoch_end = on_validation_epoch_end

    def _measured_together(self, trainer: pl.Trainer) -> dict[str, float]:
        first = trainer.is_global_zero
        gathered: list[Any] | None = [None] * trainer.world_size if first else None
        torch.distributed.gather_object(self.evaluator.results, gathered)
        if gathered is not None:
            self.evaluator.reset()
            for results in gathered:
                self.evaluator.add_results(results)
        measured: dict[str, float] = trainer.strategy.broadcast(self._measured() if first else {})
        return measured

    def _measured(self) -> dict[str, float]:
        metrics = self.evaluator.compute()
        logged = {}
        for iou_type in self.evaluator.iou_types:
            for name in LOGGED:
                value = metrics[iou_type][name]
                logged[f"{self._split}/{iou_type}_{name}"] = float("nan") if value is None else value
        for name in _OF_THE_POINT:
            value = metrics["operating_point"][name]
            logged[f"{self._split}/{name}"] = float("nan") if value is None else value
        return logged

    def _begin(self, trainer: pl.Trainer, split: str) -> None:
        self._split = split
        if self._given is None and split not in self._of_splits:
            index = getattr(getattr(trainer, "datamodule", None), f"{split}_index", None)
            if index is None:
                raise ConfigError(
                    f"there is no ground truth of the {split} split to evaluate with",
                    remedy="Give the trainer a CocoDataModule that names its file, or a CocoEvaluation(evaluator) of "
                    "your own.",
                )
            self._of_splits[split] = CocoEvaluator(
                ground_truth_of(index.columns, str(index.annotations_path)), index.category_ids
            )
        self.evaluator.reset()


class ValidationPictures(pl.Callback):
    """Draws the detections of the first validation images.

    Args:
        count: pictures an epoch.
        threshold: detections with a lower score are left out.
    """

    def __init__(self, count: int = 4, threshold: float = 0.5) -> None:
        self._count = count
        self._threshold = threshold
        self._drawn = 0

    def on_validation_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Begins anew."""
        self._drawn = 0

    def on_validation_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Draws until there are enough."""
        boards = [logger for logger in trainer.loggers if isinstance(logger, _SHOW_PICTURES)]
        if not boards or not trainer.is_global_zero or self._drawn >= self._count:
            return
        images, targets = batch
        for image, target, found in zip(images, targets, outputs, strict=True):
            if self._drawn >= self._count:
                return
            picture = _draw(image.permute(1, 2, 0).cpu().numpy(), found, self._threshold)
            for board in boards:
                _show(board, f"val/image_{target['image_id']}", np.asarray(picture), trainer.global_step)
            self._drawn += 1


class PrecisionRecallCurves(pl.Callback):
    """Precision over recall of all classes together and of each, in TensorBoard, after every evaluation.

    It stands behind ``CocoEvaluation``.
    """

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Writes what the evaluation has found."""
        boards = [logger for logger in trainer.loggers if isinstance(logger, TensorBoardLogger)]
        callbacks: list[pl.Callback] = trainer.callbacks  # type: ignore[attr-defined]
        evaluations = [callback for callback in callbacks if isinstance(callback, CocoEvaluation)]
        if not boards or not evaluations or trainer.sanity_checking or not trainer.is_global_zero:
            return
        from torch.utils.tensorboard.summary import pr_curve_raw

        curves = evaluations[0].evaluator.evaluate().curves
        several = curves.per_class if len(curves.per_class) > 1 else {}
        for name, curve in {"all classes": curves.overall, **several}.items():
            for board in boards:
                summary = pr_curve_raw(f"val/precision_recall/{name}", *_raw_curve(curve))
                board.experiment.file_writer.add_summary(summary, trainer.global_step)


def _raw_curve(curve: Curve) -> list[NDArray[np.float64]]:
    """Right, false, 0, missed, precision and recall at evenly spaced scores, as TensorBoard draws them.

    What is rightly not found cannot be counted. Above the highest score nothing is found, and precision is taken for 1.
    """
    points = [curve.at(float(threshold)) for threshold in np.linspace(0, 1, _THRESHOLDS)]
    true = np.array([point.true_positives for point in points], dtype=np.float64)
    false = np.array([point.false_positives for point in points], dtype=np.float64)
    precision = np.divide(true, true + false, out=np.ones_like(true), where=true + false > 0)
    recall = true / max(curve.positives, 1)
    return [true, false, np.zeros_like(true), curve.positives - true, precision, recall]


def _show(board: Logger, name: str, picture: NDArray[np.uint8], step: int) -> None:
    """Puts a picture uint8 [H, W, 3] where a logger keeps such."""
    if isinstance(board, TensorBoardLogger):
        board.experiment.add_image(name, picture, step, dataformats="HWC")
    elif isinstance(board, WandbLogger):
        board.log_image(name, [picture], step)
    elif isinstance(board, MLFlowLogger):
        board.experiment.log_image(board.run_id, picture, key=name.replace("/", "_"), step=step)


def _draw(image: np.ndarray[Any, np.dtype[np.uint8]], found: Detections, threshold: float) -> Any:
    keep = found["scores"] >= threshold
    boxes = found["boxes"][keep]
    return draw_instances(
        np.ascontiguousarray(image),
        rles=masks_to_rles(found["mask_probs"][keep], boxes, found["image_size_hw"]),
        boxes_xyxy=boxes.float().cpu().numpy(),
        captions=[f"{score:.2f}" for score in found["scores"][keep].tolist()],
    )
