"""The ground truth of an evaluation: a COCO file, checked and made complete."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

from finemask.errors import DataError
from finemask.evaluation.segmentation import checked_box, checked_rle, is_number
from finemask.ops.files import read_json
from finemask.ops.rle import rle_area, rle_box_xywh
from finemask.types import Category

_WHAT = "a COCO annotation file"


class ImageInfo(NamedTuple):
    """An image as the annotation file describes it."""

    file_name: str
    height: int  # px; 0 if the file does not say, which only boxes can do without
    width: int
    slice: str = ""  # what the file has under that name: a part of the images to be measured by itself


@dataclass(frozen=True)
class GroundTruth:
    """What an evaluation compares with.

    Args:
        source: the file, or a name for messages.
        categories: in the order of the file.
        images: by image id, in the order of the file.
        annotations: each with ``id`` (1, 2, …: pycocotools takes the id 0 for "not matched", so the ids of
            the file are not used), ``image_id``, ``category_id``, ``bbox`` (xywh px), ``area`` (px²),
            ``iscrowd`` and, where the file has one, ``segmentation`` as a compressed RLE.
        annotation_ids: the file's id of each annotation, for messages.
    """

    source: str
    categories: list[Category]
    images: dict[int, ImageInfo]
    annotations: list[dict[str, Any]]
    annotation_ids: list[Any]

    @property
    def max_per_image(self) -> int:
        """Objects in the fullest image, crowd regions left out."""
        counts = Counter(a["image_id"] for a in self.annotations if not a["iscrowd"])
        return max(counts.values(), default=0)

    @property
    def fingerprint(self) -> str:
        """SHA-256 of everything that an evaluation depends on: the same for files that say the same."""
        content = [
            sorted((id_, image.height, image.width) for id_, image in self.images.items()),
            sorted((category.id, category.name) for category in self.categories),
            [{key: value for key, value in annotation.items() if key != "id"} for annotation in self.annotations],
        ]
        return sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

    @property
    def has_masks(self) -> bool:
        """Whether every annotation has a segmentation."""
        return all("segmentation" in annotation for annotation in self.annotations)

    def check_masks(self) -> None:
        """Refuses to go on without a segmentation for each annotation.

        Raises:
            DataError: one has none.
        """
        for annotation, name in zip(self.annotations, self.annotation_ids, strict=True):
            if "segmentation" not in annotation:
                raise DataError(
                    f"annotation {name} has no segmentation, so masks cannot be evaluated",
                    where=self.source,
                    remedy="Evaluate boxes only with 'iou_types=[bbox]'.",
                )


def load_ground_truth(path: Path | str) -> GroundTruth:
    """Reads and checks a COCO annotation file.

    Missing ``iscrowd``, ``area`` and ``bbox`` are filled in from the segmentation, pixel for pixel as
    pycocotools rasterises it; without a segmentation, ``area`` is that of the box.

    Raises:
        DataError: unreadable, no COCO annotation file, duplicate ids, references to nothing, or an
            annotation that pycocotools would misread.
    """
    return ground_truth_from_dict(read_json(Path(path), _WHAT), source=str(path))


def ground_truth_from_dict(dataset: Any, source: str = "ground truth") -> GroundTruth:
    """As ``load_ground_truth``, of a file's parsed content, which is left as it is."""
    images, categories = images_and_categories(dataset, source)
    _check_lists(dataset, ("annotations",), source)
    _check_unique([a["id"] for a in dataset["annotations"] if "id" in a], "annotation", source)
    known = {category.id for category in categories}
    annotations, annotation_ids = [], []
    for number, annotation in enumerate(dataset["annotations"], start=1):
        name = annotation.get("id", f"number {number}")
        try:
            annotations.append({"id": number, **_complete(annotation, images, known)})
        except ValueError as error:
            raise DataError(
                f"annotation {name} (image {annotation.get('image_id')}): {error}",
                where=source,
                remedy="Correct the annotation or remove it.",
            ) from None
        annotation_ids.append(name)
    return GroundTruth(source, categories, images, annotations, annotation_ids)


