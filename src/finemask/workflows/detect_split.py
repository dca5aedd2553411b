"""Running a model over the images of a split."""

import os
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from finemask.coco.index import CocoIndex
from finemask.errors import ConfigError
from finemask.evaluation.evaluator import CocoEvaluator
from finemask.types import Detections, Rle
from finemask.workflows.progress import Progress

_MAX_THREADS = 8

Refine: TypeAlias = Callable[[NDArray[np.uint8], Detections], Sequence[Rle]]
"""Image uint8 [H, W, 3] and N detections in it to their N masks."""


def detect_split(
    model: nn.Module,
    index: CocoIndex,
    evaluator: CocoEvaluator,
    device: torch.device,
    batch_size: int,
    num_workers: int | Literal["auto"],
    refine: Refine | None = None,
    positions: Sequence[int] | None = None,
) -> None:
    """Adds the model's detections in the images of ``index`` to the evaluator.

    Args:
        model: images uint8 [3, H, W] to ``Detections``; moved to ``device`` and put into evaluation mode.
        index: of the split.
        evaluator: with the split's ground truth and ``index.category_ids``.
        device: where the model runs.
        batch_size: images that are handed to the model at a time.
        num_workers: threads that read images; ``"auto"`` is one for each core, up to 8.
        refine: makes better masks out of an image and its detections; None leaves them as they are.
        positions: of the images in the index; None: all of them.

    Raises:
        ConfigError: a batch size or number of threads below 1.
        DataError: an image cannot be read, or is not of the size that the annotations state.
    """
    threads = min(os.cpu_count() or 1, _MAX_THREADS) if num_workers == "auto" else num_workers
    for key, value in (("batch_size", batch_size), ("num_workers", threads)):
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise ConfigError(f"{key} is {value!r}", remedy="Give a whole number of at least 1.")
    model.to(device).eval()
    chosen = range(len(index)) if positions is None else positions
    with torch.inference_mode(), Progress("evaluating", len(chosen), "images") as progress:
        for batch in _batches(_images(index, chosen, threads, ahead=2 * batch_size), batch_size):
            images = [torch.from_numpy(image).permute(2, 0, 1).to(device) for _, image in batch]
            for (i, image), detections in zip(batch, model(images), strict=True):
                rles = None if refine is None else refine(image, detections)
                evaluator.add(int(index.image_ids[i]), detections, rles)
            progress.advance(len(batch))


def _images(index: CocoIndex, chosen: Sequence[int], threads: int, ahead: int) -> Iterator[tuple[int, Any]]:
    """Positions and decoded images in order; threads read a few ahead."""
    waiting: deque[Future[Any]] = deque()
    positions = iter(chosen)

    def read(i: int) -> tuple[int, Any]:
        return i, index.read_image(i)

    with ThreadPoolExecutor(threads) as pool:
        try:
            waiting.extend(pool.submit(read, i) for i in islice(positions, ahead + threads))
            while waiting:
                yield waiting.popleft().result()
                waiting.extend(pool.submit(read, i) for i in islice(positions, 1))
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _batches(items: Iterator[tuple[int, Any]], size: int) -> Iterator[list[tuple[int, Any]]]:
    while batch := list(islice(items, size)):
        yield batch


def split_paths(data: Mapping[str, Any], split: str) -> tuple[Path, Path]:
    """Annotation file and folder of images of a split.

    Args:
        data: the group ``data``, with its ``root``.
        split: ``train``, ``val`` or ``test``.

    Raises:
        ConfigError: the split has no annotation file.
    """
    if data[split] is None:
        raise ConfigError(
            f"data.{split} is not set",
            remedy=f"Give the annotation file, relative to data.root: data.{split}=FILE.",
        )
    root = Path(data["root"])
    return root / data[split], root / data["images"]
