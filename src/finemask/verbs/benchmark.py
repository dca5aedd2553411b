"""``finemask benchmark``: how fast this machine loads, trains, predicts and evaluates."""

import tempfile
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import torch
from omegaconf import DictConfig
from rich import box
from rich.console import Console
from rich.table import Table

from finemask.bench.scenes import scene, write_scenes
from finemask.bench.timing import machine
from finemask.bench.workloads import Speed, measure_data, measure_evaluation, measure_prediction, measure_training
from finemask.coco.index import CocoIndex
from finemask.config import plain
from finemask.data.dataset import InstanceDataset
from finemask.inference.predictor import choose_device
from finemask.machine.hardware import processor_name
from finemask.model.build import build_model
from finemask.model.resolve import resolve_model
from finemask.ops.files import write_json
from finemask.workflows.build_trainer import build, precision_of
from finemask.workflows.progress import Progress

WORK = ("data", "train", "predict", "evaluate")
_EPOCH_IMAGES = 1000


def main(cfg: DictConfig) -> int:
    """Runs the verb.

    Args:
        cfg: keys as in ``configs/benchmark.yaml``.

    Returns:
        0.

    Raises:
        ConfigError: a device that is not there.
    """
    device = choose_device(cfg.device)
    speeds: dict[str, Speed] = {}
    with (
        tempfile.TemporaryDirectory(prefix="finemask-benchmark-") as folder,
        Progress("measuring", len(cfg.work)) as bar,
    ):
        write_scenes(Path(folder), cfg.images, cfg.height, cfg.width, cfg.objects)
        for work in (name for name in WORK if name in cfg.work):
            speeds[work] = _measure(work, cfg, Path(folder), device)
            bar.advance()
    show(Console(), speeds, cfg, device)
    if cfg.output is not None:
        found = {"machine": machine(), "device": str(device), "work": {k: asdict(v) for k, v in speeds.items()}}
        write_json(Path(cfg.output), found | {"model": cfg.model.name})
        print(f"wrote {cfg.output}")
    return 0


def show(console: Console, speeds: Mapping[str, Speed], cfg: DictConfig, device: torch.device) -> None:
    """Prints what was measured, and what it means for an epoch."""
    where = torch.cuda.get_device_name(device) if device.type == "cuda" else processor_name()
    console.print(f"{cfg.model.name} on {where}; images of {cfg.width} × {cfg.height} px, {cfg.objects} objects each")
    table = Table(box=box.SIMPLE_HEAD)
    for title in ("work", "images/s", "peak memory", "what"):
        table.add_column(title, justify="right" if title in ("images/s", "peak memory") else "left")
    for name, speed in speeds.items():
        table.add_row(name, f"{speed.images_per_s:,.3g}", f"{speed.peak_memory_mib:,.0f} MiB", speed.what)
    console.print(table)
    if "train" in speeds:
        minutes = _EPOCH_IMAGES / speeds["train"].images_per_s / 60
        console.print(
            f"An epoch of {_EPOCH_IMAGES:,} images takes about {minutes:,.0f} min of training.", highlight=False
        )
        if device.type == "cpu" and cfg.model.name not in ("light", "tiny"):
            console.print("Without a GPU: finemask benchmark model=light shows what a smaller model does.")


def _measure(work: str, cfg: DictConfig, folder: Path, device: torch.device) -> Speed:
    annotations = folder / "annotations" / "train.json"
    if work == "data":
        index = CocoIndex.read(annotations, folder / "images")
        return measure_data(InstanceDataset(index, build(cfg.augment, "augment"), cfg.seed), cfg.rounds)
    if work == "evaluate":
        return measure_evaluation(annotations, cfg.rounds)
    torch.manual_seed(cfg.seed)
    model = build_model(resolve_model({**plain(cfg.model), "weights": "none"}, cfg.objects), num_classes=2)
    drawn = [scene(cfg.height, cfg.width, cfg.objects, cfg.seed + number) for number in range(cfg.batch_size)]
    images = [image for image, _ in drawn]
    if work == "train":
        return measure_training(
            model, images, [t for _, t in drawn], device, precision_of(cfg.precision, device), cfg.rounds
        )
    return measure_prediction(model, images, device, cfg.rounds)
