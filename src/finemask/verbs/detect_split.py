"""Running a model over the images of a split."""

import os
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import Any, Literal

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import nn

from finemask.data.index import CocoIndex
from finemask.errors import ConfigError
from finemask.evaluation.coco import CocoEvaluator
from finemask.ops.decode import decode_image

_MAX_THREADS = 8
_LINES = 10  # how often a log that is no terminal hears of it


def detect_split(
    model: nn.Module,
    index: CocoIndex,
    evaluator: CocoEvaluator,
    device: torch.device,
    batch_size: int,
    num_workers: int | Literal["auto"],
) -> None:
    """Adds the model's detections in every image of ``index`` to the evaluator.

    Args:
        model: images uint8 [3, H, W] to ``Detections``; moved to ``device`` and put into evaluation mode.
        index: of the split.
        evaluator: with the split's ground truth and ``index.category_ids``.
        device: where the model runs.
        batch_size: images at a time.
        num_workers: threads that read images; ``"auto"`` is one for each core, up to 8.

    Raises:
        ConfigError: a batch size or number of threads below 1.
        DataError: an image cannot be read, or is not of the size that the annotations state.
    """
    threads = min(os.cpu_count() or 1, _MAX_THREADS) if num_workers == "auto" else num_workers
    for key, value in (("batch_size", batch_size), ("num_workers", threads)):
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise ConfigError(f"{key} is {value!r}", remedy="Give a whole number of at least 1.")
    model.to(device).eval()
    with torch.inference_mode(), _Counter(len(index)) as counter:
        for batch in _batches(_images(index, threads, ahead=2 * batch_size), batch_size):
            images = [torch.from_numpy(image).permute(2, 0, 1).to(device) for _, image in batch]
            for (i, _), detections in zip(batch, model(images), strict=True):
                evaluator.add(int(index.image_ids[i]), detections)
            counter.advance(len(batch))


def _images(index: CocoIndex, threads: int, ahead: int) -> Iterator[tuple[int, Any]]:
    """Positions and decoded images in order; threads read a few ahead."""
    waiting: deque[Future[Any]] = deque()
    positions = iter(range(len(index)))

    def read(i: int) -> tuple[int, Any]:
        return i, decode_image(index.image_path(i), index.size_hw(i))

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


class _Counter:
    """A progress bar on a terminal, some plain lines anywhere else."""

    def __init__(self, total: int) -> None:
        self._total, self._done, self._said = total, 0, 0
        self._console = Console(stderr=True)
        self._start = time.perf_counter()
        columns = (
            TextColumn("evaluating"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]} images/s"),
            TimeRemainingColumn(),
        )
        self._bar = Progress(*columns, console=self._console, transient=True)
        self._task = self._bar.add_task("", total=total, rate="–")

    def __enter__(self) -> "_Counter":
        if self._console.is_terminal:
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def advance(self, count: int) -> None:
        self._done += count
        rate = self._done / (time.perf_counter() - self._start)
        if self._console.is_terminal:
            self._bar.update(self._task, completed=self._done, rate=f"{rate:.1f}")
        elif (tenth := self._done * _LINES // self._total) > self._said:
            self._said = tenth
            left = (self._total - self._done) / rate
            print(
                f"evaluated {self._done} of {self._total} images, {rate:.1f} images/s, {left:.0f} s left",
                file=self._console.file,
                flush=True,
            )
