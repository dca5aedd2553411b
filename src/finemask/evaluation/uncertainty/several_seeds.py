"""Numbers of several trainings of one configuration: their mean, and how far other images and other seeds move it.

Every training is scored on the same images. In each resample of the images the mean over the trainings is taken; what
other seeds would have given is added as a draw of Student's distribution, whose scale is the deviation over the seeds
by the root of their number. With two trainings that distribution is very wide, as it has to be.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from finemask.evaluation.ground_truth import GroundTruth
from finemask.evaluation.numbers.coco_numbers import scores_of, summarize
from finemask.evaluation.numbers.match_table import match_tables
from finemask.evaluation.result_table import ResultTable
from finemask.evaluation.uncertainty.confidence_intervals import informative_images
from finemask.evaluation.uncertainty.resampling import centred, draw_weights, interval
from finemask.evaluation.uncertainty.weighted_ap import AREA_OF, seconds_a_weighting, weighted_ap

_SEED = 1  # of the draws that stand for other trainings; those of the images have their own


@dataclass(frozen=True)
class SeedSpread:
    """One number of several trainings.

    Args:
        values: of each training; None where it does not exist.
        mean: of them; None where one does not exist.
        deviation: standard deviation over the trainings; None of a single one.
        interval: 95 % interval of the mean, over images and, of two trainings and more, over seeds; None as for
            ``resampling.interval``.
    """

    values: list[float | None]
    mean: float | None
    deviation: float | None
    interval: list[float] | None


def seeds_error(sides: Sequence[Sequence[float]], resamples: int) -> NDArray[np.float64]:
    """How far a mean over trainings, or the difference of two, is off for all that other seeds would change.

    The deviation over seeds is taken to be the same on both sides, as in Student's test; a side of a single training
    has it too.

    Args:
        sides: a number of each training, of one side or of the two that are compared.
        resamples: B.

    Returns:
        Float64 [B]; zeros where every side is a single training: then nobody knows.
    """
    freedom = sum(len(side) - 1 for side in sides)
    if freedom == 0:
        return np.zeros(resamples)
    squares = sum(float(np.sum((np.asarray(side) - np.mean(side)) ** 2)) for side in sides)
    error = np.sqrt(squares / freedom * sum(1 / len(side) for side in sides))
    drawn: NDArray[np.float64] = error * np.random.default_rng(_SEED).standard_t(freedom, resamples)
    return drawn


def spread_over_seeds(
    truth: GroundTruth, results: Sequence[ResultTable], iou_types: Sequence[str], max_detections: int
) -> Mapping[str, Mapping[str, SeedSpread]]:
    """COCO's numbers of several trainings on the same images.

    Args:
        truth: what all are compared with.
        results: of each training.
        iou_types: ``"bbox"``, ``"segm"`` or both.
        max_detections: cap on the detections of one image and category.

    Returns:
        By type and name of the number: ``found["segm"]["AP"].mean``.
    """
    tables = [match_tables(truth, table, iou_types, max_detections) for table in results]
    seconds = sum(seconds_a_weighting(table) for of_training in tables for table in of_training.values())
    weights = draw_weights(len(truth.images), seconds)
    found: dict[str, dict[str, SeedSpread]] = {}
    for kind in iou_types:
        measured = [summarize(scores_of(of_training[kind], max_detections)) for of_training in tables]
        resampled = [weighted_ap(of_training[kind], weights).numbers for of_training in tables]
        found[kind] = {
            key: _spread(
                [numbers[key] for numbers in measured],
                [numbers[key] for numbers in resampled],
                informative_images(tables[0][kind], area=area),
            )
            for key, area in AREA_OF.items()
        }
    return found


def _spread(values: list[float | None], resampled: Sequence[NDArray[np.float64]], images: int) -> SeedSpread:
    known = [value for value in values if value is not None]
    if len(known) < len(values):
        return SeedSpread(values, None, None, None)
    mean = float(np.mean(known))
    over_images = centred(mean, np.mean(np.asarray(resampled), axis=0))
    ends = interval(np.clip(over_images + seeds_error([known], len(over_images)), 0, 1), images)
    return SeedSpread(values, mean, float(np.std(known, ddof=1)) if len(known) > 1 else None, ends)
