"""Input resolution: the size, whole or in tiles, at which the model sees images, and which one suits the objects."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from finemask.coco.index import CocoIndex
from finemask.datatools.stats.object_stats import Objects
from finemask.errors import ConfigError


@dataclass(frozen=True)
class ModelSettings:
    """The part of a ``model`` configuration that depends on the size and number of objects.

    Args:
        name: of the configuration.
        min_size: shorter side in px after resizing; where training draws from several, the last, which is the one
            of evaluation.
        max_size: upper bound of the longer side in px.
        anchor_sizes: px of the resized image, one a pyramid level.
        aspect_ratios: of the anchors, height / width.
        proposals_train: kept an image in training.
        proposals_test: kept an image in evaluation.
        detections: most an image, or ``auto``.
        nms_thresh: boxes of one class that overlap by more are taken for one object.
    """

    name: str
    min_size: int
    max_size: int
    anchor_sizes: tuple[float, ...]
    aspect_ratios: tuple[float, ...]
    proposals_train: int
    proposals_test: int
    detections: int | str
    nms_thresh: float

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> "ModelSettings":
        """Takes them from the group ``model``, resolved, as plain dicts and lists.

        Raises:
            ConfigError: anchors or proposals are not finemask's.
        """
        for key in ("anchors", "rpn"):
            target = str(config[key].get("_target_", "finemask."))
            if not target.startswith("finemask."):
                raise ConfigError(
                    f"{target} is not finemask's own, and what it does with objects is not known here",
                    where=f"model.{key}",
                    remedy="Give the model that yours builds on, such as model=light.",
                )
        sizes = config["min_size"]
        return cls(
            name=str(config["name"]),
            min_size=int(sizes[-1] if isinstance(sizes, Sequence) else sizes),
            max_size=int(config["max_size"]),
            anchor_sizes=tuple(float(size) for size in config["anchors"]["sizes"]),
            aspect_ratios=tuple(float(ratio) for ratio in config["anchors"]["aspect_ratios"]),
            proposals_train=int(config["rpn"]["post_nms_top_n_train"]),
            proposals_test=int(config["rpn"]["post_nms_top_n_test"]),
            detections=config["roi_heads"]["detections_per_img"],
            nms_thresh=float(config["roi_heads"]["nms_thresh"]),
        )


@dataclass(frozen=True)
class Resolution:
    """The size at which images reach the model, whole or in tiles.

    Args:
        min_size: shorter side in px after resizing.
        max_size: upper bound of the longer side in px.
        tile: side in px of the tiles that images are cut into first; None: whole images.
    """

    min_size: int
    max_size: int
    tile: int | None = None

    def sizes_hw(self, heights: NDArray[np.int32], widths: NDArray[np.int32]) -> NDArray[np.int64]:
        """Heights and widths int64 [n, 2] that images, or their tiles, are resized to."""
        size = np.stack([heights, widths], axis=1)
        if self.tile is not None:
            size = np.minimum(size, self.tile)
        return np.maximum(np.floor(size * self.scales(heights, widths)[:, None]).astype(np.int64), 1)

    def scales(self, heights: NDArray[np.int32], widths: NDArray[np.int32]) -> NDArray[np.float64]:
        """By how much each image is enlarged, float64 [n]."""
        size = np.stack([heights, widths], axis=1).astype(np.float64)
        if self.tile is not None:
            size = np.minimum(size, self.tile)
        scales: NDArray[np.float64] = np.minimum(self.min_size / size.min(axis=1), self.max_size / size.max(axis=1))
        return scales


LEAST_PX = 12
"""Side that nine of ten objects should have in training: three cells of the finest feature map, whose stride is 4."""

_COMFORTABLE_PX = 32  # where COCO's small objects end: with more, fewer pixels will do
_IN_TILES_PX = 16  # somewhat more than the least, since tiles make it cheap
_WORTH_SAVING = 1.5  # times fewer pixels
_RUNGS = (256, 320, 384, 448, 480, 512, 576, 640, 704, 768, 800, 896, 1024, 1152, 1344)
_MOST_ENLARGED = 4.0  # beyond, enlarging shows nothing new
_TILE_STEP, _LEAST_TILE = 64, 256  # px


def small_side(index: CocoIndex, objects: Objects, resolution: Resolution) -> float:
    """Side in px, the root of the area, that nine of ten objects reach at least under a resolution."""
    scale = resolution.scales(index.heights, index.widths)[objects.image]
    return float(np.percentile(np.sqrt(objects.areas) * scale, 10))


def choose_resolution(index: CocoIndex, objects: Objects, settings: ModelSettings) -> Resolution:
    """The resolution now in use where small objects are large enough in it; else larger images, else tiles.

    Args:
        index: the file.
        objects: measured on it, at least one.
        settings: now in use.
    """
    current = Resolution(settings.min_size, settings.max_size)
    if small_side(index, objects, current) >= LEAST_PX:
        return current
    shorter = float(np.median(np.minimum(index.heights, index.widths)))
    larger = [
        _resized(index, rung)
        for rung in _RUNGS
        if current.min_size < rung and (rung <= _MOST_ENLARGED * shorter or shorter < _LEAST_TILE / 4)
    ]
    for resolution in larger:
        if small_side(index, objects, resolution) >= LEAST_PX:
            return resolution
    return _tiles(index, objects, settings) or (larger[-1] if larger else current)


def cheaper_resolution(index: CocoIndex, objects: Objects, settings: ModelSettings) -> Resolution | None:
    """A smaller image size that still shows every original pixel and leaves small objects large; None: there is none.

    Args:
        index: the file.
        objects: measured on it, at least one.
        settings: now in use.
    """
    shorter = float(np.median(np.minimum(index.heights, index.widths)))
    for rung in _RUNGS:
        resolution = _resized(index, rung)
        worth = (settings.min_size / rung) ** 2 >= _WORTH_SAVING
        if worth and rung >= shorter and small_side(index, objects, resolution) >= _COMFORTABLE_PX:
            return resolution
    return None


def tile_overlap(objects: Objects, tile: int) -> float:
    """Share of a tile by which neighbours should overlap: nearly every object is then whole in one of them."""
    longest = (objects.boxes[:, 2:] - objects.boxes[:, :2]).max(axis=1)
    wanted = float(np.percentile(longest, 95)) / tile
    return float(np.clip(math.ceil(wanted * 20) / 20, 0.1, 0.5))


def _resized(index: CocoIndex, rung: int) -> Resolution:
    sides = np.stack([index.heights, index.widths])
    elongation: NDArray[np.float64] = sides.max(axis=0) / sides.min(axis=0)
    limit = rung * float(np.clip(np.percentile(elongation, 95), 1.67, 2.5))
    return Resolution(rung, math.ceil(limit / 32) * 32)


def _tiles(index: CocoIndex, objects: Objects, settings: ModelSettings) -> Resolution | None:
    """Tiles that bring small objects to ``_IN_TILES_PX`` at the size in use, if the images are much larger."""
    small = float(np.percentile(np.sqrt(objects.areas), 10))
    longest = float(np.percentile((objects.boxes[:, 2:] - objects.boxes[:, :2]).max(axis=1), 95))
    longer = float(np.median(np.maximum(index.heights, index.widths)))
    tile = tile_side(small, longest, longer, settings.min_size)
    if tile is None:
        return None
    return Resolution(settings.min_size, settings.max_size, tile)


def tile_side(small: float, longest: float, longer: float, min_size: int) -> int | None:
    """Side of tiles in which small objects are large enough; None where the images are not much larger than that.

    Args:
        small: px of the images, side of the smaller objects.
        longest: px, longer side of the larger ones.
        longer: px, longer side of the images.
        min_size: px that a tile is resized to.
    """
    wanted = max(min_size * small / _IN_TILES_PX, 2 * longest, _LEAST_TILE)
    tile = int(wanted // _TILE_STEP) * _TILE_STEP
    return None if tile > 0.7 * longer else tile
