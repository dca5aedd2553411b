"""The fast backend against the reference on some of the images, before any of its numbers is believed."""

import random
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import fields

import numpy as np

from finemask.errors import FinemaskError
from finemask.evaluation.ground_truth import GroundTruth
from finemask.evaluation.scores import Backend, CocoScores, Matches
from finemask.evaluation.self_check import ground_truth_as_predictions
from finemask.types import CocoResult

_SEED = 0  # the same images every time, so that what was found can be found again
_MOST_IMAGES = 16
_MOST_ENTRIES = 2_000  # annotations and detections; what the reference takes well under a second for
_TOLERANCE = 1e-9


def cross_check(
    backend: Backend,
    reference: Backend,
    ground_truth: GroundTruth,
    results: Sequence[CocoResult],
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
        ("ground truth as predictions", ground_truth_as_predictions(truth)),
    ):
        mine, expected = (run(truth, predictions, iou_types, max_detections) for run in (backend, reference))
        for iou_type in iou_types:
            for what in _differences(mine[iou_type], expected[iou_type]):
                raise FinemaskError(
                    f"the fast evaluation disagrees with pycocotools on the {iou_type} {what} of {len(truth.images)} "
                    f"sampled images ({name}), so none of its numbers can be trusted here",
                    where=ground_truth.source,
                    remedy="Use backend=pycocotools, which is slower, and please report this together with the "
                    "version of hotcoco.",
                )


def _sample(ground_truth: GroundTruth, results: Sequence[CocoResult]) -> tuple[GroundTruth, list[CocoResult]]:
    """Images up to the number and size that are checked, at least one, and all that belongs to them."""
    entries: dict[int, int] = defaultdict(int)
    for annotation in ground_truth.annotations:
        entries[annotation["image_id"]] += 1
    for result in results:
        entries[result["image_id"]] += 1
    chooser = random.Random(_SEED)
    occupied = [id_ for id_ in ground_truth.images if entries[id_]] or list(ground_truth.images)
    chosen: set[int] = set()
    total = 0
    for id_ in chooser.sample(occupied, len(occupied)):
        if chosen and total + entries[id_] > _MOST_ENTRIES:
            continue
        chosen.add(id_)
        total += entries[id_]
        if len(chosen) == _MOST_IMAGES:
            break
    kept = [position for position, a in enumerate(ground_truth.annotations) if a["image_id"] in chosen]
    truth = GroundTruth(
        source=ground_truth.source,
        categories=ground_truth.categories,
        images={id_: image for id_, image in ground_truth.images.items() if id_ in chosen},
        annotations=[ground_truth.annotations[position] for position in kept],
        annotation_ids=[ground_truth.annotation_ids[position] for position in kept],
    )
    return truth, [result for result in results if result["image_id"] in chosen]


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
        columns = getattr(mine.matches, field.name), getattr(expected.matches, field.name)
        if not np.array_equal(*columns):
            yield f"matches ({field.name})"
