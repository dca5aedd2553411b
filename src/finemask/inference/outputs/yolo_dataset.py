"""``save=yolo``: a dataset of outlines to correct and to train on."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import yaml
from PIL import Image

from finemask.inference.instances import Instances
from finemask.inference.outputs.file_names import output_stem
from finemask.ops.contours import bridge_rings, mask_to_polygons
from finemask.ops.files.atomic_files import atomic_path, copy_file, link_file, write_text
from finemask.ops.rle import rle_to_crop
from finemask.types import Category, Rle


class YoloDataset:
    """A YOLO dataset: ``yolo/labels/NAME.txt``, outlines as fractions, beside ``yolo/images/NAME``; and ``yolo.yaml``.

    It is to be corrected and trained on, by finemask or another program, so there are no scores in it. Images are links
    to those that were predicted where the file system can make such, else copies; frames of videos are PNG files.
    """

    def __init__(self, output: Path) -> None:
        self._folder = output / "yolo"
        self._list = output / "yolo.yaml"  # beside the folder, in which every file belongs to an image

    @property
    def gathered(self) -> list[Path]:
        """What names the folder of images and the classes."""
        return [self._list]

    def add(self, instances: Instances) -> list[Path]:
        """Writes the labels of one image, and its picture."""
        stem, given = output_stem(instances.name), instances.path
        picture = self._folder / "images" / f"{stem}{given.suffix if given else '.png'}"
        if given is not None and not link_file(given, picture):
            copy_file(given, picture)
        elif given is None and instances.image is not None:
            with atomic_path(picture) as temporary:
                Image.fromarray(instances.image).save(temporary)
        labels = self._folder / "labels" / f"{stem}.txt"
        write_text(labels, "".join(yolo_lines(instances.rles, instances.labels - 1)))
        return [labels, picture]

    def finish(self, categories: Sequence[Category]) -> list[Path]:
        """Writes what names the folder of images and the classes."""
        names = {number: category.name for number, category in enumerate(categories)}
        settings = {"train": "yolo/images", "val": "yolo/images", "names": names}
        write_text(self._list, yaml.safe_dump(settings, sort_keys=False, allow_unicode=True))
        return [self._folder, self._list]


def yolo_lines(rles: Sequence[Rle], numbers: Iterable[int]) -> Iterator[str]:
    """A line a mask: its class number, then its outline along the edges of pixels, in fractions of the image's size.

    Parts and holes are joined by bridges of no width, which give the same pixels back. A mask without pixels has none.

    Args:
        rles: N masks.
        numbers: N classes, from 0 on.
    """
    for rle, number in zip(rles, numbers, strict=True):
        polygons = mask_to_polygons(*rle_to_crop(rle), tolerance_px=0)
        if rings := [ring for polygon in polygons for ring in (polygon.outer, *polygon.holes)]:
            height, width = rle["size"]
            values = (bridge_rings(rings) / (width, height)).ravel()
            yield f"{number} {' '.join(f'{value:.8g}' for value in values)}\n"
