"""For bench_train.py: whole epochs, what surrounds a step, and the preset for small machines."""

import contextlib
import csv
import io
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from bench_train_models import (
    build_ours,
    build_torchvisions,
    build_with_batch_norm,
    fix_proposals,
    our_arguments,
    our_step,
    scenes,
    their_arguments,
    training_step,
)
from bench_train_reference import run_epoch
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torchvision.models.detection import MaskRCNN as TorchvisionMaskRCNN
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone

from finemask.bench.scenes import write_scenes
from finemask.bench.timing import Comparison, interleave
from finemask.config import compose
from finemask.training.module import MaskRCNNModule
from finemask.training.optim import cosine
from finemask.workflows.train_model import run_training

LR = 0.0005


def measure_loop(images: int, rounds: int) -> Comparison:
    """An epoch of resnet50_fpn from files to checkpoint and its evaluation: our training run, torchvision's loop."""
    with tempfile.TemporaryDirectory(prefix="bench_train-") as temporary:
        folder = Path(temporary)
        for split, count in (("train", images), ("val", max(4, images // 8))):
            write_scenes(folder / "data", count, 240, 320, 8, split)
        start = build_with_batch_norm(256, 1)
        torch.save(start.state_dict(), folder / "start.pth")
        losses: dict[str, list[float]] = {"theirs": [], "finemask": []}
        contenders = {
            "theirs": lambda: losses["theirs"].append(
                run_epoch(build_torchvisions(256, 1, start), folder / "data", 2, LR, folder / "reference.pth")
            ),
            "finemask": lambda: losses["finemask"].append(_our_epoch(folder)),
        }
        timing = interleave(contenders, rounds, warmup=0)
    return Comparison.of_timing(
        timing,
        work=f"one epoch and its evaluation, resnet50_fpn, 256 px, {images} images of 320 × 240, batch 2",
        goal=1.6,
        agreement=f"mean loss {losses['finemask'][0]:.2f}, theirs {losses['theirs'][0]:.2f}",
        baseline="torchvision's reference loop",
    )


def _our_epoch(folder: Path) -> float:
    words = [
        f"data.root={folder / 'data'}",
        f"output={folder / 'runs'}",
        "model=resnet50_fpn",
        f"model.weights={folder / 'start.pth'}",
        "model.min_size=256",
        "model.max_size=512",
        "model.backbone.norm=bn",
        "transfer=full",
        "augment=flip",
        f"optimizer.lr={LR}",
        "scheduler.warmup=1.0",
        "data.batch_size=2",
        "data.num_workers=1",
        "trainer.max_epochs=1",
        "trainer.accelerator=cpu",
        "trainer.log_every_n_steps=1",
    ]
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        finished = run_training(compose("train", words))
    assert finished is not None
    (metrics,) = sorted((folder / "runs").glob("*/*/metrics.csv"))[-1:]
    with metrics.open(newline="", encoding="utf-8") as lines:
        values = [float(row["train/loss"]) for row in csv.DictReader(lines) if row.get("train/loss")]
    return statistics.fmean(values)


class _Still(nn.Module):
    """A model that computes next to nothing, with the names that the LightningModule expects."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))

    def forward(self, images: Any, targets: Any) -> dict[str, Tensor]:
        return {"loss_mask": self.weight.sum() * 0.0}


class _Clock(pl.Callback):
    """When each batch ended."""

    def __init__(self) -> None:
        self.ends: list[float] = []

    def on_train_batch_end(self, *arguments: Any) -> None:
        self.ends.append(time.perf_counter())


def measure_overhead(rounds: int, steps: int = 200) -> Comparison:
    """What Lightning, our LightningModule and our callbacks take a step, against a step of resnet50_fpn at 256 px."""
    from finemask.training.callbacks.progress_bar import EpochLines
    from finemask.training.callbacks.speed import Speed
    from finemask.training.loggers import CsvLogger

    images, targets = scenes(256, 2, 8)
    step = interleave({"step": our_step(build_ours(256, 1), images, targets)}, rounds).median("step")
    with tempfile.TemporaryDirectory(prefix="bench_train-") as temporary:
        clock, speed = _Clock(), Speed(None)
        trainer = pl.Trainer(
            accelerator="cpu",
            max_epochs=1,
            gradient_clip_val=10.0,
            log_every_n_steps=10,
            callbacks=[speed, EpochLines(speed), pl.callbacks.LearningRateMonitor("step"), clock],
            logger=[CsvLogger(Path(temporary) / "metrics.csv"), pl.loggers.TensorBoardLogger(temporary)],
            enable_progress_bar=False,
            enable_model_summary=False,
            enable_checkpointing=False,
        )
        module = MaskRCNNModule(_Still(), torch.optim.SGD, cosine, lr=0.01)  # type: ignore[arg-type]
        trainer.fit(module, DataLoader([(images, targets)] * steps, batch_size=None))
    periods = [after - before for before, after in zip(clock.ends, clock.ends[1:], strict=False)]
    overhead = statistics.median(periods)
    return Comparison(
        work="Lightning and our own code around a step of resnet50_fpn, 256 px, batch 2",
        baseline="the step itself",
        baseline_s=step,
        finemask_s=overhead,
        ratio=step / overhead,
        goal=33,
        agreement=f"{100 * overhead / step:.2g} % of the step",
    )


def measure_light(rounds: int) -> Comparison:
    """A training step of ``model=light`` at 256 px against torchvision's Mask R-CNN on a ResNet-18."""
    images, targets = scenes(256, 4, 8)
    light = build_ours(256, 1, name="light")
    torch.manual_seed(0)
    theirs = TorchvisionMaskRCNN(
        resnet_fpn_backbone(backbone_name="resnet18", weights=None, trainable_layers=5), 2, min_size=256, max_size=512
    )
    for model in (light, theirs):
        fix_proposals(model, images, targets)
    contenders = {
        "theirs": training_step(theirs.train(), their_arguments(images, targets)),
        "finemask": training_step(light, our_arguments(images, targets)),
    }
    timing = interleave(contenders, rounds)
    return Comparison.of_timing(
        timing,
        work="training step, model=light, 256 px, batch 4, 8 objects an image",
        goal=10,
        agreement=f"another, smaller model; {len(images) / timing.median('finemask'):.1f} images/s (goal 4)",
        baseline="torchvision, ResNet-18",
    )
