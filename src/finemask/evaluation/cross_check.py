"""The fast backend against the reference on some of the images, before any of its numbers is believed."""

import random
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import fields

import numpy as np

from finemask.errors import FinemaskError
from finemask.evaluation.ground_truth import GroundTruth
from finemask.evaluation.result_table import ResultTable
from finemask.evaluation.scores import Backend, CocoScores, Matches
from finemask.evaluation.self_check import ground_truth_as_predictions

_SEED = 0  # the same sample every time, so that what was found can be found again
_MOST_IMAGES = 16
_MOST_CATEGORIES = 8  # the reference's time grows with them, whether they are empty or not
_MOST_ENTRIES = 2_000  # annotations and detections
_TOLERANCE = 1e-9


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
