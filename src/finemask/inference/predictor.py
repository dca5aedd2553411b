"""The predictor: images in, ``Instances`` out."""

import logging
import math
import os
from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import BinaryIO, Literal, TypeAlias, overload

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from finemask.errors import ConfigError, DataError, FinemaskError
from finemask.inference.cutting import (
    Answer,
    Tile,
    WholeOrTiles,
    checked_tile,
    is_across_classes,
    seen_whole,
    training_tile,
)
from finemask.inference.exported_model import is_exported, open_model
from finemask.inference.instances import Instances
from finemask.inference.read_ahead import batches, read_images
from finemask.inference.scale import ScaleWatch
from finemask.inference.score_limits import Threshold, own_thresholds, score_limits
from finemask.inference.sources import AS_USUAL, ImageLike, NamedImage, Source, Unread, is_single
from finemask.inference.tiled import Cutting, TilesDone
from finemask.model.devices.cpu import keep_for_prediction
from finemask.model.devices.gpu.crossing import on_host, send
from finemask.model.mask_rcnn import MaskRCNN
from finemask.model_file import find_model_file
from finemask.model_header import ModelHeader
from finemask.ops.images.window_reader import LARGE_PX
from finemask.types import Category, Detections, Preprocessing

log = logging.getLogger(__name__)

OnError: TypeAlias = Literal["raise", "skip"] | Callable[[DataError], None]


def load(path: Path | str, device: str = "auto", trust: str | Collection[str] = ()) -> "Predictor":
    """Loads a model file; nothing else is needed.

    Args:
        path: a model file, a run (``runs/NAME``: its newest), an exported file, or ``hf://OWNER/NAME`` of the Hub.
        device: ``auto`` (a CUDA GPU if there is one, else the CPU), ``cpu``, ``cuda``, ``cuda:1``, …
        trust: parts of your own that the file may name, besides finemask's: dotted names, ``mylab.nets.Backbone``, or
            packages, ``mylab.*``.

    Raises:
        ModelFileError: the file is missing, foreign or damaged.
        ConfigError: there is no such device.
    """
    file = find_model_file(path)
    chosen = choose_device(device, file)
    model, header = open_model(file, trust)
    keep_for_prediction(model)
    return Predictor(model, header, chosen)


def choose_device(device: str, file: Path | str | None = None) -> torch.device:
    """The device of that name; ``auto`` is a GPU, CUDA's or Apple's (MPS), if there is one, else the CPU.

    Args:
        device: its name.
        file: of the model; of an exported one, ``auto`` is the CPU, which its images and answers pass through.

    Raises:
        ConfigError: there is no such device on this machine.
    """
    if device == "auto" and file is not None and is_exported(file):
        device = "cpu"
    if device == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        chosen = torch.device(device)
        torch.empty(1, device=chosen)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise ConfigError(
            f"device={device} cannot be used here", remedy="There is device=auto, cpu, cuda, cuda:0, mps."
        ) from error
    return chosen


