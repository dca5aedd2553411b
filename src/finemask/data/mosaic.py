"""Mosaic: four images in one."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from finemask.data.augment import Draw, Scene
from finemask.data.layer_edits import paste_layers
from finemask.data.resize import resize_window
from finemask.data.settings import canvas_side, fraction, interval
from finemask.ops.layers import boxes_and_areas_from_layers


class Mosaic:
    """Puts four images around a random point of a square (Bochkovskiy et al. 2020, YOLOv4).

    Every image fills its quarter: it keeps its proportions, is made as large as that needs, times a random zoom,
    and a random part of it is shown. Objects are about half as large as in the image alone, and more in number.

    Args:
        size: side of the square in px. The model resizes once more unless this is its ``min_size``.
        probability: that an image becomes a mosaic; otherwise it stays as it is.
        centre: least and greatest place of the common corner on either axis, as a fraction of the side.
        zoom: least and greatest factor on the size that just fills the quarter; at least 1.

    Raises:
        ConfigError: a value out of range.
    """

    def __init__(
        self,
        size: int,
        probability: float = 0.5,
        centre: Sequence[float] = (0.35, 0.65),
        zoom: Sequence[float] = (1.0, 1.5),
    ) -> None:
        self._size = canvas_side(size, "size of Mosaic")
        self._probability = fraction(probability, "probability of Mosaic")
        self._centre = interval(centre, "centre of Mosaic", least=0.0, most=1.0)
        self._zoom = interval(zoom, "zoom of Mosaic", least=1.0)

    def augment_scene(self, scene: Scene, draw: Draw, rng: np.random.Generator) -> Scene:
        """See ``SceneAugmentation``."""
        if rng.random() >= self._probability:
            return scene
        y, x = (min(max(1, round(self._size * rng.uniform(*self._centre))), self._size - 1) for _ in range(2))
        quarters = [(0, 0, x, y), (x, 0, self._size, y), (0, y, x, self._size), (x, y, self._size, self._size)]
        scenes = [scene, draw(rng), draw(rng), draw(rng)]
        image = np.empty((self._size, self._size, 3), dtype=np.uint8)
        layers = np.zeros((1, self._size, self._size), dtype=np.uint8)
        slots, labels = np.zeros((0, 2), dtype=np.int64), np.zeros(0, dtype=np.int64)
        for part, (x0, y0, x1, y1) in zip(scenes, (quarters[k] for k in rng.permutation(4)), strict=True):
            image[y0:y1, x0:x1], maps = self._show(part, y1 - y0, x1 - x0, rng)
            seen = boxes_and_areas_from_layers(maps, part.slots)[1] > 0
            layers, pasted, _ = paste_layers(layers, slots, maps, part.slots[seen], x0, y0)
            slots, labels = np.concatenate([slots, pasted]), np.concatenate([labels, part.labels[seen]])
        return Scene(image, layers, slots, labels)

    def _show(
        self, scene: Scene, height: int, width: int, rng: np.random.Generator
    ) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """A random part of a scene that fills a quarter of this size: image and label maps."""
        full_height, full_width = scene.image.shape[:2]
        factor = rng.uniform(*self._zoom) * max(height / full_height, width / full_width)
        h, w = (max(1, min(full, round(side / factor))) for full, side in ((full_height, height), (full_width, width)))
        y, x = int(rng.integers(full_height - h + 1)), int(rng.integers(full_width - w + 1))
        return resize_window(scene.image, scene.layers, (x, y, x + w, y + h), (height, width))