def images_and_categories(dataset: Any, source: str) -> tuple[dict[int, ImageInfo], list[Category]]:
    """Images by id, and categories, of a file's parsed content; it needs no annotations.

    Raises:
        DataError: no COCO annotation file, or ids that are not whole numbers or not unique.
    """
    if isinstance(dataset, list):
        raise DataError(
            f"this is a list, as a COCO results file is; {_WHAT} was expected",
            where=source,
            remedy="Give the ground truth with annotations= and the results with predictions=.",
        )
    if not isinstance(dataset, dict):
        raise DataError(f"this holds a {type(dataset).__name__}; {_WHAT} was expected", where=source)
    _check_lists(dataset, ("images", "categories"), source)
    for key in ("images", "categories"):
        if not dataset[key]:
            raise DataError(f"'{key}' is empty", where=source)
    return _images(dataset["images"], source), _categories(dataset["categories"], source)


def _check_lists(dataset: Mapping[str, Any], keys: Sequence[str], source: str) -> None:
    for key in keys:
        if not isinstance(dataset.get(key), list) or not all(isinstance(e, dict) for e in dataset[key]):
            raise DataError(f"'{key}' is missing or not a list of objects; {_WHAT} has one", where=source)


def _categories(entries: list[dict[str, Any]], source: str) -> list[Category]:
    categories = []
    for entry in entries:
        name = entry.get("name")
        if not isinstance(name, str) or not name:
            raise DataError(f"category {entry.get('id')} has no name", where=source)
        categories.append(Category(_id(entry, "category", source), name, entry.get("supercategory") or ""))
    _check_unique([category.id for category in categories], "category", source)
    _check_unique([category.name for category in categories], "category", source, kind="name")
    return categories


def _images(entries: list[dict[str, Any]], source: str) -> dict[int, ImageInfo]:
    ids = [_id(entry, "image", source) for entry in entries]
    _check_unique(ids, "image", source)
    images = {}
    for id_, entry in zip(ids, entries, strict=True):
        sides = [entry.get("height") or 0, entry.get("width") or 0]
        if not all(is_number(side) and side >= 0 and side == int(side) for side in sides):
            raise DataError(f"image {id_} is {sides[0]!r} × {sides[1]!r} px (height × width)", where=source)
        name, named_slice = (str(entry.get(key) or "") for key in ("file_name", "slice"))
        images[id_] = ImageInfo(name, int(sides[0]), int(sides[1]), named_slice)
    return images


def _id(entry: Mapping[str, Any], what: str, source: str) -> int:
    value = entry.get("id")
    if not isinstance(value, int) or isinstance(value, bool):
        raise DataError(f"the {what} id {value!r} is not a whole number", where=source)
    return value


def _check_unique(values: list[Any], what: str, source: str, kind: str = "id") -> None:
    try:
        value, count = Counter(values).most_common(1)[0] if values else (None, 1)
    except TypeError:
        raise DataError(f"a {what} {kind} is a list or an object", where=source) from None
    if count > 1:
        raise DataError(
            f"the {what} {kind} {value!r} is used {count} times",
            where=source,
            remedy=f"Each {what} needs its own.",
        )


def _complete(annotation: Mapping[str, Any], images: Mapping[int, ImageInfo], categories: set[int]) -> dict[str, Any]:
    image_id, category_id = annotation.get("image_id"), annotation.get("category_id")
    if not isinstance(image_id, int) or image_id not in images:
        raise ValueError(f"image_id {image_id!r} is not among the images")
    if not isinstance(category_id, int) or category_id not in categories:
        raise ValueError(f"category_id {category_id!r} is not among the categories")
    iscrowd = annotation.get("iscrowd")
    if iscrowd not in (None, 0, 1):
        raise ValueError(f"iscrowd is {iscrowd!r}, not 0 or 1")
    complete: dict[str, Any] = {
        "image_id": image_id,
        "category_id": category_id,
        "iscrowd": int(iscrowd or 0),
    }
    image, box, area = images[image_id], annotation.get("bbox"), annotation.get("area")
    if segmentation := annotation.get("segmentation"):
        if not image.height or not image.width:
            raise ValueError("its image has no height and width, which masks need")
        complete["segmentation"] = checked_rle(segmentation, image.height, image.width)
    if box is not None:
        complete["bbox"] = checked_box(box)
    elif "segmentation" in complete:
        complete["bbox"] = rle_box_xywh(complete["segmentation"])
    else:
        raise ValueError("it has neither a segmentation nor a bbox")
    if area is not None and not is_number(area):
        raise ValueError(f"area is {area!r}, not a number")
    if area is not None:
        complete["area"] = area
    elif "segmentation" in complete:
        complete["area"] = rle_area(complete["segmentation"])
    else:
        complete["area"] = complete["bbox"][2] * complete["bbox"][3]
    return complete
