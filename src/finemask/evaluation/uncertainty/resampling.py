"""Bootstrap and jackknife over images: how far a number would move if other images had been labelled.

In the bootstrap, images are drawn with replacement, as many as there are, whether they hold objects or not; every
number is computed again for each draw, and an interval holds the middle 95 % of what came out. Detections of one image
stay together, because they are not independent of one another; the images are taken to be.

With few images such percentiles are too narrow, by about the factor that separates the normal distribution from
Student's and n from n - 1. The percentiles are therefore taken further out by just that (the *expanded percentile
interval*: Hesterberg, "What Teachers Should Know About the Bootstrap", The American Statistician 69, 2015).

AP is higher, on average, the fewer different images it is taken from, above all with many rare classes, and a resample
has fewer different ones than the set. The values of an AP are therefore moved until their mean is the measured number:
without that, an interval over COCO's 80 classes in 100 images would begin just below the number itself. Differences of
two APs stay as they are: most of that cancels, and moving values that are all of one sign or zero would invent a sign.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri, stdtr, stdtrit

from finemask.evaluation.ground_truth import GroundTruth
from finemask.evaluation.numbers.coco_numbers import scores_of, summarize
from finemask.evaluation.numbers.match_table import match_tables
from finemask.evaluation.result_table import ResultTable
from finemask.evaluation.results import check_results
from finemask.types import CocoResult

LEVEL = 0.95
MOST_RESAMPLES, LEAST_RESAMPLES = 1000, 200
POWER = 0.8  # with which the smallest difference would be noticed
_SECONDS = 20.0  # what the resamples of one evaluation may take; beyond it there are fewer
_MOST_WEIGHTS = 50_000_000  # 400 MB
_SEED = 0  # the same draws every time: the same results have the same intervals
_NARROW = 0.02  # an interval that two digits would make look like a point
_LEAST_VALID = 0.5  # part of the resamples in which a number must exist for an interval


@dataclass(frozen=True)
class Difference:
    """What a paired bootstrap says about b - a.

    Args:
        value: the difference itself.
        interval: its 95 % interval.
        p_value: two-sided; below 0.05 just where the interval leaves zero out.
        smallest_detectable: the difference that such a set of images would show with a probability of 80 %.
    """

    value: float
    interval: tuple[float, float]
    p_value: float
    smallest_detectable: float

    @property
    def is_shown(self) -> bool:
        """Whether the interval leaves out zero."""
        return self.interval[0] > 0 or self.interval[1] < 0


def draw_weights(images: int, seconds_each: float = 0.0) -> NDArray[np.float64]:
    """How often every image is drawn in every resample.

    Args:
        images: I.
        seconds_each: what a resample takes; where 1,000 would take longer than 20 s there are fewer, at least 200.

    Returns:
        Float64 [I, B], each column with the sum I.
    """
    affordable = int(min(_SECONDS / max(seconds_each, 1e-9), _MOST_WEIGHTS / max(images, 1)))
    resamples = max(LEAST_RESAMPLES, min(MOST_RESAMPLES, affordable))
    random = np.random.default_rng(_SEED)
    weights = np.empty((images, resamples))
    for column in range(resamples):
        weights[:, column] = np.bincount(random.integers(0, images, images), minlength=images)
    return weights


def interval(values: NDArray[np.float64], images: int) -> list[float] | None:
    """The 95 % interval of a number.

    Args:
        values: float64 [B], its value in every resample; NaN where it does not exist.
        images: number of images that say anything about it.

    Returns:
        Lower and upper end; None with too few images (fewer than six, with 1,000 resamples: the percentiles would
        lie beyond the outermost values), or where the number mostly does not exist.
    """
    valid = values[~np.isnan(values)]
    if images < 2 or len(valid) < _LEAST_VALID * len(values):
        return None
    tail = float(ndtr(-np.sqrt(images / (images - 1)) * stdtrit(images - 1, (1 + LEVEL) / 2)))
    if tail * (len(valid) + 1) < 1:
        return None
    low, high = np.quantile(valid, [tail, 1 - tail])
    return [float(low), float(high)]


def centred(value: float | None, values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Resampled values, moved by as much as their mean is off the measured one; NaN without one.

    Args:
        value: the measured number.
        values: float64 [B], in every resample; NaN where it does not exist.
    """
    valid = values[~np.isnan(values)]
    if value is None or not len(valid):
        return np.full(len(values), np.nan)
    return values + (value - float(valid.mean()))


