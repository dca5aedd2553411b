"""``finemask benchmark``: how fast this machine loads, trains, predicts and evaluates."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import torch
from omegaconf import DictConfig
from rich.console import Console

from finemask.bench.timing import machine
from finemask.bench.workloads import Speed, measure_machine
from finemask.inference.predictor import choose_device
from finemask.machine.hardware import processor_name
from finemask.ops.files.atomic_files import write_json
from finemask.ops.terminal import say, table

_EPOCH_IMAGES = 1000


def main(cfg: DictConfig) -> int:
    """Runs the verb: keys as in ``configs/benchmark.yaml``.

    Raises:
        ConfigError: a device that is not there, or an exported file that is to be trained.
        ModelFileError: a model file that cannot be opened.
    """
    device = choose_device(cfg.device, cfg.model_file)
    speeds = measure_machine(cfg, device)
    show(Console(), speeds, cfg, device)
    if cfg.output is not None:
        found = {"machine": machine(), "device": str(device), "work": {k: asdict(v) for k, v in speeds.items()}}
        write_json(Path(cfg.output), found | {"model": _name(cfg)})
        print(f"wrote {cfg.output}")
    return 0


def show(console: Console, speeds: Mapping[str, Speed], cfg: DictConfig, device: torch.device) -> None:
    """Prints what was measured, and what it means for an epoch."""
    where = torch.cuda.get_device_name(device) if device.type == "cuda" else processor_name()
    say(console, f"{_name(cfg)} on {where}; images of {cfg.width} × {cfg.height} px, {cfg.objects} objects each")
    rows = (
        (name, f"{speed.images_per_s:,.3g}", f"{speed.peak_memory_mib:,.0f} MiB", speed.what)
        for name, speed in speeds.items()
    )
    console.print(table(("work", "images/s", "peak memory", "what"), rows, words=("work", "what")))
    if "train" in speeds:
        minutes = _EPOCH_IMAGES / speeds["train"].images_per_s / 60
        console.print(
            f"An epoch of {_EPOCH_IMAGES:,} images takes about {minutes:,.0f} min of training.", highlight=False
        )
        if device.type == "cpu" and cfg.model_file is None and cfg.model.name not in ("light", "tiny"):
            console.print("Without a GPU: finemask benchmark model=light shows what a smaller model does.")


def _name(cfg: DictConfig) -> str:
    return str(cfg.model.name if cfg.model_file is None else cfg.model_file)
