"""What became of the images and instances of a dataset that was cut into tiles."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from finemask.coco.index import CocoIndex
from finemask.datatools.tile.instances import Part


@dataclass(slots=True)
class ClassCount:
    """Of one class: annotated instances (crowds not counted), parts written, parts that are cut, slivers."""

    instances: int = 0
    parts: int = 0
    cut: int = 0
    slivers: int = 0


@dataclass(slots=True)
class TileReport:
    """What became of one annotation file.

    Args:
        name: of the split written.
        annotations: the file written.
        images: of the source.
        whole: of these, images that fit into a tile and were copied as they are.
        tiles: pictures written, whole images among them.
        empty: of these, without an instance.
        left_out: empty tiles that were not written.
        without_pixels: annotations that do not cover a single pixel.
        classes: by name, in the order of the categories.
    """

    name: str
    annotations: Path
    images: int = 0
    whole: int = 0
    tiles: int = 0
    empty: int = 0
    left_out: int = 0
    without_pixels: int = 0
    classes: dict[str, ClassCount] = field(default_factory=dict)

    def add_parts(self, index: CocoIndex, i: int, parts: Sequence[Sequence[Part]]) -> None:
        """Counts the instances of image ``i`` and their parts in its tiles, by class; crowds are not counted."""
        instances = index.instances(i)
        counts = [self.classes[index.categories[int(label) - 1].name] for label in instances.labels]
        for count, iscrowd in zip(counts, instances.iscrowd, strict=True):
            count.instances += not iscrowd
        for part in (part for tile in parts for part in tile if not instances.iscrowd[part.instance]):
            counts[part.instance].slivers += part.is_sliver
            counts[part.instance].parts += not part.is_sliver
            counts[part.instance].cut += not part.is_sliver and part.visible < 1
