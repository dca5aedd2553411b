"""The predictor: images in, ``Instances`` out."""

import logging
import math
from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import BinaryIO, Literal, TypeAlias, overload

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from finemask.errors import ConfigError, DataError, FinemaskError, did_you_mean
from finemask.inference.instances import Instances, instances_from_detections
from finemask.inference.scale import ScaleWatch
from finemask.inference.sources import ImageLike, NamedImage, Source, is_single, read_images
from finemask.model_file import load_model_file
from finemask.model_header import POINTS, ModelHeader
from finemask.types import Category, Detections

log = logging.getLogger(__name__)

Threshold: TypeAlias = float | Literal["auto", "best_f1", "precision_90", "recall_90"] | Mapping[str, float]
OnError: TypeAlias = Literal["raise", "skip"] | Callable[[DataError], None]


def load(path: Path | str, device: str = "auto", trust: str | Collection[str] = ()) -> "Predictor":
    """Loads a model file; nothing else is needed.

    Args:
        path: a model file, or a run: ``runs/NAME`` is the newest of that name.
        device: ``auto`` (a CUDA GPU if there is one, else the CPU), ``cpu``, ``cuda``, ``cuda:1``, …
        trust: parts of your own that the file may name, besides finemask's: dotted names, ``mylab.nets.Backbone``, or
            packages, ``mylab.*``.

    Raises:
        ModelFileError: the file is missing, foreign or damaged.
        ConfigError: there is no such device.
    """
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
    """

    def __init__(self, model: nn.Module, header: ModelHeader, device: torch.device | str = "cpu") -> None:
        self.device = torch.device(device)
        self.model = model.to(self.device).eval()
        self.header = header
        self._warned_scale = math.inf  # of the image that was last said to be too large: once is enough for its kind
        self.reading = header.reading

    @property
    def categories(self) -> Sequence[Category]:
        """The categories in training order; the one with label 1 first."""
        return self.header.categories

    @property
    def thresholds(self) -> dict[str, float]:
        """What ``threshold="auto"`` means: each class's own threshold, or the global one if it has none."""
        return {category.name: self.header.threshold_of(category.name) for category in self.categories}

    @overload
    def predict(
        self,
        source: np.ndarray | Tensor | Image.Image | bytes | BinaryIO,
        threshold: Threshold = ...,
        batch_size: int = ...,
        on_error: Literal["raise"] = ...,
    ) -> Instances: ...
    @overload
    def predict(
        self,
        source: list[ImageLike] | tuple[ImageLike, ...] | Generator[ImageLike],
        threshold: Threshold = ...,
        batch_size: int = ...,
        on_error: Literal["raise"] = ...,
    ) -> list[Instances]: ...
    @overload
    def predict(
        self, source: Source, threshold: Threshold = ..., batch_size: int = ..., on_error: Literal["raise"] = ...
    ) -> Instances | list[Instances]: ...
    @overload
    def predict(
        self, source: Source, threshold: Threshold = ..., batch_size: int = ..., on_error: OnError = ...
    ) -> Instances | list[Instances | None] | None: ...

    def predict(
        self, source: Source, threshold: Threshold = "auto", batch_size: int = 4, on_error: OnError = "raise"
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

        Returns:
            ``Instances`` for one image, a list of them for everything that can hold several, ``[]`` for an empty list.

        Raises:
            DataError: an image that cannot be read, with ``on_error="raise"``.
            ConfigError: see ``stream``.
        """
        found = list(self.stream(source, threshold, batch_size, on_error))
        return found[0] if is_single(source) else found

    @overload
    def stream(
        self,
        source: Source,
        threshold: Threshold = ...,
        batch_size: int = ...,
        on_error: Literal["raise"] = ...,
        watch: ScaleWatch | None = ...,
    ) -> Iterator[Instances]: ...
    @overload
    def stream(
        self,
        source: Source,
        threshold: Threshold = ...,
        batch_size: int = ...,
        on_error: OnError = ...,
        watch: ScaleWatch | None = ...,
    ) -> Iterator[Instances | None]: ...

    def stream(
        self,
        source: Source,
        threshold: Threshold = "auto",
        batch_size: int = 4,
        on_error: OnError = "raise",
        watch: ScaleWatch | None = None,
    ) -> Iterator[Instances | None]:
        """As ``predict``, one image after another, holding no more than a batch.

        Args:
            source: as of ``predict``; a generator may be endless.
            threshold: as of ``predict``.
            batch_size: as of ``predict``; so many images are read before the first is answered.
            on_error: as of ``predict``.
            watch: is told of every image; see ``watch_scale``. Without one, the log says in the end whether images were
                too large for what the model was trained on.

        Raises:
            DataError: as of ``predict``.
            ConfigError: a threshold outside 0..1, one of a class that the model does not know or that the model file
                does not hold, a batch size below 1, or an unknown ``on_error``.
        """
        limits = self._limits(threshold)
        if batch_size < 1:
            raise ConfigError(f"batch_size={batch_size}", remedy="It is at least 1.")
        if not (on_error in ("raise", "skip") or callable(on_error)):
            raise ConfigError(f"on_error={on_error!r}", remedy="It is raise, skip or a function.")
        report = on_error if callable(on_error) else None if on_error == "raise" else _say_skipped
        batches = _batches(read_images(source, report, self.reading), batch_size)
        return self._predict_batches(batches, limits, watch)

    def _predict_batches(
        self,
        batches: Iterable[Sequence[NamedImage | None]],
        limits: Mapping[str, float],
        watch: ScaleWatch | None,
    ) -> Iterator[Instances | None]:
        watched = watch or self.watch_scale()
        for batch in batches:
            images = [named for named in batch if named is not None]
            found = iter(self._detect(images) if images else [])
            for named in batch:
                if named is None:
                    yield None
                    continue
                instances = instances_from_detections(
                    next(found),
                    self.categories,
                    limits,
                    image=named.image,
                    name=named.name,
                    path=named.path,
                )
                watched.add(instances)
                yield instances
        worst = watched.worst
        if watch is None and worst is not None and worst.scale <= self._warned_scale / 2:
            self._warned_scale = worst.scale
            log.warning("%s", watched.in_words())

    def watch_scale(self) -> ScaleWatch:
        """What notices images that are too large for what the model was trained on."""
        return ScaleWatch(getattr(self.model, "preprocessing", self.header.preprocessing), self.header.training_sizes)

    def _limits(self, threshold: Threshold) -> Mapping[str, float]:
        """The least score of each class."""
        own = self.thresholds
        if threshold == "auto":
            return own
        if isinstance(threshold, Mapping):
            for name in threshold:
                if name not in own:
                    raise ConfigError(
                        f"threshold names the class {name!r}, which this model does not know",
                        remedy=f"{did_you_mean(str(name), own)}It knows: {', '.join(own)}.",
                    )
            return own | {name: _score(value, f"threshold of {name} is {value}") for name, value in threshold.items()}
        if threshold not in POINTS:
            return dict.fromkeys(own, _score(threshold, f"threshold={threshold}"))
        if (chosen := self.header.thresholds_at(str(threshold))) is None:
            raise ConfigError(
                f"this model file holds no threshold for {threshold}: it was not reached in validation, or the file "
                "was written before finemask looked for it",
                remedy="Use threshold=auto or a number from 0 to 1.",
            )
        return chosen

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
                    remedy="Use device=cpu, or cut the image into tiles.",
                ) from error
        torch.cuda.empty_cache()
        half = len(batch) // 2
        return self._detect(batch[:half]) + self._detect(batch[half:])


def _to_tensor(image: np.ndarray, device: torch.device) -> Tensor:
    # from_numpy would warn about arrays that may not be written to, as views of PIL images are.
    return torch.tensor(image).permute(2, 0, 1).to(device).contiguous()


def _score(value: object, what: str) -> float:
    try:
        score = float(value)  # type: ignore[arg-type] # what is no number ends here
    except (TypeError, ValueError):
        score = -1.0
    if not 0 <= score <= 1:
        raise ConfigError(what, remedy=f"It is auto, {', '.join(POINTS)} or a number from 0 to 1.")
    return score


def _say_skipped(error: DataError) -> None:
    log.warning("Skipped: %s", error)


def _batches(images: Iterable[NamedImage | None], size: int) -> Iterator[list[NamedImage | None]]:
    iterator = iter(images)
    while batch := list(islice(iterator, size)):
        yield batch
