"""pycocotools as the reference backend, and the cross-check of the fast one against it."""

import random
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields
from typing import Any, cast

import numpy as np
from pycocotools import coco, cocoeval
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from finemask.errors import FinemaskError
from finemask.evaluation.ground_truth import GroundTruth
from finemask.evaluation.numbers.coco_numbers import Backend, CocoScores, detection_caps
from finemask.evaluation.numbers.match_table import AREAS, Matches
from finemask.evaluation.result_table import ResultTable
from finemask.ops.rle import rle_area, rle_box_xywh
from finemask.types import CocoResult


def _print_nothing(*_: object, **__: object) -> None:
    pass


@contextmanager
def quiet_pycocotools() -> Iterator[None]:
    """Silences pycocotools, which announces each of its steps.

    Only the name ``print`` inside its two modules is replaced. Redirecting the process's stdout would also
    swallow what other threads write meanwhile, such as a progress bar.
    """
    modules = (coco, cocoeval)
    before = [vars(module).get("print") for module in modules]
    for module in modules:
        vars(module)["print"] = _print_nothing
    try:
        yield
    finally:
        for module, original in zip(modules, before, strict=True):
            if original is None:
                del vars(module)["print"]
            else:
                vars(module)["print"] = original


def reference_scores(
    ground_truth: GroundTruth, results: ResultTable, iou_types: Sequence[str], max_detections: int
) -> dict[str, CocoScores]:
    """The reference backend: COCOeval, with its tables and matches read off instead of its printed summary.

    Args:
        ground_truth: with masks if ``"segm"`` is among the types.
        results: may be empty.
        iou_types: any of ``"bbox"`` and ``"segm"``.
        max_detections: cap on the detections of one image and category.
    """
    scores = {}
    for iou_type in iou_types:
        detections = [_as_loaded(result, number) for number, result in enumerate(results, start=1)]
        kind: Any = iou_type
        coco_eval: Any = COCOeval(coco_object(ground_truth), coco_object(ground_truth, detections), kind)
        coco_eval.params.maxDets = detection_caps(max_detections)
        with quiet_pycocotools():
            coco_eval.evaluate()
            coco_eval.accumulate()
        scores[iou_type] = CocoScores(
            category_ids=[int(id_) for id_ in coco_eval.params.catIds],
            max_dets=[int(cap) for cap in coco_eval.params.maxDets],
            precision=coco_eval.eval["precision"][..., -1],
            recall=coco_eval.eval["recall"],
            matches=_matches_of(coco_eval, ground_truth) if iou_type == iou_types[-1] else None,
        )
    return scores


def coco_object(ground_truth: GroundTruth, annotations: list[dict[str, Any]] | None = None) -> COCO:
    """A pycocotools object of the ground truth, or of its images and categories with other annotations.

    It gets its own dicts of the ground truth's annotations, because COCOeval writes into them.
    """
    if annotations is None:
        annotations = [dict(annotation) for annotation in ground_truth.annotations]
    images = [{"id": id_, "height": image.height, "width": image.width} for id_, image in ground_truth.images.items()]
    categories = [{"id": category.id, "name": category.name} for category in ground_truth.categories]
    with quiet_pycocotools():
        found: Any = COCO()
        found.dataset = {"images": images, "categories": categories, "annotations": annotations}
        found.createIndex()
    return cast(COCO, found)


def _as_loaded(result: CocoResult, number: int) -> dict[str, Any]:
    """What ``COCO.loadRes`` makes of an entry, which decides which sizes it counts for; the number is its id."""
    detection: dict[str, Any] = {**result, "id": number, "iscrowd": 0}
    if "bbox" in detection:
        detection["area"] = detection["bbox"][2] * detection["bbox"][3]
    else:
        detection["area"] = rle_area(result["segmentation"])
        detection["bbox"] = rle_box_xywh(result["segmentation"])
    return detection


