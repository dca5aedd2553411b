"""SIGTERM to a training of several processes: all of them end behind the same step, with a checkpoint."""

import os
import signal
import threading
from types import FrameType
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities.exceptions import SIGTERMException


class StopRequest(pl.Callback):
    """Takes SIGTERM where several processes train.

    Lightning's own handler sends the others a message from within the signal, amid whatever they are exchanging: the
    gradients of one meet the message of the other, and both wait. Here a signal is noted, ``LastCheckpoint`` asks all
    processes behind each step, and they end together. Evaluation has no step that is common to all, and what it has
    found is lost either way: there each ends by itself.

    Attributes:
        asked: whether this process was asked to end.
    """

    asked = False

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Takes the signal from Lightning, which puts the handler of before back at the end."""
        if trainer.world_size == 1 or threading.current_thread() is not threading.main_thread():
            return
        children = [process.pid for process in getattr(trainer.strategy.launcher, "procs", ())]

        def note(number: int, frame: FrameType | None) -> None:
            if not self.asked:
                for child in children:
                    _tell(child, number)
            self.asked = True

        signal.signal(signal.SIGTERM, note)

    on_validation_start = on_test_start = on_train_start

    def on_validation_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Ends at once."""
        if self.asked:
            raise SIGTERMException

    on_test_batch_end = on_validation_batch_end


def asked_to_stop(trainer: pl.Trainer) -> bool:
    """Whether this process was asked to end."""
    callbacks: list[pl.Callback] = trainer.callbacks  # type: ignore[attr-defined]
    return trainer.received_sigterm or any(isinstance(one, StopRequest) and one.asked for one in callbacks)


def agreed(trainer: pl.Trainer, *questions: bool) -> list[bool]:
    """Each question's answer for all processes: yes where one of them says yes. All have to ask."""
    if trainer.world_size == 1:
        return list(questions)
    answers = torch.tensor(questions, dtype=torch.int32, device=trainer.strategy.root_device)
    torch.distributed.all_reduce(answers, torch.distributed.ReduceOp.MAX)
    return [bool(answer) for answer in answers.tolist()]


def _tell(process: int, number: int) -> None:
    try:
        os.kill(process, number)
    except ProcessLookupError:
        return
