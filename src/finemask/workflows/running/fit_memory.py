"""``data.batch_size=auto``: as much of the batch at once as memory holds, the rest by accumulating gradients."""

import logging
import math
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from typing import Any

import numpy as np
import torch
from omegaconf import DictConfig

from finemask.config import plain
from finemask.errors import ConfigError
from finemask.machine.hardware import GIB, memory_gib
from finemask.model.mask_rcnn import MaskRCNN
from finemask.training.batch_parts import is_out_of_memory
from finemask.training.memory_plan import StepMemory, measure_step, padded, plan_memory
from finemask.workflows.build_trainer import precision_of

log = logging.getLogger(__name__)

_SHARE = {"cuda": 0.8, "cpu": 0.7}  # of the memory that is free: allocators, libraries and loaders want some
_SCRATCH = {"cuda": 0.0, "cpu": 0.3 * GIB}  # of convolutions: compare_memory.py saw 64 to 309 MiB
_ADAM, _MOMENTUM = 2, 1  # numbers that an optimiser keeps of a weight
_DTYPES = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}


def fit_to_memory(cfg: DictConfig, datamodule: Any, model: MaskRCNN) -> None:
    """Decides ``data.batch_size`` and ``trainer.accumulate_grad_batches`` in the configuration and the datamodule.

    Args:
        cfg: the composed configuration of the verb ``train``; a step is to learn from as many images as the model's
            preset says.
        datamodule: after ``setup``.
        model: as it will be trained, on the CPU.

    Raises:
        ConfigError: several processes, which would have to decide together; or a single image does not fit.
    """
    devices = plain(cfg.trainer).get("devices")
    if devices not in (None, 1, "1", "auto") and not (isinstance(devices, list) and len(devices) == 1):
        raise ConfigError(
            "auto is for one process",
            where="data.batch_size",
            remedy=f"Run one alone to hear what fits, and give that number with trainer.devices={devices}.",
        )
    batch_size, factor = fit_batch(cfg, model, datamodule.train_index, datamodule.batch_size)
    cfg.data.batch_size = datamodule.batch_size = batch_size
    cfg.trainer.accumulate_grad_batches *= factor


def fit_batch(cfg: DictConfig, model: MaskRCNN, index: Any, wanted: int) -> tuple[int, int]:
    """How many images at once, and how many such batches a step, so that a step learns from ``wanted`` images.

    What is learned does not depend on the machine, but for the means over RoIs of several batches instead of one.

    Args:
        cfg: the composed configuration of the verb ``train``.
        model: as it will be trained, on the CPU.
        index: of the training images.
        wanted: images that a step is to learn from.

    Returns:
        ``data.batch_size``, and a factor of ``trainer.accumulate_grad_batches``.

    Raises:
        ConfigError: a single image does not fit.
    """
    device = _device(cfg)
    free = _free_bytes(device)
    most = math.inf if free is None else _SHARE[device.type] * (free - _SCRATCH[device.type])
    size_hw = largest_size(index, model)
    objects, pixels = int(index.max_instances_per_image), size_hw[0] * size_hw[1]
    memory = memory_of(cfg, model, size_hw, objects, device)
    for parts in (parts for parts in range(1, wanted + 1) if wanted % parts == 0):
        taken = peak = memory.peak(wanted // parts, pixels)
        if peak <= most and (taken := _tried(cfg, model, size_hw, objects, wanted // parts, device)) <= most:
            break
    else:
        assert free is not None
        needs = f"takes about {taken / GIB:.1f} GiB" if math.isfinite(taken) else "took more than there was"
        raise ConfigError(
            f"one image of {size_hw[0]} × {size_hw[1]} px {needs} in training, and {free / GIB:.1f} GiB are free",
            where="data.batch_size=auto",
            remedy="Lower model.min_size and model.max_size, give recompute_backbone=true, or take a smaller model.",
        )
    log.info(
        "Memory: a step of %d images of at most %d × %d px was expected to take %.1f GiB, and took %.1f when tried%s: "
        "data.batch_size=%d%s",
        *(wanted // parts, *size_hw, peak / GIB, taken / GIB),
        "" if free is None else f", of {free / GIB:.1f} that are free",
        wanted // parts,
        f" trainer.accumulate_grad_batches={parts * cfg.trainer.accumulate_grad_batches}" if parts > 1 else "",
    )
    return wanted // parts, parts


def _tried(
    cfg: DictConfig, model: MaskRCNN, size_hw: tuple[int, int], objects: int, batch_size: int, device: torch.device
) -> float:
    """Bytes of one step at this size, infinite where the device had too few; the model is on the CPU afterwards."""
    model.to(device)
    try:
        return measure_step(model, size_hw, batch_size, objects, *_step_of(cfg, device))
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        model.zero_grad(set_to_none=True)
        return math.inf
    finally:
        model.to("cpu")
        if device.type == "cuda":
            torch.cuda.empty_cache()


def memory_of(
    cfg: DictConfig, model: MaskRCNN, size_hw: tuple[int, int], objects: int, device: torch.device
) -> StepMemory:
    """What a step takes as configured; the model is on the CPU again afterwards."""
    model.to(device)
    try:
        return plan_memory(model, size_hw, objects, *_step_of(cfg, device))
    finally:
        model.to("cpu")


def _step_of(cfg: DictConfig, device: torch.device) -> tuple[int, Callable[[], Any]]:
    """Numbers that the optimiser keeps of each weight, and the context of a step."""
    dtype = _DTYPES.get(str(precision_of(cfg.trainer.precision, device)))
    around = nullcontext if dtype is None else partial(torch.autocast, device.type, dtype=dtype)
    return _ADAM if "adam" in str(cfg.optimizer.get("_target_")).lower() else _MOMENTUM, around


def largest_size(index: Any, model: MaskRCNN) -> tuple[int, int]:
    """Height and width of the largest training image as the backbone sees it, in px."""
    shorter, longest = max(model.preprocessing.min_size), model.preprocessing.max_size
    sides = np.stack([index.heights, index.widths], axis=1).astype(np.float64)
    resized = np.floor(sides * np.minimum(shorter / sides.min(axis=1), longest / sides.max(axis=1))[:, None])
    height, width = resized[resized.prod(axis=1).argmax()].astype(int).tolist()
    return padded((height, width))


def _device(cfg: DictConfig) -> torch.device:
    wants_gpu = plain(cfg.trainer).get("accelerator") in ("auto", "gpu", "cuda")
    return torch.device("cuda" if wants_gpu and torch.cuda.is_available() else "cpu")


def _free_bytes(device: torch.device) -> float | None:
    if device.type == "cuda":
        return float(torch.cuda.mem_get_info()[0])
    memory = memory_gib()
    return None if memory is None else memory[1] * GIB
