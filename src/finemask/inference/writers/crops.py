"""``crops/NAME/0001_CLASS.png``: each instance cut out by its mask's box; alpha is the mask."""

from pathlib import Path

import numpy as np
from PIL import Image

from finemask.inference.instances import Instances
from finemask.inference.writers.naming import instance_file, output_stem
from finemask.ops.files import atomic_path
from finemask.ops.rle import rle_to_crop


class CropWriter:
    """Cuts out each instance."""

    def __init__(self, output: Path) -> None:
        self._folder = output / "crops"

    def add(self, instances: Instances, image_id: int | None) -> list[Path]:
        """Cuts out the instances of one image; an instance without pixels has no crop.

        Raises:
            ValueError: the image was not kept.
        """
        if instances.image is None:
            raise ValueError("crops need the image")
        folder, written = self._folder / output_stem(instances), []
        for number, (rle, name) in enumerate(zip(instances.rles, instances.class_names, strict=True), start=1):
            mask, x0, y0 = rle_to_crop(rle)
            if not mask.size:
                continue
            rgb = instances.image[y0 : y0 + mask.shape[0], x0 : x0 + mask.shape[1]]
            rgba = np.dstack([rgb, mask.astype(np.uint8) * 255])
            written.append(folder / instance_file(number, name))
            with atomic_path(written[-1]) as path:
                Image.fromarray(rgba).save(path)
        return written

    def finish(self) -> list[Path]:
        """The folder of crops."""
        return [self._folder]
