"""Training goes on when memory runs out: the batch then goes through the model in parts, whose gradients are summed."""

import gc
import logging
from abc import ABC, abstractmethod
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.optim import Optimizer

from finemask.types import Target

log = logging.getLogger(__name__)

Batch = tuple[list[Tensor], list[Target]]
# How others than torch's own error say that there is no memory: the CPU's allocator and libraries of the GPU.
_OTHER_WORDS = ("can't allocate memory", "CUBLAS_STATUS_ALLOC_FAILED", "CUDNN_STATUS_ALLOC_FAILED")


class PartwiseModule(pl.LightningModule, ABC):
    """A module whose batches are divided when memory runs out, instead of the training ending.

    A step that does not fit is taken again with the batch in two parts, then in four, down to single images; all later
    ones are divided likewise, also after a resume. The gradient is the mean over the images of what the parts have,
    as with ``accumulate_grad_batches``: a smaller batch, and more of them in a step. Several processes would have to
    divide together; there the error stands.

    Attributes:
        parts: that a batch is divided into.
    """

    def __init__(self) -> None:
        super().__init__()
        self.parts = 1
        self._whole: tuple[Batch, int] | None = None  # batch and index that Lightning is about to take backward
        self._is_done = False  # gradients of this batch stand

    @abstractmethod
    def losses_of(self, batch: Batch, batch_idx: int) -> tuple[Tensor | None, dict[str, Tensor]]:
        """The loss to take backward, None to skip it, and all losses to log; must give the same when asked again."""

    @abstractmethod
    def log_losses(self, losses: dict[str, Tensor], images: int) -> None:
        """Logs the losses of a batch."""

    def training_step(self, batch: Batch, batch_idx: int) -> Any:
        """The loss of the batch; where that goes in parts, all of it is done, and what is returned has no gradient."""
        self._whole, self._is_done = None, False
        if self.parts == 1:
            try:
                total, losses = self.losses_of(batch, batch_idx)
            except RuntimeError as error:
                self._refuse_unless_divisible(error, batch)
            else:
                self._whole = (batch, batch_idx)
                return self._answer(total, losses, batch)
            self._divide_more(batch)
        return self._answer(*self._in_parts(batch, batch_idx), batch)

    def backward(self, loss: Tensor, *args: Any, **kwargs: Any) -> None:
        """Takes a loss backward; where that does not fit, the batch anew in parts."""
        whole, self._whole = self._whole, None
        try:
            loss.backward(*args, **kwargs)
        except RuntimeError as error:
            if whole is None:
                raise
            self._refuse_unless_divisible(error, whole[0])
        else:
            return
        self._divide_more(whole[0])
        self._in_parts(*whole)
        self._is_done = False

    def optimizer_zero_grad(self, epoch: int, batch_idx: int, optimizer: Optimizer) -> None:
        """Lightning clears gradients between forward and backward, where those of parts stand already."""
        if not self._is_done:
            optimizer.zero_grad()
        self._is_done = False

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """A resumed run divides its batches as before."""
        checkpoint["batch_parts"] = self.parts

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """See ``on_save_checkpoint``."""
        self.parts = checkpoint.get("batch_parts", 1)

    def _answer(self, total: Tensor | None, losses: dict[str, Tensor], batch: Batch) -> Any:
        if total is None:
            return None
        if losses:
            self.log_losses(losses, len(batch[0]))
            return total
        return {"loss": total, "skipped": True}

    def _in_parts(self, batch: Batch, batch_idx: int) -> tuple[Tensor | None, dict[str, Tensor]]:
        """Takes all of a batch backward, in more and more parts until they fit."""
        while True:
            try:
                return self._once_in_parts(batch, batch_idx)
            except RuntimeError as error:
                self._refuse_unless_divisible(error, batch)
            self._divide_more(batch)

    def _once_in_parts(self, batch: Batch, batch_idx: int) -> tuple[Tensor | None, dict[str, Tensor]]:
        accumulated = self.trainer.accumulate_grad_batches
        if batch_idx % accumulated == 0:
            self._clear()
        images, targets = batch
        sums: dict[str, Tensor] = {}
        for rows in np.array_split(np.arange(len(images)), min(self.parts, len(images))):
            part = [images[row] for row in rows], [targets[row] for row in rows]
            share = len(rows) / len(images)
            total, losses = self.losses_of(part, batch_idx)
            if total is None:
                self._clear()
                return None, {}
            self.trainer.strategy.backward(total * (share / accumulated), None)
            for name, value in losses.items():
                sums[name] = sums.get(name, 0) + share * value.detach()
        self._is_done = True
        return sums["loss"].requires_grad_(), sums

    def _refuse_unless_divisible(self, error: RuntimeError, batch: Batch) -> None:
        """Raises the error again where it is another one, or there is nothing left to divide."""
        if not is_out_of_memory(error) or self.trainer.world_size > 1 or self.parts >= len(batch[0]):
            raise error

    def _divide_more(self, batch: Batch) -> None:
        """Outside of the handling of the error, which holds on to what did not fit."""
        self._clear()
        if self.device.type == "cuda":
            gc.collect()
            torch.cuda.empty_cache()
        images = len(batch[0])
        self.parts = min(2 * self.parts, images)
        log.warning(
            "step %d: memory is full. From here a batch of %d images goes through the model in %d parts, whose "
            "gradients are averaged. The same from the start: data.batch_size=%d trainer.accumulate_grad_batches=%d.",
            *(self.global_step, images, self.parts, -(-images // self.parts)),
            self.parts * self.trainer.accumulate_grad_batches,
        )

    def _clear(self) -> None:
        for parameter in self.parameters():
            parameter.grad = None


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out, the GPU's or the machine's."""
    return isinstance(error, torch.OutOfMemoryError) or any(words in str(error) for words in _OTHER_WORDS)
