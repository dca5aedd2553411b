"""COCO evaluation of the validation split, each image exactly once: as often as asked, and of the last weights."""

from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.trainer.states import TrainerFn

from finemask.evaluation.coco import CocoEvaluator
from finemask.types import Detections

LOGGED = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR100")
_OF_THE_POINT = ("precision", "recall", "f1")  # the operating point


class CocoEvaluation(pl.Callback):
    """Feeds the evaluator with what ``validation_step`` returns and logs ``val/segm_AP`` and its kin.

    Args:
        evaluator: of the split that is validated on.
        prefix: of the logged names.

    Attributes:
        step: optimiser steps behind the weights that the evaluator's results come from; None before the first
            validation.
    """

    def __init__(self, evaluator: CocoEvaluator, prefix: str = "val") -> None:
        self.evaluator = evaluator
        self._prefix = prefix
        self.step: int | None = None

    @property
    def logged(self) -> list[str]:
        """The names it logs."""
        of_types = [f"{iou_type}_{name}" for iou_type in self.evaluator.iou_types for name in LOGGED]
        return [f"{self._prefix}/{name}" for name in (*of_types, *_OF_THE_POINT)]

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
        self.evaluator.reset()

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

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Gathers from all processes; computes and logs while training.

        What cannot be computed is logged as NaN, never left out: callbacks that watch a metric must find it.
        """
        if trainer.world_size > 1:
            gathered: list[Any] = [None] * trainer.world_size
            torch.distributed.all_gather_object(gathered, self.evaluator.results)
            self.evaluator.reset()
            for results in gathered:
                self.evaluator.add_results(results)
        self.step = trainer.global_step
        if trainer.state.fn != TrainerFn.FITTING:
            return  # the best weights after training: their numbers go into files, not into the training's curves
        metrics = self.evaluator.compute()
        logged = {}
        for iou_type in self.evaluator.iou_types:
            for name in LOGGED:
                value = metrics[iou_type][name]
                logged[f"{self._prefix}/{iou_type}_{name}"] = float("nan") if value is None else value
        for name in _OF_THE_POINT:
            value = metrics["operating_point"][name]
            logged[f"{self._prefix}/{name}"] = float("nan") if value is None else value
        pl_module.log_dict(logged)
