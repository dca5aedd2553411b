"""``images.json`` beside a results file: which images and classes the ids in it mean.

``finemask predict`` numbers its images itself; the ground truth has other numbers for them. File names tell which is
which, and class names do the same for categories.
"""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from finemask.coco.image_names import match_file_names
from finemask.errors import DataError
from finemask.evaluation.ground_truth import GroundTruth, ImageInfo, images_and_categories
from finemask.ops.files.documents import read_json, sha256_of
from finemask.types import Category

log = logging.getLogger(__name__)

_NAMED = 3  # in a message
_ANY = {"categories": [{"id": 0, "name": "-"}]}  # a file of images alone says nothing of classes


def with_ids_of(ground_truth: GroundTruth, results: list[Any], path: Path) -> list[Any]:
    """Results with the ground truth's ids, by the ``images.json`` beside them; as they are where there is none.

    Args:
        ground_truth: what they will be compared with.
        results: what is in the file; entries that are no detections are left for ``check_results``.
        path: of the results file.

    Raises:
        DataError: images or classes of these results are not in the ground truth, or images of another size; or the
            ``images.json`` belongs to other results and says something else than the ground truth.
    """
    beside = path.with_name("images.json")
    if not beside.is_file():
        return results
    content = read_json(beside, "the list of the images of these results")
    if not isinstance(content, dict) or not isinstance(content.get("images"), list):
        return results  # somebody else's file of that name
    images, categories = images_and_categories(_ANY | content, str(beside))
    used = {image_id for entry in results if _is_id(image_id := _value(entry, "image_id"))}
    try:
        ids = _ids_by_name(images, ground_truth)
    except DataError as error:
        raise DataError(error.what, where=beside, remedy="Names are matched by their ends") from None
    if not used <= images.keys() or content.get("predictions_sha256") not in (None, sha256_of(path)):
        _check_same(images, ids, used, ground_truth, beside)
        return results
    _check_images(images, ids, used, ground_truth, beside)
    if unseen := len(ground_truth.images) - len(ids):
        log.warning(
            "%s of %s images of the ground truth are not among the predicted ones (%s): their objects are missed",
            f"{unseen:,}",
            f"{len(ground_truth.images):,}",
            beside,
        )
    used_categories = {id_ for entry in results if _is_id(id_ := _value(entry, "category_id"))}
    category_ids = _category_ids(categories, used_categories, ground_truth, beside) if "categories" in content else {}
    return [_renumbered(entry, ids, category_ids) for entry in results]


def drop_images_of_others(predictions: Path) -> None:
    """Takes the ``images.json`` of ``finemask predict`` away from beside results that have just replaced its own."""
    beside = predictions.with_name("images.json")
    if beside.is_file():
        content = read_json(beside, "the list of the images of these results")
        if isinstance(content, dict) and "predictions_sha256" in content:
            beside.unlink()


def _ids_by_name(images: Mapping[int, ImageInfo], ground_truth: GroundTruth) -> dict[int, int]:
    """The ground truth's id of each image that it has."""
    known = list(ground_truth.images)
    found = match_file_names(
        [image.file_name for image in images.values()], [ground_truth.images[id_].file_name for id_ in known]
    )
    return {id_: known[at] for id_, at in zip(images, found, strict=True) if at is not None}


def _check_images(
    images: Mapping[int, ImageInfo], ids: Mapping[int, int], used: set[int], ground_truth: GroundTruth, beside: Path
) -> None:
    """Refuses images with results that the ground truth lacks, or has in another size."""
    concerned = used if ids else images.keys()  # nothing found in images of another file is no evaluation either
    if lost := [images[id_].file_name for id_ in images if id_ in concerned and id_ not in ids]:
        example = next(iter(ground_truth.images.values())).file_name
        raise DataError(
            f"{len(lost)} of {len(images)} predicted images are not in the ground truth {ground_truth.source}, whose "
            f"file names are such as {example}: {', '.join(lost[:_NAMED])}{', …' if len(lost) > _NAMED else ''}",
            where=beside,
            remedy="Give the annotations of these images, or predict with annotations=FILE, which leaves others out",
        )
    for id_ in sorted(used):
        seen, stated = images[id_], ground_truth.images[ids[id_]]
        if all((*seen[1:3], *stated[1:3])) and seen[1:3] != stated[1:3]:
            raise DataError(
                f"{seen.file_name} was predicted at {seen.height} × {seen.width} px; the ground truth "
                f"{ground_truth.source} says {stated.height} × {stated.width} px (height × width)",
                where=beside,
                remedy="Predict on the images that were annotated",
            )


def _category_ids(
    categories: Sequence[Category], used: set[int], ground_truth: GroundTruth, beside: Path
) -> dict[int, int]:
    """The ground truth's id of each category that it has.

    Raises:
        DataError: it lacks one that was found.
    """
    known = {category.name: category.id for category in ground_truth.categories}
    if lost := [category.name for category in categories if category.id in used and category.name not in known]:
        raise DataError(
            f"the ground truth {ground_truth.source} lacks {', '.join(map(repr, lost))}, found by the model; it has "
            f"{', '.join(map(repr, known))}",
            where=beside,
            remedy="Classes are matched by name: give the annotations of these classes",
        )
    return {category.id: known[category.name] for category in categories if category.name in known}


def _check_same(
    images: Mapping[int, ImageInfo], ids: Mapping[int, int], used: set[int], ground_truth: GroundTruth, beside: Path
) -> None:
    """Refuses a list that was written with other results and says something else than the ground truth."""
    for id_ in sorted(used & images.keys()):
        if ids.get(id_) != id_:
            stated = ground_truth.images.get(id_)
            raise DataError(
                f"it was written with other results than these. It says that image {id_} is "
                f"{images[id_].file_name}; the ground truth {ground_truth.source} says "
                f"{'nothing of that id' if stated is None else stated.file_name}",
                where=beside,
                remedy="Give the results that it was written with; or move it away, if the ids of these results are "
                "the ground truth's",
            )


def _renumbered(entry: Any, image_ids: Mapping[int, int], category_ids: Mapping[int, int]) -> Any:
    image_id, category_id = _value(entry, "image_id"), _value(entry, "category_id")
    if not _is_id(image_id) or not _is_id(category_id):
        return entry
    return {**entry, "image_id": image_ids[image_id], "category_id": category_ids.get(category_id, category_id)}


def _value(entry: Any, key: str) -> Any:
    return entry.get(key) if isinstance(entry, dict) else None


def _is_id(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