def _matches_of(coco_eval: Any, ground_truth: GroundTruth) -> Matches:
    images, categories = len(coco_eval.params.imgIds), len(coco_eval.params.catIds)
    position_of = {annotation["id"]: position for position, annotation in enumerate(ground_truth.annotations)}
    rows: list[tuple[int, int, int, float, bool, int]] = []
    positives = np.zeros(categories, dtype=np.int64)
    for category in range(categories):
        # evalImgs runs over categories, then areas ("all" first), then images
        start = category * len(AREAS) * images
        for image in coco_eval.evalImgs[start : start + images]:
            if image is None:  # neither objects nor detections of this category
                continue
            positives[category] += np.count_nonzero(np.asarray(image["gtIgnore"]) == 0)
            outcomes = (image["dtIds"], image["dtScores"], image["dtMatches"][0], image["dtIgnore"][0])
            rows += [
                (id_ - 1, image["image_id"], category, score, object_ > 0, position_of.get(int(object_), -1))
                for id_, score, object_, is_ignored in zip(*outcomes, strict=True)
                if not is_ignored
            ]
    kinds = (np.int64, np.int64, np.int64, np.float64, np.bool_, np.int64)  # of the fields in their order
    columns: Any = zip(*rows, strict=True) if rows else [()] * len(kinds)
    arrays: list[Any] = [np.array(column, dtype=kind) for column, kind in zip(columns, kinds, strict=True)]
    return Matches(*[*arrays, positives])


_SEED = 0  # the same sample every time, so that what was found can be found again
_MOST_IMAGES = 16
_MOST_CATEGORIES = 8  # the reference's time grows with them, whether they are empty or not
_MOST_ENTRIES = 2_000  # annotations and detections
_MOST_OF_AN_IMAGE = 600  # that has more alone: the reference compares each with each, at every IoU and size
_TOLERANCE = 1e-9


def ground_truth_as_predictions(ground_truth: GroundTruth) -> list[CocoResult]:
    """A perfect detector's results: every object's own box and mask, score 1; crowd regions left out.

    Fed to a ``CocoEvaluator`` they give AP 1.0 for boxes and masks, unless an object has no pixel or a box
    without area, which nothing can find.
    """
    results = []
    for annotation in ground_truth.annotations:
        if annotation["iscrowd"]:
            continue
        result = CocoResult(
            image_id=annotation["image_id"],
            category_id=annotation["category_id"],
            bbox=list(annotation["bbox"]),
            score=1.0,
        )
        if "segmentation" in annotation:
            result["segmentation"] = annotation["segmentation"]
        results.append(result)
    return results


def cross_check(
    backend: Backend,
    reference: Backend,
    ground_truth: GroundTruth,
    results: ResultTable,
    iou_types: Sequence[str],
    max_detections: int,
) -> None:
    """Compares tables and matches of a random sample of images: of the results, and of the ground truth as predictions.

    Args:
        backend: what is checked.
        reference: what it must agree with.
        ground_truth: of all images.
        results: of all images.
        iou_types: what is evaluated.
        max_detections: cap on the detections of one image and category.

    Raises:
        FinemaskError: they differ in anything by more than 1e-9.
    """
    truth, detections = _sample(ground_truth, results)
    for name, predictions in (
        ("results", detections),
        ("ground truth as predictions", ResultTable(truth, ground_truth_as_predictions(truth))),
    ):
        for iou_type in iou_types:  # each alone, so that the matches of each are there
            mine, expected = (
                run(truth, predictions, [iou_type], max_detections)[iou_type] for run in (backend, reference)
            )
            for what in _differences(mine, expected):
                raise FinemaskError(
                    f"the fast evaluation disagrees with pycocotools on the {iou_type} {what} of {len(truth.images)} "
                    f"sampled images ({name}), so none of its numbers can be trusted here",
                    where=ground_truth.source,
                    remedy="Use backend=pycocotools, which is slower, and please report this.",
                )


