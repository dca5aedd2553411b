"""Detections in a few arrays: a tenth of the memory of a dict each, and no conversion before they are evaluated."""

from array import array
from collections.abc import Iterable, Iterator, Sequence
from typing import overload

import numpy as np
from numpy.typing import NDArray

from finemask.evaluation.ground_truth import GroundTruth
from finemask.ops.rle import rle_area, rle_box_xywh
from finemask.types import CocoResult, Rle

_NO_BOX = (float("nan"),) * 4


class ResultTable(Sequence[CocoResult]):
    """Checked results, in the order in which they were added; as a sequence, the dicts of a COCO results file.

    Images and categories are numbered 0, 1, … in the ascending order of their ids, which is the order in which
    pycocotools goes through them. D detections.

    Args:
        ground_truth: what they are compared with.
        results: to begin with.
    """

    def __init__(self, ground_truth: GroundTruth, results: Iterable[CocoResult] = ()) -> None:
        self._image_ids = sorted(ground_truth.images)
        self._category_ids = sorted(category.id for category in ground_truth.categories)
        # through dicts: an id of the file may be any whole number, beyond what an int64 holds too
        self._image_of = {id_: position for position, id_ in enumerate(self._image_ids)}
        self._category_of = {id_: position for position, id_ in enumerate(self._category_ids)}
        self._image, self._category = array("q"), array("q")
        self._score, self._box = array("d"), array("d")
        self._counts: list[str | None] = []
        self._sizes: dict[int, list[int]] = {}  # of an image's masks
        self.extend(results)

    def extend(self, results: Iterable[CocoResult]) -> None:
        """Adds results that ``check_results`` has passed."""
        for result in results:
            image = self._image_of[result["image_id"]]
            self._image.append(image)
            self._category.append(self._category_of[result["category_id"]])
            self._score.append(result["score"])
            self._box.extend(result.get("bbox") or _NO_BOX)
            rle = result.get("segmentation")
            self._counts.append(rle["counts"] if rle else None)
            if rle:
                self._sizes.setdefault(image, rle["size"])

    def __len__(self) -> int:
        return len(self._score)

    @overload
    def __getitem__(self, position: int) -> CocoResult: ...
    @overload
    def __getitem__(self, position: slice) -> list[CocoResult]: ...
    def __getitem__(self, position: int | slice) -> CocoResult | list[CocoResult]:
        if isinstance(position, slice):
            return [self[number] for number in range(len(self))[position]]
        number = range(len(self))[position]
        result = CocoResult(
            image_id=self._image_ids[self._image[number]],
            category_id=self._category_ids[self._category[number]],
            bbox=self._box[4 * number : 4 * number + 4].tolist(),
            score=self._score[number],
        )
        if result["bbox"][0] != result["bbox"][0]:
            del result["bbox"]  # type: ignore[misc] # as the file had it: COCO takes the mask's then
        if self._counts[number] is not None:
            result["segmentation"] = self.mask(number)
        return result

    def __iter__(self) -> Iterator[CocoResult]:
        return (self[number] for number in range(len(self)))

    def masks(self, positions: Sequence[int]) -> list[Rle]:
        """The masks of some detections of one image, which all have one.

        Args:
            positions: of the detections.
        """
        if not positions:
            return []
        size, counts = self._sizes[self._image[positions[0]]], self._counts
        return [{"size": size, "counts": counts[position]} for position in positions]  # type: ignore[typeddict-item]

    def mask(self, position: int) -> Rle:
        """The mask of one detection that has one."""
        counts = self._counts[position]
        assert counts is not None
        return Rle(size=self._sizes[self._image[position]], counts=counts)

    @property
    def image(self) -> NDArray[np.int64]:
        """Int64 [D], position among the ascending image ids."""
        return np.array(self._image, dtype=np.int64)

    @property
    def category(self) -> NDArray[np.int64]:
        """Int64 [D], position among the ascending category ids."""
        return np.array(self._category, dtype=np.int64)

    @property
    def score(self) -> NDArray[np.float64]:
        """Float64 [D]."""
        return np.array(self._score, dtype=np.float64)

    def boxes_and_areas(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Boxes float64 [D, 4], xywh px, and the areas float64 [D], px², by which COCO sorts detections by size.

        An entry without a box has that of its mask, and its area is the mask's; with a box, its area is the box's,
        whatever is evaluated. That is what ``COCO.loadRes`` makes of them.
        """
        boxes = np.array(self._box, dtype=np.float64).reshape(-1, 4)
        boxless = np.flatnonzero(np.isnan(boxes[:, 0])).tolist()
        for number in boxless:
            boxes[number] = rle_box_xywh(self.mask(number))
        areas = boxes[:, 2] * boxes[:, 3]
        for number in boxless:
            areas[number] = rle_area(self.mask(number))
        return boxes, areas
