"""The predictor: images in, ``Instances`` out."""

import logging
import math
from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import BinaryIO, Literal, TypeAlias, overload

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from finemask.errors import ConfigError, DataError, FinemaskError
from finemask.inference.exported_model import SUFFIXES, load_exported
from finemask.inference.instances import Instances, instances_from_detections
from finemask.inference.scale import ScaleWatch, needs_tiles
from finemask.inference.score_limits import Threshold, own_thresholds, score_limits
from finemask.inference.sources import (
    ImageLike,
    LargeImage,
    NamedImage,
    Source,
    is_single,
    read_images,
    read_or_open_images,
)
from finemask.inference.tile_merging import Window
from finemask.inference.tiled import (
    Cutting,
    Tile,
    checked_tile,
    detect_tiled,
    is_across_classes,
    picture_of,
    training_tile,
)
from finemask.model_file import load_model_file
from finemask.model_header import ModelHeader
from finemask.ops.images.window_reader import LARGE_PX
from finemask.types import Category, Detections, Preprocessing

log = logging.getLogger(__name__)

OnError: TypeAlias = Literal["raise", "skip"] | Callable[[DataError], None]


def load(path: Path | str, device: str = "auto", trust: str | Collection[str] = ()) -> "Predictor":
    """Loads a model file; nothing else is needed.

    Args:
        path: a model file, or a run: ``runs/NAME`` is the newest of that name; or a file of ``finemask export``, .onnx.
        device: ``auto`` (a CUDA GPU if there is one, else the CPU), ``cpu``, ``cuda``, ``cuda:1``, …
        trust: parts of your own that the file may name, besides finemask's: dotted names, ``mylab.nets.Backbone``, or
            packages, ``mylab.*``.

    Raises:
        ModelFileError: the file is missing, foreign or damaged.
        ConfigError: there is no such device.
    """
    if Path(path).suffix.lower() in SUFFIXES:
        exported = load_exported(Path(path))
        return Predictor(exported, exported.header, choose_device("cpu" if device == "auto" else device))
    chosen = choose_device(device)
    model, header = load_model_file(path, trust)
    return Predictor(model, header, chosen)


