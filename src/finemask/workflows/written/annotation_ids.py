"""Image and category ids of a COCO annotation file, for results that are to have them; and its labels."""

import threading
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from finemask.coco.image_names import match_file_names
from finemask.errors import DataError
from finemask.inference.outputs.side_by_side import Label
from finemask.inference.sources import Item
from finemask.ops.files.documents import read_json
from finemask.ops.rle import crop_to_rle
from finemask.types import Category


@dataclass(frozen=True)
class AnnotationIds:
    """Image and category ids of a COCO annotation file.

    Args:
        items: the source's, each with the size that the file states for it.
        image_ids: by name of the item; without those that the file does not have.
        categories: the model's, with the file's ids.
    """

    items: list[Item]
    image_ids: dict[str, int]
    categories: list[Category]

    @property
    def missing(self) -> list[str]:
        """Names of the items that the file does not have."""
        return [item.name for item in self.items if item.name not in self.image_ids]


def read_annotation_ids(path: Path, items: Sequence[Item], categories: Sequence[Category]) -> AnnotationIds:
    """Finds images by file name and classes by name.

    Args:
        path: a COCO annotation file; it needs no annotations.
        items: of the source.
        categories: of the model.

    Raises:
        DataError: the file cannot be used, has none of the images or not all of the classes, or it is not clear which
            of its images one is.
    """
    from finemask.evaluation.ground_truth import images_and_categories

    images, listed = images_and_categories(read_json(path, "a COCO annotation file"), str(path))
    ids_by_name = {category.name: category.id for category in listed}
    if lacking := [category.name for category in categories if category.name not in ids_by_name]:
        raise DataError(
            f"it lacks {', '.join(map(repr, lacking))}, which the model finds; it has "
            f"{', '.join(map(repr, ids_by_name))}",
            where=path,
            remedy="Classes are matched by name. Without annotations= results carry the ids of the model's own.",
        )
    known = list(images)
    names = [str(item.content) if isinstance(item.content, Path) else item.name for item in items]
    try:
        found = match_file_names(names, [images[id_].file_name for id_ in known])
    except DataError as error:
        raise DataError(error.what, where=path, remedy="Give one of them as source=, by its folder") from None
    of_items = [None if at is None else known[at] for at in found]
    if all(id_ is None for id_ in of_items):
        raise DataError(
            f"it has none of the images, such as {names[0]}; its file names are such as {images[known[0]].file_name}",
            where=path,
            remedy="Images are found by file name: give the annotations of these images.",
        )
    return AnnotationIds(
        items=[
            item if id_ is None or not all(images[id_][1:3]) else replace(item, size_hw=images[id_][1:3])
            for item, id_ in zip(items, of_items, strict=True)
        ],
        image_ids={item.name: id_ for item, id_ in zip(items, of_items, strict=True) if id_ is not None},
        categories=[category._replace(id=ids_by_name[category.name]) for category in categories],
    )


class FileLabels:
    """What an annotation file labels in images, by their names; it is read when it is first asked for.

    Args:
        path: a COCO annotation file.

    Attributes:
        image_ids: by name of the image.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._lock = path, threading.Lock()
        self._by_image: dict[int, list[Label]] | None = None
        self.image_ids: Mapping[str, int] = {}

    def __call__(self, name: str) -> Sequence[Label]:
        """The labels of an image, crowd regions left out; none, if the file does not have it."""
        with self._lock:
            if self._by_image is None:
                self._by_image = self._read()
        return self._by_image.get(self.image_ids.get(name, -1), [])

    def _read(self) -> dict[int, list[Label]]:
        from finemask.evaluation.ground_truth import load_ground_truth

        truth, wanted = load_ground_truth(self._path), set(self.image_ids.values())
        names = {category.id: category.name for category in truth.categories}
        found: dict[int, list[Label]] = defaultdict(list)
        for entry in truth.annotations:
            if entry["image_id"] in wanted and not entry["iscrowd"]:
                x, y, width, height = entry["bbox"]
                image = truth.images[entry["image_id"]]
                rle = entry.get("segmentation") or crop_to_rle(
                    np.zeros((0, 0), dtype=np.bool_), 0, 0, image.height or 0, image.width or 0
                )
                label = Label(names[entry["category_id"]], (x, y, x + width, y + height), rle)
                found[entry["image_id"]].append(label)
        return found