class Predictor:
    """Finds instances in images.

    Args:
        model: gives ``list[Detections]`` for a list of uint8 tensors [3, H, W].
        header: what the model file says: categories, thresholds, provenance.
        device: where to run.

    Attributes:
        reading: page, range and channels of image files that hold more than one 8-bit picture: those of training.
        free_memory_bytes: what the pixels of a large image may take where it is read window by window; None: unlimited.
        opening: how sources that are no image files are opened: ``Opening(allow_private_urls=True)``.
        reading_threads: that read files and URLs ahead of the model; 0: none, each image is read when it is its turn.
        together: images of a batch that are padded to one shape go through the model in one pass: quicker on a GPU, and
            what is found is the same but for rounding (``MaskRCNN.detect_together``).
    """

    def __init__(self, model: nn.Module, header: ModelHeader, device: torch.device | str = "cpu") -> None:
        self.device = torch.device(device)
        self.model = model.to(self.device).eval()
        self.header = header
        self._warned_scale = math.inf  # of the image that was last said to be too large: once is enough for its kind
        self.reading = header.reading
        self.free_memory_bytes: float | None = None
        self.opening = AS_USUAL
        self.reading_threads = min(4, os.cpu_count() or 1)
        self.together = False

    @property
    def categories(self) -> Sequence[Category]:
        """The categories in training order; the one with label 1 first."""
        return self.header.categories

    @property
    def thresholds(self) -> dict[str, float]:
        """What ``threshold="auto"`` means: each class's own threshold, or the global one if it has none."""
        return own_thresholds(self.header)

    @overload
    def predict(
        self,
        source: np.ndarray | Tensor | Image.Image | bytes | BinaryIO,
        threshold: Threshold = ...,
        batch_size: int = ...,
        on_error: Literal["raise"] = ...,
        tile: Tile = ...,
        overlap: float = ...,
    ) -> Instances: ...
    @overload
    def predict(
        self,
        source: list[ImageLike] | tuple[ImageLike, ...] | Generator[ImageLike],
        threshold: Threshold = ...,
        batch_size: int = ...,
        on_error: Literal["raise"] = ...,
        tile: Tile = ...,
        overlap: float = ...,
    ) -> list[Instances]: ...
    @overload
    def predict(
        self,
        source: Source,
        threshold: Threshold = ...,
        batch_size: int = ...,
        on_error: Literal["raise"] = ...,
        tile: Tile = ...,
        overlap: float = ...,
    ) -> Instances | list[Instances]: ...
    @overload
    def predict(
        self,
        source: Source,
        threshold: Threshold = ...,
        batch_size: int = ...,
        on_error: OnError = ...,
        tile: Tile = ...,
        overlap: float = ...,
    ) -> Instances | list[Instances | None] | None: ...

    def predict(
        self,
        source: Source,
        threshold: Threshold = "auto",
        batch_size: int = 4,
        on_error: OnError = "raise",
        tile: Tile = None,
        overlap: float = 0.2,
    ) -> Instances | list[Instances] | list[Instances | None] | None:
        """Finds the instances in one image or in several.

        An image in a batch gets what it gets alone, to the bit; see ``MaskRCNN.detect``.

        Args:
            source: an image: path, URL, PIL image, uint8 RGB array [H, W, 3] (or RGBA [H, W, 4], grey [H, W] or
                [H, W, 1]), uint8 tensor [3, H, W] ([4, H, W], [1, H, W], [H, W]), an array or tensor of floats from 0
                to 1, encoded bytes, or a file opened for reading bytes. Or several: a list or generator of these; a
                folder, glob, text file of paths or video.
            threshold: score below which nothing is reported; ``auto`` takes the model file's own threshold of
                each class; ``best_f1``, ``precision_90`` and ``recall_90`` take those of that operating point. A
                mapping of class names to scores changes these classes; the others keep ``auto``.
            batch_size: images that are handed to the model at a time; nothing that is found depends on it.
            on_error: what an image that cannot be read does: ``raise`` ends it all; ``skip`` says so in the log, and
                None stands in its place, so that results and images stay side by side; a function is called with the
                error instead of the log. Of a damaged video, the frames that can be read are there.
            tile: None hands each image to the model as a whole. A size in px cuts images that are larger into tiles of
                that size and merges what is found in them; ``auto`` does so where the model would see the objects
                smaller than those it was trained on (``finemask.inference.scale``), in tiles that it sees as it saw
                the training images. Files of more than ``LARGE_PX`` pixels are then read window by window, and their
                ``instances.image`` is None.
            overlap: least share of a tile that it has in common with the next, from 0 to 0.9.

        Returns:
            ``Instances`` for one image, a list of them for everything that can hold several, ``[]`` for an empty list.

        Raises:
            DataError: an image that cannot be read, with ``on_error="raise"``.
            ConfigError: see ``stream``.
        """
        found = list(self.stream(source, threshold, batch_size, on_error, tile=tile, overlap=overlap))
        return found[0] if is_single(source) else found

    @overload
    def stream(
        self,
        source: Source,
        threshold: Threshold = ...,
        batch_size: int = ...,
        on_error: Literal["raise"] = ...,
        watch: ScaleWatch | None = ...,
        tile: Tile = ...,
        overlap: float = ...,
    ) -> Iterator[Instances]: ...
    @overload
    def stream(
        self,
        source: Source,
        threshold: Threshold = ...,
        batch_size: int = ...,
        on_error: OnError = ...,
        watch: ScaleWatch | None = ...,
        tile: Tile = ...,
        overlap: float = ...,
    ) -> Iterator[Instances | None]: ...

    def stream(
        self,
        source: Source,
        threshold: Threshold = "auto",
        batch_size: int = 4,
        on_error: OnError = "raise",
        watch: ScaleWatch | None = None,
        tile: Tile = None,
        overlap: float = 0.2,
    ) -> Iterator[Instances | None]:
        """As ``predict``, one image after another, holding no more than a batch and what threads read ahead of it.

        Args:
            source: as of ``predict``; a generator may be endless.
            threshold: as of ``predict``.
            batch_size: as of ``predict``; of a generator, so many images are asked for before the first is answered.
            on_error: as of ``predict``.
            watch: is told of every image; see ``watch_scale``. Without one, the log says in the end whether images were
                too large for what the model was trained on.
            tile: as of ``predict``.
            overlap: as of ``predict``.

        Raises:
            DataError: as of ``predict``.
            ConfigError: a threshold outside 0..1, one of a class that the model does not know or that the model file
                does not hold, a batch size below 1, an unknown ``on_error``, a tile or an overlap that cannot be, or
                ``tile="auto"`` with a model file that does not say how large its training images were.
        """
        if not (on_error in ("raise", "skip") or callable(on_error)):
            raise ConfigError(f"on_error={on_error!r}", remedy="It is raise, skip or a function.")
        report = (
            on_error if callable(on_error) else None if on_error == "raise" else partial(log.warning, "Skipped: %s")
        )
        answers = self.answers(source, threshold, batch_size, tile, overlap)
        return self._told_and_watched(answers, report, watch)

    def answers(
        self,
        source: Source,
        threshold: Threshold = "auto",
        batch_size: int = 4,
        tile: Tile = None,
        overlap: float = 0.2,
        tiles_done: TilesDone | None = None,
    ) -> Generator[Answer | Unread]:
        """What ``stream`` is made of: each image's instances, or why there are none, in the order of the source.

        Args:
            source: as of ``stream``.
            threshold: as of ``predict``.
            batch_size: as of ``stream``.
            tile: as of ``predict``.
            overlap: as of ``predict``.
            tiles_done: is told of the tiles of each image that is cut into tiles.

        Raises:
            ConfigError: as of ``stream``.
        """
        limits = score_limits(self.header, threshold)
        if batch_size < 1:
            raise ConfigError(f"batch_size={batch_size}", remedy="It is at least 1.")
        checked_tile(tile, overlap)
        if tile is None:
            images = read_images(source, self.reading, self.opening, threads=self.reading_threads)
            return self._in_batches(batches(images, batch_size), limits)
        side = training_tile(self.preprocessing, self.header.training_sizes) if tile == "auto" else tile
        cut = WholeOrTiles(
            self._detect,
            self.header,
            self.preprocessing,
            Cutting(side, overlap, batch_size, only_shrunk=tile == "auto"),
            is_across_classes(self.model),
            self.reading,
            self.free_memory_bytes,
            tiles_done,
        )
        images = read_images(source, self.reading, self.opening, whole_px=LARGE_PX, threads=self.reading_threads)
        return cut.answers(images, limits)

    def _told_and_watched(
        self,
        answers: Iterable[Answer | Unread],
        report: Callable[[DataError], None] | None,
        watch: ScaleWatch | None,
    ) -> Iterator[Instances | None]:
        """The instances alone; images that were seen whole are looked at for objects that are too small."""
        watched = watch or self.watch_scale()
        for answer in answers:
            if isinstance(answer, Unread):
                if report is None:
                    raise answer.error
                report(answer.error)
                if not answer.in_part:
                    yield None
                continue
            if answer.is_whole:
                watched.add(answer.instances)
            yield answer.instances
        worst = watched.worst
        if watch is None and worst is not None and worst.scale <= self._warned_scale / 2:
            self._warned_scale = worst.scale
            log.warning("%s", watched.in_words())

    def _in_batches(
        self, batches: Iterable[Sequence[NamedImage | Unread]], limits: Mapping[str, float]
    ) -> Generator[Answer | Unread]:
        least = [limits[category.name] for category in self.categories]
        for batch in batches:
            images = [one for one in batch if not isinstance(one, Unread)]
            found = iter(self._detect(images, least) if images else [])
            for one in batch:
                yield one if isinstance(one, Unread) else seen_whole(one, next(found), self.categories, limits)

    @property
    def preprocessing(self) -> Preprocessing:
        """What the model does to an image."""
        own: Preprocessing = getattr(self.model, "preprocessing", self.header.preprocessing)
        return own

    def watch_scale(self) -> ScaleWatch:
        """What notices images that are too large for what the model was trained on."""
        return ScaleWatch(self.preprocessing, self.header.training_sizes)

    def _detect(self, batch: Sequence[NamedImage], least_scores: Sequence[float] | None = None) -> list[Detections]:
        """Runs the model; a batch that does not fit into the GPU's memory is halved.

        Args:
            batch: images.
            least_scores: what may be left out; see ``MaskRCNN.detect``.
        """
        try:
            with torch.inference_mode():
                tensors = [_to_tensor(named.image, self.device) for named in batch]
                if isinstance(self.model, MaskRCNN):
                    detect = self.model.detect_together if self.together else self.model.detect
                    return on_host(detect(tensors, least_scores))
                found: list[Detections] = self.model(tensors)
                return on_host(found)
        except torch.OutOfMemoryError as error:
            if len(batch) == 1:
                height, width = batch[0].image.shape[:2]
                raise FinemaskError(
                    f"the GPU has too little memory for this image of {width} × {height} px",
                    where=batch[0].name,
                    remedy="Use device=cpu, or predict it in tiles: tile=1024.",
                ) from error
        torch.cuda.empty_cache()
        half = len(batch) // 2
        return self._detect(batch[:half], least_scores) + self._detect(batch[half:], least_scores)


def _to_tensor(image: np.ndarray, device: torch.device) -> Tensor:
    # from_numpy would warn about arrays that may not be written to, as views of PIL images are.
    return send(torch.tensor(image), device).permute(2, 0, 1)