def ap_interval(value: float | None, values: NDArray[np.float64], images: int) -> list[float] | None:
    """The 95 % interval of an AP: as ``interval``, of the centred values, within 0..1."""
    return interval(np.clip(centred(value, values), 0, 1), images)


def interval_text(ends: Sequence[float] | None) -> str:
    """``" (0.51 to 0.56)"``, to put behind a number; nothing where there is no interval."""
    if ends is None:
        return ""
    digits = 2 if ends[1] - ends[0] >= _NARROW else 3
    return f" ({ends[0]:.{digits}f} to {ends[1]:.{digits}f})"


def difference(value: float, values: NDArray[np.float64], images: int) -> Difference | None:
    """What the resampled differences say about one that was measured; None as for ``interval``.

    Args:
        value: the measured difference.
        values: float64 [B], the difference in every resample, both sides on the same images.
        images: number of images that say anything about it.
    """
    ends = interval(values, images)
    if ends is None:
        return None
    valid = values[~np.isnan(values)]
    beyond = min(np.mean(valid <= 0), np.mean(valid >= 0))  # of the side with less
    tail = min(max(float(beyond), 1 / (len(valid) + 1)), 0.5)
    p_value = 2 * float(stdtr(images - 1, ndtri(tail) * np.sqrt((images - 1) / images)))
    # percentiles interpolate; the two must not contradict one another
    is_shown = ends[0] > 0 or ends[1] < 0
    p_value = min(p_value, float(np.nextafter(1 - LEVEL, 0))) if is_shown else max(p_value, 1 - LEVEL)
    deviation = float(np.std(valid)) * np.sqrt(images / (images - 1))
    smallest = deviation * float(ndtri((1 + LEVEL) / 2) + ndtri(POWER))
    return Difference(value, (ends[0], ends[1]), min(p_value, 1.0), float(smallest))


def chosen_p_value(value: float, smallest_detectable: float, images: int, choices: int) -> float:
    """How often chance alone would show at least such a difference somewhere, where the best of several was chosen.

    By Student's distribution, not the percentiles, which end at 0.002 and could not be corrected: times the number of
    choices (Bonferroni), which is careful where the choices resemble one another.

    Args:
        value: of ``Difference``.
        smallest_detectable: likewise.
        images: that say anything about it.
        choices: among which the best was chosen, at least 1.
    """
    deviation = smallest_detectable / float(ndtri((1 + LEVEL) / 2) + ndtri(POWER))
    if deviation == 0:
        return 1.0
    return min(1.0, max(1, choices) * 2 * float(stdtr(images - 1, -abs(value) / deviation)))


GROUPS = 10


def jackknife_error(
    ground_truth: GroundTruth,
    results: Sequence[CocoResult],
    iou_type: str,
    key: str,
    max_detections: int,
    *,
    groups: int = GROUPS,
    seed: int = 0,
) -> float | None:
    """Standard error of one of COCO's numbers over the choice of images.

    The delete-a-group jackknife (Kott 2001): the images are split at random into groups, the number is computed
    without each of them, and the variance is (g - 1) / g times the sum of squares around their mean.

    Args:
        ground_truth: of the split.
        results: of a model on all of its images.
        iou_type: ``"bbox"`` or ``"segm"``.
        key: ``"AP"``, ``"AP50"``, …
        max_detections: as in the evaluation itself.
        groups: g; as many as images where there are fewer.
        seed: of the split.

    Returns:
        None where there are fewer than two images, or where the number cannot be computed without some group.
    """
    ids = sorted(ground_truth.images)
    groups = min(groups, len(ids))
    if groups < 2:
        return None
    shuffled = np.random.default_rng(seed).permutation(np.array(list(ground_truth.images)))
    detections = ResultTable(ground_truth, check_results(results, ground_truth, (iou_type,)))
    table = match_tables(ground_truth, detections, (iou_type,), max_detections)[iou_type]
    values: list[float | None] = []
    for group in range(groups):
        left_out = set(shuffled[group::groups].tolist())
        kept = np.array([image_id not in left_out for image_id in ids])
        values.append(summarize(scores_of(table.of_images(kept), max_detections))[key])
    if any(value is None for value in values):
        return None
    known = np.array(values, dtype=np.float64)
    return float(np.sqrt((groups - 1) / groups * ((known - known.mean()) ** 2).sum()))
