"""Which images are cut into tiles, into which tiles, and the instances of those that are."""

from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray
from torch import nn

from finemask.errors import ConfigError, DataError
from finemask.inference.exported_model import ExportedModel
from finemask.inference.instances import Instances, instances_from_detections
from finemask.inference.scale import needs_tiles
from finemask.inference.sources import LargeImage, NamedImage, Unread
from finemask.inference.tile_merging import Window
from finemask.inference.tiled import Cutting, OpenPicture, TilesDone, detect_tiled
from finemask.model.suppression import ClassAgnosticNMS
from finemask.model_header import ModelHeader, TrainingSizes
from finemask.ops.images.image_reading import ImageReading
from finemask.ops.images.window_reader import ArrayReader, open_image
from finemask.types import Category, Detections, Preprocessing

Tile: TypeAlias = int | Literal["auto"] | None

SMALLEST_PX = 64


class Answer(NamedTuple):
    """What was found in an image."""

    instances: Instances
    is_whole: bool  # whether the model saw the image as a whole


def seen_whole(
    image: NamedImage, found: Detections, categories: Sequence[Category], limits: Mapping[str, float]
) -> Answer:
    """What was found in an image that the model saw as a whole.

    Args:
        image: it.
        found: in it.
        categories: of the model.
        limits: the least score of each category, by name.
    """
    instances = instances_from_detections(
        found, categories, limits, image=image.image, name=image.name, path=image.path, frame=image.frame
    )
    return Answer(instances, True)


def checked_tile(tile: object, overlap: object) -> None:
    """Whether a size and an overlap of tiles can be.

    Raises:
        ConfigError: they cannot.
    """
    whole = isinstance(tile, int) and not isinstance(tile, bool) and tile >= SMALLEST_PX
    if not (tile is None or tile == "auto" or whole):
        raise ConfigError(f"tile={tile}", remedy=f"It is auto, or the side of a tile in px, {SMALLEST_PX} at least.")
    if not isinstance(overlap, int | float) or not 0 <= overlap <= 0.9:
        raise ConfigError(f"overlap={overlap}", remedy="It is a share of the tile, from 0 to 0.9.")


def training_tile(preprocessing: Preprocessing, sizes: TrainingSizes | None) -> int:
    """Side in px of the tiles in which the model sees objects as large as in training.

    Raises:
        ConfigError: the model file does not say how large its training images were.
    """
    if sizes is None:
        raise ConfigError(
            "tile=auto needs to know how large the training images were, and this model file does not say",
            remedy="Give the side of the tiles in px: that of the training images, tile=512.",
        )
    return max(SMALLEST_PX, round(min(preprocessing.min_size[-1], preprocessing.max_size) / sizes.scale[1]))


def picture_of(
    image: NamedImage | LargeImage, reading: ImageReading, free_memory_bytes: float | None
) -> tuple[OpenPicture, tuple[int, int]]:
    """What opens an image for reading windows, and its height and width.

    Args:
        image: in memory, or a file.
        reading: of files that hold more than one 8-bit picture.
        free_memory_bytes: what the pixels of a file may take; None: unlimited.
    """
    if isinstance(image, LargeImage):
        path, size_hw = image.path, image.size_hw
        return lambda: open_image(path, size_hw, free_memory_bytes=free_memory_bytes, reading=reading), size_hw
    pixels = image.image
    return lambda: ArrayReader(pixels), (pixels.shape[0], pixels.shape[1])


def is_across_classes(model: nn.Module) -> bool:
    """Whether the suppression of a model compares detections of different classes."""
    if isinstance(model, ExportedModel):
        return model.is_across_classes
    suppression = getattr(getattr(getattr(model, "model", model), "roi_heads", None), "suppression", None)
    return isinstance(suppression, ClassAgnosticNMS) or bool(getattr(suppression, "class_agnostic", False))


@dataclass(frozen=True)
class WholeOrTiles:
    """Finds the instances of images, some of which are cut into tiles.

    Args:
        detect: runs the model on images.
        header: of the model.
        preprocessing: what the model does to an image.
        cutting: how.
        across_classes: see ``merge_finds``.
        reading: of files that hold more than one 8-bit picture.
        free_memory_bytes: what the pixels of a file may take; None: unlimited.
        tiles_done: is told of the tiles of each image.
    """

    detect: Callable[[Sequence[NamedImage]], list[Detections]]
    header: ModelHeader
    preprocessing: Preprocessing
    cutting: Cutting
    across_classes: bool
    reading: ImageReading
    free_memory_bytes: float | None
    tiles_done: TilesDone | None = None

    def answers(
        self, images: Iterable[NamedImage | LargeImage | Unread], limits: Mapping[str, float]
    ) -> Generator[Answer | Unread]:
        """What is found in each image, or why it could not be read.

        Args:
            images: one after another.
            limits: the least score of each category, by name.
        """
        for image in images:
            if isinstance(image, Unread):
                yield image
                continue
            if isinstance(image, NamedImage) and (found := self._sees(image)) is not None:
                yield seen_whole(image, found, self.header.categories, limits)
                continue
            try:
                answer: Answer | Unread = Answer(self._in_tiles(image, limits), False)
            except DataError as error:
                answer = Unread(image.name, error)
            yield answer

    def _sees(self, image: NamedImage) -> Detections | None:
        """What the model finds in the image as a whole; None where it is to be cut into tiles."""
        if not self.cutting.only_shrunk and max(image.image.shape[:2]) > self.cutting.tile:
            return None
        (found,) = self.detect([image])
        return None if self.cutting.only_shrunk and self._sees_too_small(found) else found

    def _sees_too_small(self, found: Detections) -> bool:
        """Whether an image that was seen as a whole is to be cut into tiles; no threshold of the user has a say."""
        header, sizes = self.header, self.header.training_sizes
        own = instances_from_detections(
            {**found, "mask_probs": found["mask_probs"][:, :1, :1]},
            header.categories,
            {category.name: header.threshold_of(category.name) for category in header.categories},
        )
        return sizes is not None and needs_tiles(own.boxes, found["image_size_hw"], self.preprocessing, sizes)

    def _in_tiles(self, image: NamedImage | LargeImage, limits: Mapping[str, float]) -> Instances:
        """The instances of an image that is cut into tiles.

        Raises:
            DataError: it cannot be read, or does not fit into memory and cannot be read by strips.
        """
        open_picture, (height, width) = picture_of(image, self.reading, self.free_memory_bytes)

        def detect(pixels: Sequence[NDArray[np.uint8]], windows: Sequence[Window]) -> list[Detections]:
            places = [f"{image.name} at {x0}, {y0}" for x0, y0, _, _ in windows]
            return self.detect([NamedImage(place, one, None) for place, one in zip(places, pixels, strict=True)])

        found = detect_tiled(
            detect,
            open_picture,
            (height, width),
            self.cutting,
            across_classes=self.across_classes,
            tiles_done=self.tiles_done,
        )
        categories = self.header.categories
        least = np.array([limits[category.name] for category in categories], dtype=np.float32)
        return Instances(
            *found,
            image_size_hw=(height, width),
            categories=categories,
            image=None if isinstance(image, LargeImage) else image.image,
            name=image.name,
            path=image.path,
            frame=None if isinstance(image, LargeImage) else image.frame,
        )[found.scores >= least[found.labels - 1]]
