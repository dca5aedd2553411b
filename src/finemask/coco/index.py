"""The packed COCO index: an annotation file as a few numpy arrays.

No Python object per annotation survives reading, so memory does not grow with the number of worker processes
(there are no reference counts to touch, hence nothing to copy), and 860,000 annotations fit in two hundred megabytes.
The arrays of a large file are views of its cache, which all processes share, however they were started.

Labels are positions: label ``k`` is ``categories[k - 1]``, and ``category_ids[k - 1]`` is its id in this very
file. Categories are ordered by their id in the training file; other files are matched to it by name.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from finemask.coco.cache import CacheFolder, map_packed, read_packed
from finemask.coco.columns import PackedCoco, PackedSegments
from finemask.coco.entries import crowds_in_words
from finemask.coco.image_names import check_images_exist
from finemask.coco.rasterising import crop_of_counts, crop_of_polygons, runs_of_outlines
from finemask.errors import DataError
from finemask.ops.images.decode import decode_image
from finemask.ops.images.image_reading import AS_THE_FILE_SAYS, ImageReading
from finemask.ops.mask_runs import MaskRuns, decode_runs, interleaved
from finemask.types import Category


@dataclass(frozen=True)
class CocoIndex:
    """All images and annotations of one COCO file; read with ``CocoIndex.read``.

    Args:
        annotations_path: the file.
        images_dir: folder that its file names are relative to.
        categories: in training order; label = position + 1.
        category_ids: id of each label in this file, -1 where this file lacks the category.
        columns: of the file.
        labels: int64 [A], 1..K, of training.
        cache_file: what the columns are mapped from; None when they are in memory.
        reading: what is read from image files of more than one 8-bit picture.
    """

    annotations_path: Path
    images_dir: Path
    categories: list[Category]
    category_ids: list[int]
    columns: PackedCoco
    labels: NDArray[np.int64]
    fingerprint: str
    cache_file: Path | None = None
    reading: ImageReading = AS_THE_FILE_SAYS

    @classmethod
    def read(
        cls,
        annotations: Path,
        images_dir: Path | None,
        categories: Sequence[Category] | None = None,
        *,
        allow_missing_categories: bool = False,
        cache: CacheFolder = "auto",
        reading: ImageReading = AS_THE_FILE_SAYS,
    ) -> "CocoIndex":
        """Reads a COCO file and checks that its images are there.

        Args:
            annotations: the JSON file.
            images_dir: folder that its file names are relative to; None where no image will be opened: nobody looks
                whether they are there.
            categories: those of training, for every file but the training file; matched by name.
            allow_missing_categories: accept a file that lacks some of ``categories``.
            cache: folder where large files are kept packed; see ``finemask.coco.cache``.
            reading: page, range and channels of the images; see ``read_image``.

        Raises:
            DataError: anything that would make training or measuring on this file wrong; names the entry.
        """
        annotations = Path(annotations)
        columns, cache_file = read_packed(annotations, cache)
        by_id = sorted(columns.categories)
        wanted = by_id if categories is None else list(categories)
        ids_here = _match_categories(annotations, by_id, wanted, allow_missing_categories)
        if images_dir is not None:
            check_images_exist(annotations, Path(images_dir), columns.file_names.to_list())
        return cls(
            annotations_path=annotations,
            images_dir=Path(images_dir or ""),
            categories=wanted,
            category_ids=ids_here,
            columns=columns,
            labels=_labels(columns, ids_here),
            fingerprint=columns.fingerprint,
            cache_file=cache_file,
            reading=reading,
        )

    def __getstate__(self) -> dict[str, Any]:
        """What another process needs: of a cached index only where the cache is, so that pages stay shared."""
        state = dict(vars(self))
        if self.cache_file is not None and self.cache_file.is_file():
            del state["columns"], state["labels"]
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Maps the cache again where the state came without columns."""
        vars(self).update(state)
        if self.cache_file is not None and "columns" not in state:
            columns = map_packed(self.cache_file, self.fingerprint, verify=False)
            vars(self).update(columns=columns, labels=_labels(columns, self.category_ids))

    @property
    def image_ids(self) -> NDArray[np.int64]:
        """Int64 [n]."""
        return self.columns.image_ids

    @property
    def heights(self) -> NDArray[np.int32]:
        """Int32 [n], px, as the file states them."""
        return self.columns.heights

    @property
    def widths(self) -> NDArray[np.int32]:
        """Int32 [n], px."""
        return self.columns.widths

    @property
    def first_annotation(self) -> NDArray[np.int64]:
        """Int64 [n + 1]; annotations of image ``i`` are ``first_annotation[i]:first_annotation[i + 1]``."""
        return self.columns.first_annotation

    @property
    def annotation_ids(self) -> NDArray[np.int64]:
        """Int64 [A]."""
        return self.columns.annotation_ids

    @property
    def iscrowd(self) -> NDArray[np.bool_]:
        """Bool [A]."""
        return self.columns.iscrowd

    @property
    def segments(self) -> PackedSegments:
        """Outlines and masks."""
        return self.columns.segments

    def __len__(self) -> int:
        return len(self.image_ids)

    @property
    def file_names(self) -> list[str]:
        """All file names; a list made for the occasion."""
        return self.columns.file_names.to_list()

    @property
    def num_annotations(self) -> int:
        """Annotations of the file, crowds included."""
        return len(self.labels)

    @property
    def num_instances(self) -> int:
        """Annotations that are single objects: crowds not counted."""
        return int(np.count_nonzero(~self.iscrowd))

    @property
    def max_instances_per_image(self) -> int:
        """The greatest number of annotations in one image, crowds not counted."""
        alone = np.concatenate([[0], np.cumsum(~self.iscrowd)])[self.first_annotation]
        return int(np.diff(alone).max(initial=0))

    @property
    def instances_per_label(self) -> list[int]:
        """Annotations of each label 1..K, crowds not counted."""
        found = np.bincount(self.labels[~self.iscrowd], minlength=len(self.categories) + 1)
        counts: list[int] = found[1:].tolist()
        return counts

    @property
    def crowds(self) -> str | None:
        """How many annotations are crowds, of which classes, in words; None when none is."""
        counts = np.bincount(self.labels[self.iscrowd], minlength=len(self.categories) + 1)[1:].tolist()
        return crowds_in_words({category.name: n for category, n in zip(self.categories, counts, strict=True) if n})

    def image_path(self, i: int) -> Path:
        """Where image ``i`` lies."""
        return self.images_dir / self.columns.file_names[i]

    def size_hw(self, i: int) -> tuple[int, int]:
        """Height and width of image ``i`` in px, as the file states them."""
        return int(self.columns.heights[i]), int(self.columns.widths[i])

    def read_image(self, i: int) -> NDArray[np.uint8]:
        """The pixels of image ``i``, uint8 [H, W, 3], RGB: those that a model is trained on.

        Raises:
            DataError: the file cannot be read, holds more than one 8-bit picture of which none is chosen, or has
                another size than the annotations say.
        """
        return decode_image(self.image_path(i), self.size_hw(i), self.reading)

    def instances(self, i: int) -> "ImageInstances":
        """The annotations of image ``i``, in the order of the file."""
        rows = slice(int(self.first_annotation[i]), int(self.first_annotation[i + 1]))
        return ImageInstances(self, rows, self.size_hw(i))


