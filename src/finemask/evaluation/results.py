"""COCO results files: reading, and checking against the ground truth before any number is computed."""

from collections.abc import Collection, Mapping, Sequence
from math import isfinite
from pathlib import Path
from typing import Any, cast

import numpy as np

from finemask.coco.entries import box_fault, is_number
from finemask.coco.segmentation import rle_of_detection
from finemask.errors import DataError
from finemask.evaluation.ground_truth import GroundTruth
from finemask.evaluation.implausible_results import refuse_corner_boxes, refuse_swapped_images
from finemask.ops.files.documents import read_json
from finemask.ops.mask_runs import counts_fit
from finemask.types import CocoResult, Rle

_BLOCK = 2_000  # entries whose masks are looked at together
_NUMBERS = frozenset((int, float))


def read_results(path: Path | str) -> list[Any]:
    """The list in a COCO results file; ``check_results`` looks at its entries.

    Raises:
        DataError: unreadable, or not a list.
    """
    results = read_json(Path(path), "a COCO results file")
    if isinstance(results, dict) and "annotations" in results:
        raise DataError(
            "this is a COCO annotation file; a results file is a list of detections",
            where=path,
            remedy="Give the ground truth with annotations= and the results with predictions=.",
        )
    if not isinstance(results, list):
        raise DataError(
            f"this holds a {type(results).__name__}; a COCO results file is a list of detections", where=path
        )
    return results


def iou_types_of(results: Sequence[Any], ground_truth: GroundTruth) -> tuple[str, ...]:
    """What can be evaluated: boxes always, masks where results and ground truth have them."""
    has_masks = not results or any(isinstance(r, dict) and r.get("segmentation") for r in results)
    return ("bbox", "segm") if has_masks and ground_truth.has_masks else ("bbox",)


def check_results(
    results: Sequence[Any],
    ground_truth: GroundTruth,
    iou_types: Collection[str],
    source: object = "results",
) -> list[CocoResult]:
    """Checks detections and brings them into one form, leaving the given ones as they are.

    Args:
        results: entries of a COCO results file.
        ground_truth: what they will be compared with.
        iou_types: ``"segm"`` among them asks for a segmentation in every entry.
        source: the file, for messages.

    Returns:
        Plain numbers and compressed RLE. An entry without ``bbox`` stays without one: pycocotools sorts it by
        the size of its mask, and one with a box by the size of the box.

    Raises:
        DataError: an unknown image or category, a score that is no finite number, a box or mask that is
            missing or malformed, a mask that is not of its image's size, boxes that are corners, or
            detections under the ids of other images.
    """
    categories = {category.id for category in ground_truth.categories}
    checked: list[CocoResult] = []
    for start in range(0, len(results), _BLOCK):
        block: list[CocoResult] = []
        reason = None
        for entry in results[start : start + _BLOCK]:
            try:
                block.append(
                    _usual(entry, ground_truth, categories) or _checked(entry, ground_truth, categories, iou_types)
                )
            except ValueError as error:
                reason = str(error)
                break
        position = len(block)
        with_mask = [number for number, entry in enumerate(block) if "segmentation" in entry]
        if misfit := first_misfit([block[number]["segmentation"] for number in with_mask]):
            position, reason = with_mask[misfit[0]], misfit[1]
        if reason is not None:
            entry = results[start + position]
            image = f" (image {entry.get('image_id')})" if isinstance(entry, dict) else ""
            raise DataError(f"entry {start + position}{image}: {reason}", where=source)
        checked += block
    refuse_corner_boxes(checked, ground_truth, source)
    refuse_swapped_images(checked, ground_truth, source)
    return checked


def _usual(entry: Any, ground_truth: GroundTruth, categories: Collection[int]) -> CocoResult | None:
    """An entry with box and compressed mask in which all is as it should be; None for any other, to be looked at."""
    try:
        image_id, category_id, score, box = entry["image_id"], entry["category_id"], entry["score"], entry["bbox"]
        size, counts = entry["segmentation"]["size"], entry["segmentation"]["counts"]
        image = ground_truth.images[image_id]
        is_usual = (
            type(image_id) is type(category_id) is int
            and category_id in categories
            and type(box) is type(size) is list
            and len(box) == 4
            and type(score) is float
            and _NUMBERS.issuperset(map(type, box))
            and isfinite(score + sum(box))
            and box[2] >= 0 <= box[3]
            and image.height > 0 < image.width
            and size == [image.height, image.width]
            and type(counts) is str
        )
    except (LookupError, TypeError, OverflowError):  # the last: a whole number beyond all floats
        return None
    if not is_usual:
        return None
    return CocoResult(
        image_id=image_id,
        category_id=category_id,
        score=score,
        bbox=list(map(float, box)),
        segmentation=Rle(size=[image.height, image.width], counts=counts),
    )


def _checked(
    entry: Any, ground_truth: GroundTruth, categories: Collection[int], iou_types: Collection[str]
) -> CocoResult:
    if not isinstance(entry, Mapping):
        raise ValueError(f"a detection is an object, not a {type(entry).__name__}")
    image_id, category_id, score = (entry.get(key) for key in ("image_id", "category_id", "score"))
    if not isinstance(image_id, int) or image_id not in ground_truth.images:
        raise ValueError(f"image_id {image_id!r} is not in the ground truth {ground_truth.source}")
    if not isinstance(category_id, int) or category_id not in categories:
        raise ValueError(
            f"category_id {category_id!r} is not in the ground truth {ground_truth.source}; results carry "
            "the ids of its categories"
        )
    if not is_number(score):
        raise ValueError(f"score is {score!r}, not a finite number")
    checked: dict[str, Any] = {
        "image_id": image_id,
        "category_id": category_id,
        "score": float(score),
    }
    box, segmentation = entry.get("bbox"), entry.get("segmentation")
    if box:
        if fault := box_fault(entry):
            raise ValueError(fault.message)
        checked["bbox"] = [float(value) for value in box]
    if segmentation:
        image = ground_truth.images[image_id]
        if not image.height or not image.width:
            raise ValueError("its image has no height and width in the ground truth, which masks need")
        checked["segmentation"] = rle_of_detection(segmentation, image.height, image.width)
    elif "segm" in iou_types:
        raise ValueError("there is no segmentation; evaluate boxes only with 'iou_types=[bbox]'")
    elif not box:
        raise ValueError("there is neither a bbox nor a segmentation")
    return cast(CocoResult, checked)


def first_misfit(rles: Sequence[Rle]) -> tuple[int, str] | None:
    """Position of the first RLE whose counts are not those of its size, and why; all at once, for there are many."""
    if not rles:
        return None
    pixels = np.array([rle["size"][0] * rle["size"][1] for rle in rles], dtype=np.int64)
    fits = counts_fit([rle["counts"].encode("utf-8") for rle in rles], pixels)
    for position in np.flatnonzero(~fits).tolist():
        try:
            rle_of_detection(rles[position], *rles[position]["size"])
        except ValueError as error:
            return position, str(error)
    return None
