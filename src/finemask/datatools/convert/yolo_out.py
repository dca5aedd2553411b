"""Writing YOLO: ``images/SPLIT``, ``labels/SPLIT``, ``data.yaml`` and ``categories.json``.

A line holds one outline. An instance of several parts, or with holes, is written as one outline with bridges of no
width, which gives the same pixels back. Crowd regions have no place in the format and are left out, counted.
"""

from collections.abc import Iterator

import numpy as np
import yaml

from finemask.datatools.convert.categories_file import NAME, categories_text
from finemask.datatools.convert.geometry import bridged, rings_of
from finemask.datatools.convert.output import Output
from finemask.datatools.convert.records import Dataset, ImageRecord, Instance
from finemask.ops.outlines import Ring


def write_yolo(dataset: Dataset, output: Output) -> None:
    """Writes a dataset.

    Args:
        dataset: what to write.
        output: where to.
    """
    numbers = {category.name: number for number, category in enumerate(dataset.categories)}
    splits = dataset.splits()
    for split, images in splits.items():
        for image in output.watch(images, f"writing {split}"):
            stem = output.place_image(image, f"images/{split}").rpartition(".")[0]
            lines = [
                f"{numbers[instance.category]} {' '.join(f'{value:.8g}' for value in values)}"
                for instance in image.instances
                for values in _values(instance, image, output)
            ]
            output.write_text(f"labels/{split}/{stem}.txt", "".join(f"{line}\n" for line in lines))
    settings = {split: f"images/{split}" for split in splits}
    settings_text = yaml.safe_dump(settings, sort_keys=False)
    names_text = yaml.safe_dump({"names": dict(enumerate(numbers))}, sort_keys=False, allow_unicode=True)
    output.write_text(NAME, categories_text(dataset.categories))
    output.write_text("data.yaml", settings_text + names_text)


def _values(instance: Instance, image: ImageRecord, output: Output) -> Iterator[list[float]]:
    if instance.crowd:
        output.notes.add("crowd regions left out, for which YOLO has no place", image.name)
        return
    size = np.array([image.width, image.height], dtype=np.float64)
    if instance.is_box:
        corners = np.clip(np.array(instance.polygons[0]).reshape(-1, 2) / size, 0, 1)
        low, high = corners.min(axis=0), corners.max(axis=0)
        yield [*((low + high) / 2).tolist(), *(high - low).tolist()]
        return
    ring = _single_outline(instance, image, output)
    if ring is not None:
        yield (ring / size).ravel().tolist()


def _single_outline(instance: Instance, image: ImageRecord, output: Output) -> Ring | None:
    if instance.rle is None and len(instance.polygons) == 1:
        ring = np.array(instance.polygons[0], dtype=np.float64).reshape(-1, 2)
        if ring.min() >= 0 and (ring <= (image.width, image.height)).all():
            return ring
    rings = rings_of(instance.mask_rle(image.height, image.width), output.tolerance_px)
    if not rings:
        output.notes.add("instances without a single pixel left out", image.name)
        return None
    return bridged(rings)
