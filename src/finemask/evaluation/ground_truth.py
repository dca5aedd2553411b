"""The ground truth of an evaluation: a COCO file, checked and made complete."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from finemask.coco.coco_file import CocoFile, read_coco_document, read_coco_json
from finemask.coco.columns import PackedCoco
from finemask.coco.rasterising import rles_of_image
from finemask.errors import DataError
from finemask.ops.rle import rle_area, rle_box_xywh
from finemask.types import Category, Rle


class ImageInfo(NamedTuple):
    """An image as the annotation file describes it."""

    file_name: str
    height: int  # px; 0 if the file does not say, which only boxes can do without
    width: int
    slice: str = ""  # what the file has under that name: a part of the images to be measured by itself


LARGEST_AREA = 1e10
"""px². COCO's size "all" ends here, and what is larger is ignored."""


@dataclass(frozen=True)
class Objects:
    """The annotations in the order of the file; G of them.

    Args:
        image: int64 [G].
        category: int64 [G].
        boxes: float64 [G, 4], xywh px.
        area: float64 [G], px².
        crowd: bool [G].
        ignored: bool [G], not to be found: crowd regions, and areas that are none.
        masks: G RLEs; None where an annotation has no segmentation.
    """

    image: NDArray[np.int64]
    category: NDArray[np.int64]
    boxes: NDArray[np.float64]
    area: NDArray[np.float64]
    crowd: NDArray[np.bool_]
    ignored: NDArray[np.bool_]
    masks: list[Any]


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

    @cached_property
    def objects(self) -> Objects:
        """The annotations as columns."""
        images = {id_: position for position, id_ in enumerate(sorted(self.images))}
        categories = {id_: position for position, id_ in enumerate(sorted(c.id for c in self.categories))}
        area = np.array([a["area"] for a in self.annotations], dtype=np.float64)
        crowd = np.array([a["iscrowd"] for a in self.annotations], dtype=np.bool_)
        return Objects(
            image=np.array([images[a["image_id"]] for a in self.annotations], dtype=np.int64),
            category=np.array([categories[a["category_id"]] for a in self.annotations], dtype=np.int64),
            boxes=np.array([a["bbox"] for a in self.annotations], dtype=np.float64).reshape(-1, 4),
            area=area,
            crowd=crowd,
            ignored=crowd | (area < 0) | (area > LARGEST_AREA),
            masks=[a.get("segmentation") for a in self.annotations],
        )

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

    Raises:
        DataError: unreadable, no COCO annotation file, or what ``finemask data check`` finds wrong in ids, references,
            boxes, areas and masks; an annotation may have a box alone.
    """
    return _ground_truth(read_coco_json(Path(path)))


def ground_truth_from_dict(dataset: Any, source: str = "ground truth") -> GroundTruth:
    """As ``load_ground_truth``, of a file's parsed content, which is left as it is."""
    return _ground_truth(read_coco_document(dataset, source))


def _ground_truth(file: CocoFile) -> GroundTruth:
    file.raise_first_fault(for_training=False)
    return ground_truth_of(file.columns, file.source)


def ground_truth_of(columns: PackedCoco, source: str) -> GroundTruth:
    """The ground truth in columns that have been read, for training perhaps.

    Missing ``area`` and ``bbox`` are filled in from the segmentation, pixel for pixel as pycocotools rasterises it;
    without a segmentation, ``area`` is that of the box.

    Args:
        columns: of the file.
        source: the file, for messages.
    """
    images, category_ids = _images(columns), [category.id for category in columns.categories]
    labels, iscrowd, has_mask = columns.labels.tolist(), columns.iscrowd.tolist(), columns.has_mask.tolist()
    boxes, areas, whole = columns.boxes_xywh.tolist(), columns.areas.tolist(), columns.areas_are_whole.tolist()
    first = columns.first_annotation.tolist()
    found: list[dict[str, Any]] = []
    for (image_id, image), rows in zip(images.items(), map(range, first, first[1:]), strict=True):
        if any(has_mask[row] for row in rows):
            rles: Sequence[Rle | None] = rles_of_image(columns.segments, rows, (image.height, image.width))
        else:  # and perhaps no size
            rles = [None] * len(rows)
        for row, rle in zip(rows, rles, strict=True):
            annotation = {"image_id": image_id, "category_id": category_ids[labels[row] - 1]}
            box, area = boxes[row], areas[row]
            if rle is not None and has_mask[row]:
                annotation["segmentation"] = rle
                box = box if box[0] == box[0] else rle_box_xywh(rle)
                area = area if area == area else rle_area(rle)
            area = area if area == area else box[2] * box[3]
            found.append(
                {**annotation, "iscrowd": int(iscrowd[row]), "bbox": box, "area": int(area) if whole[row] else area}
            )
    order = np.argsort(columns.places)
    annotations = [{"id": number, **found[row]} for number, row in enumerate(order.tolist(), start=1)]
    return GroundTruth(source, columns.categories, images, annotations, columns.annotation_ids[order].tolist())


def images_and_categories(dataset: Any, source: str) -> tuple[dict[int, ImageInfo], list[Category]]:
    """Images by id, and categories, of a file's parsed content; its annotations are not looked at.

    Raises:
        DataError: no COCO annotation file, or entries that ``finemask data check`` finds fault with.
    """
    content = {**dataset, "annotations": []} if isinstance(dataset, dict) else dataset
    file = read_coco_document(content, source)
    file.raise_first_fault(for_training=False)
    return _images(file.columns), file.columns.categories


def _images(columns: PackedCoco) -> dict[int, ImageInfo]:
    names, slices = columns.file_names.to_list(), columns.slices.to_list()
    sizes = zip(columns.heights.tolist(), columns.widths.tolist(), strict=True)
    return {
        id_: ImageInfo(name, height, width, part)
        for id_, name, (height, width), part in zip(columns.image_ids.tolist(), names, sizes, slices, strict=True)
    }
