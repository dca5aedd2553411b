"""``labelme/NAME.json``: predictions to correct by hand in LabelMe.

A mask becomes a polygon for each of its connected parts; the parts of one instance share a ``group_id``.
LabelMe's polygons have no holes: they are filled.
"""

import os
from pathlib import Path
from typing import Any

from finemask.inference.instances import Instances
from finemask.inference.writers.naming import output_stem
from finemask.ops.files import write_json
from finemask.ops.outlines import mask_to_polygons
from finemask.ops.rle import rle_to_crop


class LabelmeWriter:
    """Writes one document an image."""

    def __init__(self, output: Path) -> None:
        self._folder = output / "labelme"

    def add(self, instances: Instances, image_id: int | None) -> list[Path]:
        """Writes one document."""
        path = self._folder / f"{output_stem(instances)}.json"
        write_json(path, labelme_document(instances, path.parent))
        return [path]

    def finish(self) -> list[Path]:
        """The folder of documents."""
        return [self._folder]


def labelme_document(instances: Instances, folder: Path | None = None) -> dict[str, Any]:
    """The document.

    Args:
        instances: of one image.
        folder: where the document will lie; the image is named relative to it.
    """
    shapes = []
    columns = zip(instances.rles, instances.class_names, instances.scores, strict=True)
    for number, (rle, name, score) in enumerate(columns, start=1):
        for polygon in mask_to_polygons(*rle_to_crop(rle)):
            shapes.append(
                {
                    "label": name,
                    "points": polygon.outer.tolist(),
                    "group_id": number,
                    "description": f"score {score:.3f}",
                    "shape_type": "polygon",
                    "flags": {},
                }
            )
    height, width = instances.image_size_hw
    return {
        "version": "5.5.0",
        "flags": {},
        "shapes": shapes,
        "imagePath": _image_path(instances, folder),
        "imageData": None,
        "imageHeight": height,
        "imageWidth": width,
    }


def _image_path(instances: Instances, folder: Path | None) -> str:
    if instances.path is None:
        return instances.name
    if folder is None:
        return instances.path.name
    try:
        return Path(os.path.relpath(instances.path, folder)).as_posix()
    except ValueError:  # on another drive, under Windows
        return str(instances.path.absolute())
