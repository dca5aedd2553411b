"""A model that is ready to be asked: images in, ``Instances`` out."""

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Literal, TypeAlias, overload

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from finemask.errors import ConfigError, FinemaskError
from finemask.inference.instances import Instances, instances_from_detections
from finemask.inference.sources import NamedImage, One, Source, list_items
from finemask.model_file import load_model_file
from finemask.model_header import POINTS, ModelHeader
from finemask.types import Category, Detections

Threshold: TypeAlias = float | Literal["auto", "best_f1", "precision_90", "recall_90"]


def load(path: Path | str, device: str = "auto", trust: Collection[str] = ()) -> "Predictor":
    """Loads a model file; nothing else is needed.

    Args:
        path: a model file, such as ``runs/NAME/latest/model.safetensors``.
        device: ``auto`` (a CUDA GPU if there is one, else the CPU), ``cpu``, ``cuda``, ``cuda:1``, …
        trust: dotted names of builders of your own that the file may name, besides finemask's.

    Raises:
        ModelFileError: the file is missing, foreign or damaged.
        ConfigError: there is no such device.
    """
    chosen = choose_device(device)
    model, header = load_model_file(path, trust)
    return Predictor(model, header, chosen)


def choose_device(device: str) -> torch.device:
    """The device of that name; ``auto`` is a CUDA GPU if there is one, else the CPU.

    Raises:
        ConfigError: there is no such device on this machine.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
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
    """

    def __init__(self, model: nn.Module, header: ModelHeader, device: torch.device | str = "cpu") -> None:
        self.device = torch.device(device)
        self.model = model.to(self.device).eval()
        self.header = header

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
        self, source: np.ndarray | Image.Image | bytes, threshold: Threshold = ..., batch_size: int = ...
    ) -> Instances: ...
    @overload
    def predict(
        self, source: list[One] | tuple[One, ...], threshold: Threshold = ..., batch_size: int = ...
    ) -> list[Instances]: ...
    @overload
    def predict(
        self, source: Source, threshold: Threshold = ..., batch_size: int = ...
    ) -> Instances | list[Instances]: ...

    def predict(
        self, source: Source, threshold: Threshold = "auto", batch_size: int = 4
    ) -> Instances | list[Instances]:
        """Finds the instances in one image or in several.

        An image in a batch gets what it gets alone, to the bit; see ``MaskRCNN.detect``.

        Args:
            source: path, URL, PIL image, uint8 RGB array [H, W, 3] or grey [H, W]; a list of these; a folder,
                glob, text file of paths or video.
            threshold: score below which nothing is reported; ``auto`` takes the model file's own threshold of
                each class; ``best_f1``, ``precision_90`` and ``recall_90`` take those of that operating point.
            batch_size: images that are handed to the model at a time; nothing that is found depends on it.

        Returns:
            ``Instances`` for one image, a list of them for everything that can hold several.

        Raises:
            DataError: an image that cannot be read.
        """
        items = list_items(source)
        images = (image for item in items for image in item.read())
        found = list(self.stream(images, threshold, batch_size))
        single = len(items) == 1 and not items[0].is_video and _names_one(source)
        return found[0] if single else found

    def stream(
        self, images: Iterable[NamedImage], threshold: Threshold = "auto", batch_size: int = 4
    ) -> Iterator[Instances]:
        """As ``predict``, one image after another, holding no more than a batch.

        Raises:
            ConfigError: a threshold outside 0..1, one that the model file does not hold, or a batch size below 1.
        """
        threshold_of = self._threshold(threshold)
        if batch_size < 1:
            raise ConfigError(f"batch_size={batch_size}", remedy="It is at least 1.")
        for batch in _batches(images, batch_size):
            for named, detections in zip(batch, self._detect(batch), strict=True):
                yield instances_from_detections(
                    detections,
                    self.categories,
                    threshold_of,
                    image=named.image,
                    name=named.name,
                    path=named.path,
                )

    def _threshold(self, threshold: Threshold) -> Callable[[str], float]:
        if threshold == "auto":
            return self.header.threshold_of
        if threshold in POINTS:
            return self._at_point(str(threshold))
        try:
            value = float(threshold)
        except ValueError:
            value = -1.0
        if not 0 <= value <= 1:
            known = ", ".join(POINTS)
            raise ConfigError(f"threshold={threshold}", remedy=f"It is auto, {known} or a number from 0 to 1.")
        return lambda name: value

    def _at_point(self, point: str) -> Callable[[str], float]:
        chosen = self.header.thresholds_at(point)
        if chosen is None:
            raise ConfigError(
                f"this model file holds no threshold for {point}: it was not reached in validation, or the file was "
                "written before finemask looked for it",
                remedy="Use threshold=auto or a number from 0 to 1.",
            )
        return chosen.__getitem__

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


def _batches(images: Iterable[NamedImage], size: int) -> Iterator[list[NamedImage]]:
    iterator = iter(images)
    while batch := list(islice(iterator, size)):
        yield batch


def _names_one(source: Source) -> bool:
    """Whether a source can hold one image only; folders and globs hold several even when there is but one."""
    if isinstance(source, str | Path):
        path = Path(source)
        return str(source).lower().startswith(("http://", "https://")) or (
            path.suffix.lower() != ".txt" and path.is_file()
        )
    return isinstance(source, np.ndarray | bytes | Image.Image)
