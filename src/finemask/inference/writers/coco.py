"""``predictions.json``, a COCO results list, and ``images.json``, which says what its image ids mean.

An image id is the running number of the image, from 1 on, and category ids are those of the training annotations;
unless an annotation file was given, whose ids they are then.
"""

from pathlib import Path
from typing import Any

from finemask.inference.instances import Instances
from finemask.ops.files import sha256_of, write_json
from finemask.types import CocoResult


class CocoWriter:
    """Gathers results and writes them at the end."""

    def __init__(self, output: Path) -> None:
        self._results_file = output / "predictions.json"
        self._images_file = output / "images.json"
        self._results: list[CocoResult] = []
        self._images: list[dict[str, Any]] = []
        self._categories: list[dict[str, Any]] = []

    def add(self, instances: Instances, image_id: int | None) -> list[Path]:
        """Gathers one image; one without an id is left out."""
        if image_id is None:
            return []
        height, width = instances.image_size_hw
        self._images.append({"id": image_id, "file_name": instances.name, "height": height, "width": width})
        self._categories = [category._asdict() for category in instances.categories]
        self._results.extend(instances.to_coco(image_id))
        return []

    def finish(self) -> list[Path]:
        """Writes both files."""
        write_json(self._results_file, self._results, indent=None)
        # The checksum says which results these ids are of: either file may be replaced without the other.
        checksum = {"predictions_sha256": sha256_of(self._results_file)}
        write_json(self._images_file, {"images": self._images, "categories": self._categories} | checksum)
        return [self._results_file, self._images_file]
