"""``predict annotations=FILE``: the ids that an annotation file has for the images and classes of a prediction."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from finemask.coco.image_names import match_file_names
from finemask.errors import DataError
from finemask.evaluation.ground_truth import images_and_categories
from finemask.inference.sources import Item
from finemask.ops.files import read_json
from finemask.types import Category

_NAMED = 3  # in a message


@dataclass(frozen=True)
class AnnotationIds:
    """What a COCO annotation file calls things.

    Args:
        path: of the file.
        items: the source's, each with the size that the file states for it.
        image_ids: by name of the item; without those that the file does not have.
        categories: the model's, with the file's ids.
    """

    path: Path
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
        path,
        items=[
            item if id_ is None or not all(images[id_][1:3]) else replace(item, size_hw=images[id_][1:3])
            for item, id_ in zip(items, of_items, strict=True)
        ],
        image_ids={item.name: id_ for item, id_ in zip(items, of_items, strict=True) if id_ is not None},
        categories=[category._replace(id=ids_by_name[category.name]) for category in categories],
    )


def missing_in_words(names: Sequence[str], path: Path) -> str:
    """What becomes of images that the file does not have."""
    first = ", ".join(names[:_NAMED]) + (", …" if len(names) > _NAMED else "")
    return f"not in {path}, so left out of predictions.json: {len(names):,} of the images ({first})"
