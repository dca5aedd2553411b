"""A few validation pictures in TensorBoard, epoch by epoch."""

from typing import Any

import numpy as np
import pytorch_lightning as pl
from pytorch_lightning.loggers import TensorBoardLogger

from finemask.ops.drawing import draw_instances
from finemask.ops.mask_ops import masks_to_rles
from finemask.types import Detections


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
        boards = [logger for logger in trainer.loggers if isinstance(logger, TensorBoardLogger)]
        if not boards or not trainer.is_global_zero or self._drawn >= self._count:
            return
        images, targets = batch
        for image, target, found in zip(images, targets, outputs, strict=True):
            if self._drawn >= self._count:
                return
            picture = _draw(image.permute(1, 2, 0).cpu().numpy(), found, self._threshold)
            for board in boards:
                board.experiment.add_image(
                    f"val/image_{target['image_id']}",
                    np.asarray(picture),
                    trainer.global_step,
                    dataformats="HWC",
                )
            self._drawn += 1


def _draw(image: np.ndarray[Any, np.dtype[np.uint8]], found: Detections, threshold: float) -> Any:
    keep = found["scores"] >= threshold
    boxes = found["boxes"][keep]
    return draw_instances(
        np.ascontiguousarray(image),
        rles=masks_to_rles(found["mask_probs"][keep], boxes, found["image_size_hw"]),
        boxes_xyxy=boxes.float().cpu().numpy(),
        captions=[f"{score:.2f}" for score in found["scores"][keep].tolist()],
    )
