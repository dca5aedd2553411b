"""The packed COCO index: an annotation file as a few numpy arrays.

No Python object per annotation survives reading, so memory does not grow with the number of worker processes
(there are no reference counts to touch, hence nothing to copy), and 860,000 annotations fit in a few hundred
megabytes.

Labels are positions: label ``k`` is ``categories[k - 1]``, and ``category_ids[k - 1]`` is its id in this very
file. Categories are ordered by their id in the training file; other files are matched to it by name.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from finemask.data.coco_json import CocoFile, read_coco_json
from finemask.data.image_files import check_images_exist
from finemask.data.packing import PackedSegments, PackedStrings, pack_segments
from finemask.data.segments import crop_of_counts, crop_of_polygons
from finemask.errors import DataError
from finemask.ops.json_file import read_bytes
from finemask.types import Category


@dataclass(frozen=True)
class CocoIndex:
    """All images and annotations of one COCO file; read with ``CocoIndex.read``.

    Args:
        annotations_path: the file.
        images_dir: folder that its file names are relative to.
        categories: in training order; label = position + 1.
        category_ids: id of each label in this file, -1 where this file lacks the category.
        image_ids: int64 [n].
        heights: int32 [n], px, as the file states them.
        widths: int32 [n], px.
        first_annotation: int64 [n + 1]; annotations of image ``i`` are
            ``first_annotation[i]:first_annotation[i + 1]``.
        annotation_ids: int64 [A].
        labels: int64 [A], 1..K.
        iscrowd: bool [A].
        segments: outlines and masks.
        fingerprint: SHA-256 of the file's bytes.
    """

    annotations_path: Path
    images_dir: Path
    categories: list[Category]
    category_ids: list[int]
    image_ids: NDArray[np.int64]
    heights: NDArray[np.int32]
    widths: NDArray[np.int32]
    first_annotation: NDArray[np.int64]
    annotation_ids: NDArray[np.int64]
    labels: NDArray[np.int64]
    iscrowd: NDArray[np.bool_]
    segments: PackedSegments
    fingerprint: str
    packed_file_names: PackedStrings

    @classmethod
    def read(
        cls,
        annotations: Path,
        images_dir: Path,
        categories: Sequence[Category] | None = None,
        *,
        allow_missing_categories: bool = False,
    ) -> "CocoIndex":
        """Reads a COCO file and checks that its images are there.

        Args:
            annotations: the JSON file.
            images_dir: folder that its file names are relative to.
            categories: those of training, for every file but the training file; matched by name.
            allow_missing_categories: accept a file that lacks some of ``categories``.

        Raises:
            DataError: anything that would make training or measuring on this file wrong; names the entry.
        """
        annotations, images_dir = Path(annotations), Path(images_dir)
        content = read_bytes(
            annotations, "a COCO annotation file", "Check data.root and the path of the file, which is relative to it"
        )
        fingerprint = hashlib.sha256(content).hexdigest()
        coco = read_coco_json(annotations, content)
        del content
        if categories is None:
            categories = coco.categories
        ids_here = _match_categories(annotations, coco.categories, categories, allow_missing_categories)
        check_images_exist(annotations, images_dir, [image.file_name for image in coco.images])
        return cls._pack(annotations, images_dir, coco, list(categories), ids_here, fingerprint)

    @classmethod
    def _pack(
        cls,
        path: Path,
        images_dir: Path,
        coco: CocoFile,
        categories: list[Category],
        category_ids: list[int],
        fingerprint: str,
    ) -> "CocoIndex":
        heights = np.array([image.height for image in coco.images], dtype=np.int32)
        widths = np.array([image.width for image in coco.images], dtype=np.int32)
        position = {image.id: i for i, image in enumerate(coco.images)}
        label = {category_id: k + 1 for k, category_id in enumerate(category_ids)}
        annotations = coco.annotations
        annotations.sort(key=lambda annotation: position[annotation["image_id"]])  # stable: file order within an image
        image_of = np.array([position[annotation["image_id"]] for annotation in annotations], dtype=np.int64)
        counts = np.bincount(image_of, minlength=len(coco.images))
        return cls(
            annotations_path=path,
            images_dir=images_dir,
            categories=categories,
            category_ids=category_ids,
            image_ids=np.array([image.id for image in coco.images], dtype=np.int64),
            heights=heights,
            widths=widths,
            first_annotation=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
            annotation_ids=np.array([annotation["id"] for annotation in annotations], dtype=np.int64),
            labels=np.array([label[annotation["category_id"]] for annotation in annotations], dtype=np.int64),
            iscrowd=np.array([annotation["iscrowd"] for annotation in annotations], dtype=np.bool_),
            segments=pack_segments(path, annotations, heights[image_of], widths[image_of]),
            fingerprint=fingerprint,
            packed_file_names=PackedStrings.pack([image.file_name for image in coco.images]),
        )

    def __len__(self) -> int:
        return len(self.image_ids)

    @property
    def file_names(self) -> list[str]:
        """All file names; a list made for the occasion."""
        return [self.packed_file_names[i] for i in range(len(self))]

    @property
    def num_annotations(self) -> int:
        """Annotations of the file, crowds included."""
        return len(self.labels)

    @property
    def max_instances_per_image(self) -> int:
        """The greatest number of annotations in one image, crowds not counted."""
        alone = np.concatenate([[0], np.cumsum(~self.iscrowd)])[self.first_annotation]
        return int(np.diff(alone).max(initial=0))

    def image_path(self, i: int) -> Path:
        """Where image ``i`` lies."""
        return self.images_dir / self.packed_file_names[i]

    def size_hw(self, i: int) -> tuple[int, int]:
        """Height and width of image ``i`` in px, as the file states them."""
        return int(self.heights[i]), int(self.widths[i])

    def instances(self, i: int) -> "ImageInstances":
        """The annotations of image ``i``, in the order of the file."""
        return ImageInstances(self, slice(int(self.first_annotation[i]), int(self.first_annotation[i + 1])))


class ImageInstances:
    """Annotations of one image: views into the index, masks on demand.

    Attributes:
        labels: int64 [N], 1..K.
        iscrowd: bool [N].
        boxes_xyxy: float32 [N, 4], px: the extent of the outline, clipped to the image.
        annotation_ids: int64 [N].
    """

    def __init__(self, index: CocoIndex, rows: slice) -> None:
        self._segments = index.segments
        self._first = rows.start
        self.labels = index.labels[rows]
        self.iscrowd = index.iscrowd[rows]
        self.boxes_xyxy = index.segments.boxes_xyxy[rows]
        self.annotation_ids = index.annotation_ids[rows]

    def __len__(self) -> int:
        return len(self.labels)

    def crop(self, k: int) -> tuple[NDArray[np.bool_], int, int]:
        """Pixels of instance ``k``, the very ones pycocotools sets.

        Returns:
            bool [h, w] and the x and y of its upper left pixel in the image. h or w is 0 where nothing lies
            inside the image; all may be False for an outline between pixel centres.
        """
        segments, row = self._segments, self._first + k
        x0, y0, x1, _ = window = segments.window(row)
        if x0 >= x1:
            return np.zeros((0, 0), dtype=np.bool_), 0, 0
        if parts := segments.polygons(row):
            return crop_of_polygons(parts, window), x0, y0
        return crop_of_counts(segments.counts(row), window), x0, y0


def _match_categories(
    path: Path, here: Sequence[Category], wanted: Sequence[Category], allow_missing: bool
) -> list[int]:
    """The id that each wanted category has in this file."""
    ids = {category.name: category.id for category in here}
    names = {category.name for category in wanted}
    unknown = [name for name in ids if name not in names]
    missing = [category.name for category in wanted if category.name not in ids]
    if unknown or (missing and not allow_missing):
        parts = [f"has {', '.join(map(repr, unknown))}, which training lacks"] if unknown else []
        parts += [f"lacks {', '.join(map(repr, missing))}"] if missing and not allow_missing else []
        raise DataError(
            f"its categories differ from those of training: it {' and '.join(parts)}",
            where=path,
            remedy="Categories are matched by name: list the same names in every file"
            + ("" if unknown else ", or set data.allow_missing_categories=true"),
        )
    return [ids.get(category.name, -1) for category in wanted]
