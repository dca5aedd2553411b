"""The fingerprint of a dataset: what the rules of the plan look at, from the columns of the annotations.

No mask is drawn, and only a few images are opened, to see whether they are grey: a plan takes about as long as reading
the annotations.
"""

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from finemask.coco.index import CocoIndex
from finemask.data.image_sampling import images_per_class
from finemask.datatools.stats.image_stats import chosen_rows
from finemask.errors import DataError
from finemask.machine.hardware import cores, gpus
from finemask.ops.anchor_fit import best_anchor_iou, coverage, fit_anchors, resized_boxes
from finemask.planning.direction import Direction, direction_of

_OPENED = 12  # images, to see whether they are grey
_GREY_LEVELS, _GREY_SHARE = 4, 0.99  # channels this close, at so many of the pixels: JPEG leaves a little colour
_MOST_PIXELS = 50_000_000  # of an image that is opened for that
_MOST_BOXES = 20_000  # that are measured; more would not change a decision


@dataclass(frozen=True)
class Machine:
    """What trains.

    Args:
        cores: that the process may use.
        gpus: that torch can use and that training is allowed to.
        gpu_gib: memory of the smallest; 0 without one.
    """

    cores: int
    gpus: int = 0
    gpu_gib: float = 0.0

    @classmethod
    def here(cls, accelerator: str = "auto") -> "Machine":
        """This machine; without its GPUs where ``trainer.accelerator`` is ``cpu``."""
        found = [] if accelerator == "cpu" else gpus()
        return cls(cores(), len(found), min((gpu.memory_gib for gpu in found), default=0.0))


@dataclass(frozen=True)
class Fingerprint:
    """Measurements of the images and objects that are trained on; crowds are not among them.

    Args:
        image_hw: int64 [n, 2], height and width of each image, px.
        objects_per_image: int64 [n].
        boxes: float32 [m, 4], xyxy px of the original image: of all objects, or evenly spread ones of very many.
        boxes_hw: int64 [m, 2], size of the image of each.
        class_names: K of them.
        objects_per_class: int64 [K].
        images_per_class: int64 [K], images with an object of it.
        direction: whether objects stand upright, as far as their boxes tell.
        grey_share: of the images that were opened; None: none was.
    """

    image_hw: NDArray[np.int64]
    objects_per_image: NDArray[np.int64]
    boxes: NDArray[np.float32]
    boxes_hw: NDArray[np.int64]
    class_names: tuple[str, ...]
    objects_per_class: NDArray[np.int64]
    images_per_class: NDArray[np.int64]
    direction: Direction = field(default_factory=Direction)
    grey_share: float | None = None

    @classmethod
    def of(cls, index: CocoIndex, *, opens_images: bool = True) -> "Fingerprint":
        """Measures a training file.

        Args:
            index: of it.
            opens_images: a few of them.
        """
        boxes = index.segments.boxes_xyxy
        image = np.repeat(np.arange(len(index)), np.diff(index.first_annotation))
        kept = ~index.iscrowd & (boxes[:, 2:] > boxes[:, :2]).all(axis=1)
        boxes, image, labels = boxes[kept], image[kept], index.labels[kept]
        image_hw = np.stack([index.heights, index.widths], axis=1).astype(np.int64)
        some = slice(None, None, max(1, -(-len(boxes) // _MOST_BOXES)))
        return cls(
            image_hw=image_hw,
            objects_per_image=np.bincount(image, minlength=len(index)),
            boxes=boxes[some],
            boxes_hw=image_hw[image[some]],
            class_names=tuple(category.name for category in index.categories),
            objects_per_class=np.bincount(labels, minlength=len(index.categories) + 1)[1:],
            images_per_class=images_per_class(index),
            direction=direction_of(boxes, image_hw[image], image, labels),
            grey_share=_grey_share(index) if opens_images else None,
        )

    @property
    def images(self) -> int:
        """How many there are."""
        return len(self.image_hw)

    @property
    def objects(self) -> int:
        """How many there are."""
        return int(self.objects_per_image.sum())

    @property
    def fullest(self) -> int:
        """Objects of the fullest image."""
        return int(self.objects_per_image.max(initial=0))

    def crowded(self, percentile: float) -> int:
        """Objects of an image that so many percent of the images with objects do not exceed."""
        filled = self.objects_per_image[self.objects_per_image > 0]
        return int(np.percentile(filled, percentile)) if len(filled) else 0

    def enlarged_by(self, min_size: int, max_size: int) -> float:
        """How many times larger the median image becomes."""
        sides = self.image_hw.astype(np.float64)
        scales = np.minimum(min_size / sides.min(axis=1), max_size / sides.max(axis=1))
        return float(np.median(scales)) if self.images else 1.0

    @cached_property
    def shorter_px(self) -> float:
        """Shorter side of the median image."""
        return float(np.median(self.image_hw.min(axis=1))) if self.images else 0.0

    @cached_property
    def longer_px(self) -> float:
        """Longer side of the median image."""
        return float(np.median(self.image_hw.max(axis=1))) if self.images else 0.0

    @cached_property
    def elongation(self) -> float:
        """Longer over shorter side, that nineteen of twenty images do not exceed."""
        sides = self.image_hw.astype(np.float64)
        return float(np.percentile(sides.max(axis=1) / sides.min(axis=1), 95)) if self.images else 1.0

    def object_px(self, percentile: float, min_size: int | None = None, max_size: int | None = None) -> float:
        """Side of the objects, the root of their box's area: of the original images, or at training size.

        Args:
            percentile: of the objects, 0..100.
            min_size: px of the shorter side after resizing; None: as the images are.
            max_size: px, upper bound of the longer side.
        """
        boxes = self.boxes if min_size is None else self._resized(min_size, max_size or min_size)[0]
        if not len(boxes):
            return 0.0
        sides = np.sqrt((boxes[:, 2:] - boxes[:, :2]).astype(np.float64).prod(axis=1))
        return float(np.percentile(sides, percentile))

    def anchor_coverage(self, min_size: int, max_size: int, sizes: list[float], aspect_ratios: list[float]) -> float:
        """Share of the objects that an anchor overlaps by half or more, 0..1."""
        return coverage(best_anchor_iou(*self._resized(min_size, max_size), sizes, aspect_ratios))

    def fitted_anchors(
        self, min_size: int, max_size: int, sizes: list[float], aspect_ratios: list[float]
    ) -> tuple[list[float], list[float]]:
        """Sizes and ratios that ``model.anchors=auto`` would take; the given ones where others are hardly better."""
        return fit_anchors(*self._resized(min_size, max_size), sizes, aspect_ratios)

    def _resized(self, min_size: int, max_size: int) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        return resized_boxes(self.boxes, self.boxes_hw, min_size, max_size)


def _grey_share(index: CocoIndex) -> float | None:
    """Share of a few images without colour; whoever trains is told of those that cannot be read."""
    found = []
    small = np.flatnonzero(index.heights.astype(np.int64) * index.widths <= _MOST_PIXELS)
    for row in (int(small[k]) for k in chosen_rows(len(small), _OPENED)):
        try:
            image = index.read_image(row).astype(np.int16)
        except DataError:
            continue
        apart = image.max(axis=2) - image.min(axis=2)
        found.append(float((apart <= _GREY_LEVELS).mean()) >= _GREY_SHARE)
    return float(np.mean(found)) if found else None