def choose_device(device: str) -> torch.device:
    """The device of that name; ``auto`` is a GPU, CUDA's or Apple's (MPS), if there is one, else the CPU.

    Raises:
        ConfigError: there is no such device on this machine.
    """
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
    """

    def __init__(self, model: nn.Module, header: ModelHeader, device: torch.device | str = "cpu") -> None:
        self.device = torch.device(device)
        self.model = model.to(self.device).eval()
        self.header = header
        self._warned_scale = math.inf  # of the image that was last said to be too large: once is enough for its kind
        self.reading = header.reading
        self.free_memory_bytes: float | None = None

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
        """As ``predict``, one image after another, holding no more than a batch.

        Args:
            source: as of ``predict``; a generator may be endless.
            threshold: as of ``predict``.
            batch_size: as of ``predict``; so many images are read before the first is answered.
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
        limits = score_limits(self.header, threshold)
        if batch_size < 1:
            raise ConfigError(f"batch_size={batch_size}", remedy="It is at least 1.")
        if not (on_error in ("raise", "skip") or callable(on_error)):
            raise ConfigError(f"on_error={on_error!r}", remedy="It is raise, skip or a function.")
        report = on_error if callable(on_error) else None if on_error == "raise" else partial(log.warning, "Skipped: %s")
        checked_tile(tile, overlap)
        if tile is None:
            images = read_images(source, report, self.reading)
            answers = self._predict_batches(_batches(images, batch_size), limits)
        else:
            side = training_tile(self.preprocessing, self.header.training_sizes) if tile == "auto" else tile
            cutting = Cutting(side, overlap, batch_size, only_shrunk=tile == "auto")
            opened = read_or_open_images(source, report, self.reading, whole_px=LARGE_PX)
            answers = self._predict_tiled(opened, limits, cutting, report)
        return self._watched(answers, watch)

    def _watched(
        self, answers: Iterator[tuple[Instances | None, bool]], watch: ScaleWatch | None
    ) -> Iterator[Instances | None]:
        """The answers; those that were seen whole are looked at for objects that are too small."""
        watched = watch or self.watch_scale()
        for instances, is_whole in answers:
            if instances is not None and is_whole:
                watched.add(instances)
            yield instances
        worst = watched.worst
        if watch is None and worst is not None and worst.scale <= self._warned_scale / 2:
            self._warned_scale = worst.scale
            log.warning("%s", watched.in_words())

    def _predict_batches(
        self, batches: Iterable[Sequence[NamedImage | None]], limits: Mapping[str, float]
    ) -> Iterator[tuple[Instances | None, bool]]:
        for batch in batches:
            images = [named for named in batch if named is not None]
            found = iter(self._detect(images) if images else [])
            for named in batch:
                yield None if named is None else self._instances(named, next(found), limits), True

    def _instances(self, named: NamedImage, found: Detections, limits: Mapping[str, float]) -> Instances:
        return instances_from_detections(
            found, self.categories, limits, image=named.image, name=named.name, path=named.path
        )

    def _predict_tiled(
        self,
        images: Iterable[NamedImage | LargeImage | None],
        limits: Mapping[str, float],
        cutting: Cutting,
        report: Callable[[DataError], None] | None,
    ) -> Iterator[tuple[Instances | None, bool]]:
        """Answers, and whether the model saw the image as a whole."""
        for image in images:
            if image is None:
                yield None, True
                continue
            if isinstance(image, NamedImage) and (cutting.only_shrunk or max(image.image.shape[:2]) <= cutting.tile):
                (found,) = self._detect([image])
                if not (cutting.only_shrunk and self._sees_too_small(found)):
                    yield self._instances(image, found, limits), True
                    continue
            try:
                yield self._in_tiles(image, limits, cutting), False
            except DataError as error:
                if report is None:
                    raise
                report(error)
                yield None, True

    def _sees_too_small(self, found: Detections) -> bool:
        """Whether an image that was seen as a whole is to be cut into tiles; no threshold of the user has a say."""
        sizes = self.header.training_sizes
        own = instances_from_detections(
            {**found, "mask_probs": found["mask_probs"][:, :1, :1]}, self.categories, self.thresholds
        )
        return sizes is not None and needs_tiles(own.boxes, found["image_size_hw"], self.preprocessing, sizes)

    def _in_tiles(self, image: NamedImage | LargeImage, limits: Mapping[str, float], cutting: Cutting) -> Instances:
        """The instances of an image that is cut into tiles.

        Raises:
            DataError: it cannot be read, or does not fit into memory and cannot be read by strips.
        """
        open_picture, (height, width) = picture_of(image, self.reading, self.free_memory_bytes)

        def detect(pixels: Sequence[NDArray[np.uint8]], windows: Sequence[Window]) -> list[Detections]:
            places = [f"{image.name} at {x0}, {y0}" for x0, y0, _, _ in windows]
            return self._detect([NamedImage(place, one, None) for place, one in zip(places, pixels, strict=True)])

        found = detect_tiled(
            detect, open_picture, (height, width), cutting, across_classes=is_across_classes(self.model)
        )
        least = np.array([limits[category.name] for category in self.categories], dtype=np.float32)
        return Instances(
            *found,
            image_size_hw=(height, width),
            categories=self.categories,
            image=None if isinstance(image, LargeImage) else image.image,
            name=image.name,
            path=image.path,
        )[found.scores >= least[found.labels - 1]]

    @property
    def preprocessing(self) -> Preprocessing:
        """What the model does to an image."""
        own: Preprocessing = getattr(self.model, "preprocessing", self.header.preprocessing)
        return own

    def watch_scale(self) -> ScaleWatch:
        """What notices images that are too large for what the model was trained on."""
        return ScaleWatch(self.preprocessing, self.header.training_sizes)

    def _detect(self, batch: Sequence[NamedImage]) -> list[Detections]:
        """Runs the model; a batch that does not fit into the GPU's memory is halved."""
        try:
            with torch.inference_mode():
                tensors = [_to_tensor(named.image, self.device) for named in batch]
                found: list[Detections] = self.model(tensors)
                return found
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
        return self._detect(batch[:half]) + self._detect(batch[half:])


def _to_tensor(image: np.ndarray, device: torch.device) -> Tensor:
    # from_numpy would warn about arrays that may not be written to, as views of PIL images are.
    return torch.tensor(image).permute(2, 0, 1).to(device).contiguous()


def _batches(images: Iterable[NamedImage | None], size: int) -> Iterator[list[NamedImage | None]]:
    iterator = iter(images)
    while batch := list(islice(iterator, size)):
        yield batch
