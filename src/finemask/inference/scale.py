"""Images that are shrunk so far for the model that it misses their objects.

A model resizes every image to about the same size. One that is many times larger than the training images is shrunk
many times more. If its objects are as large in pixels of the file as theirs were (a mosaic of microscope fields, an
aerial picture), the model sees specks; if they grow with the image (a camera of more pixels), all is well. The size of
the file alone cannot tell. So an image is reported only when it is shrunk at least twice as much as any training image,
and one of these holds:

* an object as large in pixels of the file as the median training object is less than a cell of the finest feature map;
  ``light`` and larger models, trained on photographs, stay far from that up to 24 megapixels;
* ten or more instances were found, and their median side is below that of 95 of 100 training objects.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from finemask.inference.instances import Instances
from finemask.model_header import TrainingSizes
from finemask.types import Preprocessing

_SHRUNK_MORE = 2.0  # times as much as the training image that was shrunk most
_CELL_PX = 4.0  # stride of the finest feature map
_ENOUGH_FOUND = 10  # instances whose median says something
_ENOUGH_TO_SEE = 3  # instances of a usual size that say that the model sees the objects


class Shrunk(NamedTuple):
    """An image that a model sees too small."""

    name: str
    size_hw: tuple[int, int]
    scale: float  # px as the model sees them for each px of the file
    object_px: float  # side of the median training object in this image, as the model sees it
    found_px: float | None  # median side of what was found, as the model sees it, where that is what is wrong


class ScaleWatch:
    """Counts the images that a model sees too small; remembers the worst alone, however many there are.

    Args:
        preprocessing: how the model resizes.
        sizes: of what it was trained on; None, where its file does not say: then there is nothing to notice.

    Attributes:
        count: images so far that were seen too small.
        worst: the one of them that was shrunk most.
    """

    def __init__(self, preprocessing: Preprocessing, sizes: TrainingSizes | None) -> None:
        self._preprocessing, self._sizes = preprocessing, sizes
        self.count = 0
        self.worst: Shrunk | None = None

    def add(self, instances: Instances) -> None:
        """Looks at an image and what was found in it."""
        self.note(self.look(instances))

    def look(self, instances: Instances) -> Shrunk | None:
        """The image, if the model saw it too small."""
        return None if self._sizes is None else find_shrunk(instances, self._preprocessing, self._sizes)

    def note(self, shrunk: Shrunk | None) -> None:
        """Counts an image that was looked at, here or elsewhere."""
        if shrunk is None:
            return
        self.count += 1
        if self.worst is None or shrunk.scale < self.worst.scale:
            self.worst = shrunk

    def in_words(self) -> str | None:
        """What is wrong, in numbers of the worst image, and what to do; None if all is well."""
        if self._sizes is None or self.worst is None:
            return None
        worst, sizes = self.worst, self._sizes
        size = f"{worst.size_hw[1]:,} × {worst.size_hw[0]:,} px"
        if self.count == 1:
            which = f"{worst.name} ({size}) is shrunk far for the model: to {worst.scale:.1%}"
        else:
            which = f"{self.count:,} images are shrunk far for the model: {worst.name} ({size}) to {worst.scale:.1%}"
        if worst.found_px is None:
            seen = f"An object as large in pixels as those of training is {_px(worst.object_px)} px for it"
        else:
            seen = f"What was found there measures {_px(worst.found_px)} px for it"
        least, _, most = sizes.objects_seen_px
        smallest, _, largest = sizes.images_px
        pieces = f"{smallest:,}" if smallest == largest else f"{smallest:,} to {largest:,}"
        return (
            f"{which}, where no training image came below {sizes.scale[0]:.0%}. {seen}, and the model learned from "
            f"{_px(least)} to {_px(most)} px: such objects are missed. Cut large pictures into pieces the size of the "
            f"training images ({pieces} px): tile=auto does it, and merges what is found."
        )


def find_shrunk(instances: Instances, preprocessing: Preprocessing, sizes: TrainingSizes) -> Shrunk | None:
    """The image, if the model saw it too small; None if all is well.

    Args:
        instances: what was found in it.
        preprocessing: how the model resizes.
        sizes: of what it was trained on.
    """
    name, size_hw = instances.name, instances.image_size_hw
    scale = preprocessing.scale(size_hw)
    if scale * _SHRUNK_MORE > sizes.scale[0]:
        return None
    object_px = sizes.objects_px[1] * scale
    if object_px < _CELL_PX:
        return Shrunk(name, size_hw, scale, object_px, None)
    if len(instances) < _ENOUGH_FOUND:
        return None
    found_px = _median_side(instances.boxes) * scale
    return Shrunk(name, size_hw, scale, object_px, found_px) if found_px < sizes.objects_seen_px[0] else None


def needs_tiles(
    found_xyxy: NDArray[np.floating], size_hw: tuple[int, int], preprocessing: Preprocessing, sizes: TrainingSizes
) -> bool:
    """Whether an image is to be cut into tiles, so that the model sees its objects as large as in training.

    Never, where it is not shrunk at least twice as much as any training image. Else always, where the median training
    object would be less than a cell of the finest feature map. In between, what was found decides: three instances or
    more of a usual size say that the objects grew with the image. Without them, objects are taken to be as large in
    pixels of the file as those of training.

    Args:
        found_xyxy: boxes [N, 4] in the image seen as a whole, px, above the model's own thresholds.
        size_hw: of the image, px.
        preprocessing: how the model resizes.
        sizes: of what it was trained on.
    """
    scale = preprocessing.scale(size_hw)
    if scale * _SHRUNK_MORE > sizes.scale[0]:
        return False
    seen_px = sizes.objects_px[1] * scale
    if seen_px >= _CELL_PX and len(found_xyxy) >= _ENOUGH_TO_SEE:
        seen_px = _median_side(found_xyxy) * scale
    return seen_px < max(sizes.objects_seen_px[0], _CELL_PX)


def _median_side(boxes_xyxy: NDArray[np.floating]) -> float:
    """Median root of the areas of boxes [N, 4], px."""
    return float(np.median(np.sqrt(np.prod(boxes_xyxy[:, 2:] - boxes_xyxy[:, :2], axis=1))))


def _px(length: float) -> str:
    """``0.7``, ``12``, ``1,024``."""
    return f"{length:.1f}" if length < 9.95 else f"{length:,.0f}"
