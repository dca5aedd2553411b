"""``label_map/NAME.png``: one 16-bit picture an image; 0 is background, n the n-th instance by score.

Where instances overlap, the one with the better score is on top.
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from finemask.inference.instances import Instances
from finemask.inference.writers.naming import output_stem
from finemask.ops.files import atomic_path
from finemask.ops.rle import rle_to_crop


class LabelMapWriter:
    """Writes each image's label map."""

    def __init__(self, output: Path) -> None:
        self._folder = output / "label_map"

    def add(self, instances: Instances, image_id: int | None) -> list[Path]:
        """Writes one label map."""
        path = self._folder / f"{output_stem(instances)}.png"
        with atomic_path(path) as temporary:
            Image.fromarray(label_map(instances)).save(temporary)
        return [path]

    def finish(self) -> list[Path]:
        """The folder of label maps."""
        return [self._folder]


def label_map(instances: Instances) -> NDArray[np.uint16]:
    """uint16 [H, W]: 0 is background, n the n-th instance."""
    numbers = np.zeros(instances.image_size_hw, dtype=np.uint16)
    for number in range(len(instances), 0, -1):
        crop, x0, y0 = rle_to_crop(instances.rles[number - 1])
        numbers[y0 : y0 + crop.shape[0], x0 : x0 + crop.shape[1]][crop] = number
    return numbers