class ImageInstances:
    """Annotations of one image: views into the index, masks on demand.

    Attributes:
        labels: int64 [N], 1..K.
        iscrowd: bool [N].
        boxes_xyxy: float32 [N, 4], px: the extent of the outline, clipped to the image.
        annotation_ids: int64 [N].
    """

    def __init__(self, index: CocoIndex, rows: slice, size_hw: tuple[int, int]) -> None:
        self._segments = index.segments
        self._first = rows.start
        self._size_hw = size_hw
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

    def runs(self, chosen: NDArray[np.int64]) -> MaskRuns:
        """The same pixels of many instances at once, several times quicker than one crop after another.

        Args:
            chosen: int64 [M], which ones.
        """
        segments, rows = self._segments, self._first + chosen
        outlined = segments.first_part[rows + 1] > segments.first_part[rows]
        drawn = runs_of_outlines(segments, rows[outlined], self._size_hw)
        if outlined.all():
            return drawn
        stored = rows[~outlined]
        counts = [segments.counts(row) for row in stored.tolist()]
        return interleaved(drawn, decode_runs(counts, segments.windows[stored], self._size_hw), outlined)


def _labels(columns: PackedCoco, category_ids: Sequence[int]) -> NDArray[np.int64]:
    """Those of training, int64 [A]."""
    own = [category.id for category in columns.categories]
    if list(category_ids) == own:
        return columns.labels
    label = {category_id: k + 1 for k, category_id in enumerate(category_ids)}
    return np.array([0, *(label[category_id] for category_id in own)])[columns.labels]


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
