"""``masks/NAME/0001_CLASS.png``: one 8-bit picture an instance, of the image's size: 255 on it, else 0."""

from pathlib import Path

from PIL import Image

from finemask.inference.instances import Instances
from finemask.inference.writers.naming import instance_file, output_stem
from finemask.ops.files import atomic_path
from finemask.ops.rle import rle_to_mask


class MaskWriter:
    """Writes each instance's mask."""

    def __init__(self, output: Path) -> None:
        self._folder = output / "masks"

    def add(self, instances: Instances, image_id: int | None) -> list[Path]:
        """Writes the masks of one image."""
        folder, written = self._folder / output_stem(instances), []
        for number, (rle, name) in enumerate(zip(instances.rles, instances.class_names, strict=True), start=1):
            written.append(folder / instance_file(number, name))
            with atomic_path(written[-1]) as path:
                Image.fromarray(rle_to_mask(rle) * 255).save(path)
        return written

    def finish(self) -> list[Path]:
        """The folder of masks."""
        return [self._folder]