def _sample(ground_truth: GroundTruth, results: ResultTable) -> tuple[GroundTruth, ResultTable]:
    """Images and categories up to the numbers that are checked, and all that belongs to both."""
    chooser = random.Random(_SEED)
    images = _some_images(chooser, ground_truth, results)
    annotations = [a for a in ground_truth.annotations if a["image_id"] in images]
    is_in = np.array([id_ in images for id_ in sorted(ground_truth.images)], dtype=bool)[results.image]
    detections = [results[number] for number in np.flatnonzero(is_in).tolist()]
    if len(annotations) + len(detections) > _MOST_ENTRIES:
        annotations, detections = _left_part(annotations, detections)
    # Categories with objects first, then those that only have detections, then empty ones: all are kinds to check.
    with_objects, detected = ({entry["category_id"] for entry in entries} for entries in (annotations, detections))
    shuffled = chooser.sample(ground_truth.categories, len(ground_truth.categories))
    shuffled.sort(key=lambda category: 0 if category.id in with_objects else 1 if category.id in detected else 2)
    categories = shuffled[: _MOST_CATEGORIES - 2] + shuffled[_MOST_CATEGORIES - 2 :][-2:]
    ids = {category.id for category in categories}
    annotations = [a for a in annotations if a["category_id"] in ids]
    truth = GroundTruth(
        source=ground_truth.source,
        categories=[category for category in ground_truth.categories if category.id in ids],
        images={id_: image for id_, image in ground_truth.images.items() if id_ in images},
        annotations=annotations,
        annotation_ids=[a["id"] for a in annotations],
    )
    return truth, ResultTable(truth, (result for result in detections if result["category_id"] in ids))


def _left_part(
    annotations: list[dict[str, Any]], detections: list[CocoResult]
) -> tuple[list[dict[str, Any]], list[CocoResult]]:
    """What stands leftmost in one image that has more than can be checked, objects and detections together."""
    lefts = [entry["bbox"][0] if "bbox" in entry else rle_box_xywh(entry["segmentation"])[0] for entry in detections]
    order = np.argsort([*(entry["bbox"][0] for entry in annotations), *lefts], kind="stable")
    chosen, of_objects = np.sort(order[:_MOST_OF_AN_IMAGE]).tolist(), len(annotations)
    kept = [detections[number - of_objects] for number in chosen if number >= of_objects]
    return [annotations[number] for number in chosen if number < of_objects], kept


def _some_images(chooser: random.Random, ground_truth: GroundTruth, results: ResultTable) -> set[int]:
    image_ids = sorted(ground_truth.images)
    counts = np.bincount(results.image, minlength=len(image_ids)).tolist()
    entries = Counter(dict(zip(image_ids, counts, strict=True)))
    entries.update(annotation["image_id"] for annotation in ground_truth.annotations)
    occupied = [id_ for id_ in image_ids if entries[id_]] or image_ids
    chosen: set[int] = set()
    total = 0
    for id_ in chooser.sample(occupied, len(occupied)):
        if chosen and total + entries[id_] > _MOST_ENTRIES:
            continue
        chosen.add(id_)
        total += entries[id_]
        if len(chosen) == _MOST_IMAGES:
            break
    return chosen


def _differences(mine: CocoScores, expected: CocoScores) -> Iterator[str]:
    """What differs, in words."""
    if mine.category_ids != expected.category_ids or mine.max_dets != expected.max_dets:
        yield "categories or caps"
        return
    for what in ("precision", "recall"):
        tables = getattr(mine, what), getattr(expected, what)
        if tables[0].shape != tables[1].shape or not np.allclose(*tables, rtol=0, atol=_TOLERANCE):
            yield what
    for field in fields(Matches):
        if not np.array_equal(getattr(mine.matches, field.name), getattr(expected.matches, field.name)):
            yield f"matches ({field.name})"
