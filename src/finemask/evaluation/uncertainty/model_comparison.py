"""Two models on one ground truth: paired differences with intervals, per class too, and the images that changed.

*Better* and *worse* are said only with an interval that leaves out zero.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import numpy as np
from numpy.typing import NDArray

from finemask.evaluation.analysis.operating_points import Point
from finemask.evaluation.ground_truth import GroundTruth
from finemask.evaluation.numbers.coco_numbers import class_precision, scores_of, summarize
from finemask.evaluation.numbers.match_table import Matches, MatchTable, match_tables
from finemask.evaluation.result_table import ResultTable
from finemask.evaluation.uncertainty.confidence_intervals import ScoredMatches, informative_images, scored_matches
from finemask.evaluation.uncertainty.resampling import LEVEL, Difference, difference, draw_weights
from finemask.evaluation.uncertainty.several_seeds import seeds_error
from finemask.evaluation.uncertainty.weighted_ap import AREA_OF, seconds_a_weighting, weighted_ap
from finemask.ops.wording import plural

NO_DIFFERENCE = "no difference can be shown"


def verdict(found: Difference) -> str:
    """One of three: ``b is better by 0.031 (0.011 to 0.052)``, the same with *worse*, or ``NO_DIFFERENCE``."""
    if not found.is_shown:
        return NO_DIFFERENCE
    low, high = sorted(abs(end) for end in found.interval)
    word = "better" if found.interval[0] > 0 else "worse"
    return f"b is {word} by {abs(found.value):.3f} ({low:.3f} to {high:.3f})"


def difference_text(row: Mapping[str, Any]) -> str:
    """``+0.031 (+0.011 to +0.052)``, of a row of ``compare.json``."""
    value = f"{row['difference']:+.3f}"
    return value if row["interval"] is None else f"{value} ({row['interval'][0]:+.3f} to {row['interval'][1]:+.3f})"


def p_text(p_value: float | None) -> str:
    """A p-value as one writes it."""
    if p_value is None:
        return "–"
    return "< 0.001" if p_value < 0.001 else f"{p_value:.3f}"


def summary(what: str, row: Mapping[str, Any] | None, images: int) -> str:
    """A sentence or two on one number.

    Args:
        what: its name, such as ``"AP of masks"``.
        row: of ``compare.json``; None where it does not exist.
        images: in the set.
    """
    if row is None:
        return f"{what}: it does not exist, because there is nothing to find."
    if row["interval"] is None:
        return f"{what}: {row['verdict']}, because objects are in too few images."
    p_value = p_text(row["p_value"])
    p_value = f"p {p_value}" if p_value.startswith("<") else f"p = {p_value}"
    if row["smallest_detectable"] == 0:
        return f"{what}: {row['verdict']}: no draw of the images shows one."
    these = "This image" if images == 1 else f"These {images:,} images"
    smallest = f"{these} can show a difference of about {row['smallest_detectable']:.3f} or more."
    if row["verdict"] == NO_DIFFERENCE:
        return f"{what}: {row['verdict']}: {difference_text(row)}, {p_value}. {smallest}"
    return f"{what}: {row['verdict']}, {p_value}. {smallest}"


def wins_text(counts: Mapping[str, int]) -> str:
    """How the classes are divided."""
    total = sum(counts.values())
    expected = 0.05 * total
    text = f"of {plural(total, 'class', 'classes')}, a leads in {counts['a']}, b in {counts['b']}; "
    text += f"in {counts['undecided']} {NO_DIFFERENCE}"
    if counts["a"] + counts["b"] and total > 1:
        text += f" (chance alone would give about {expected:.1f} leads)"
    return text


@dataclass(frozen=True)
class ImageChange:
    """One image at each side's own threshold of the best F1, IoU 0.5.

    Args:
        image_id: in the ground truth.
        found: objects found by a and by b.
        missed: objects missed by a and by b.
        false: detections of a and of b that found nothing.
    """

    image_id: int
    found: tuple[int, int]
    missed: tuple[int, int]
    false: tuple[int, int]

    @property
    def fewer_errors(self) -> int:
        """How many errors fewer b makes; negative where it makes more."""
        return self.missed[0] + self.false[0] - self.missed[1] - self.false[1]


@dataclass(frozen=True)
class Comparison:
    """All that a comparison found.

    Args:
        content: of ``compare.json``.
        changes: every image in which the counts differ, the greatest change first.
        thresholds: of a and b, at which the images were counted; None where nothing is right.
        matches: of a and b.
        iou_type: by which the images were counted.
    """

    content: dict[str, Any]
    changes: list[ImageChange]
    thresholds: tuple[float | None, float | None]
    matches: tuple[Matches, Matches]
    iou_type: str


def compare(
    truth: GroundTruth,
    a: Sequence[ResultTable],
    b: Sequence[ResultTable],
    iou_types: tuple[str, ...],
    max_detections: int,
) -> Comparison:
    """Compares two sets of detections, image by image on the same resamples.

    Args:
        truth: what both are compared with; with masks if ``"segm"`` is among the types.
        a: detections of one side, checked; of several trainings of it, first the one whose images are counted. Its APs
            are their means, and the intervals hold what other seeds would change.
        b: of the other.
        iou_types: ``"bbox"``, ``"segm"`` or both; the last is the one that images are counted by.
        max_detections: cap on the detections of one image and category, on both sides.
    """
    matched = [[match_tables(truth, results, iou_types, max_detections) for results in side] for side in (a, b)]
    tables = {kind: (matched[0][0][kind], matched[1][0][kind]) for kind in iou_types}
    of_all = {kind: [[of_training[kind] for of_training in side] for side in matched] for kind in iou_types}
    seconds = sum(seconds_a_weighting(table) for sides in of_all.values() for side in sides for table in side)
    weights = draw_weights(len(truth.images), seconds)
    names = {category.id: category.name for category in truth.categories}
    content: dict[str, Any] = {"level": LEVEL, "resamples": weights.shape[1], "images": len(truth.images)}
    per_class: dict[str, dict[str, Any]] = {category.name: {} for category in truth.categories}
    wins: dict[str, dict[str, int]] = {}
    for kind, pair in tables.items():
        table, content[kind] = pair[0], {}
        scores = [[scores_of(one, max_detections) for one in side] for side in of_all[kind]]
        resampled = [[weighted_ap(one, weights) for one in side] for side in of_all[kind]]
        measured = [[summarize(one) for one in side] for side in scores]
        for key, area in AREA_OF.items():
            values = [[one.numbers[key] for one in side] for side in resampled]
            both = [[one[key] for one in side] for side in measured]
            content[kind][key] = _row(both, values, informative_images(table, area=area))
        for position, category_id in enumerate(table.category_ids):
            values = [[one.per_class[position] for one in side] for side in resampled]
            both = [[class_precision(one, position) for one in side] for side in scores]
            per_class[names[category_id]][f"{kind}_AP"] = _row(both, values, informative_images(table, position))
        wins[kind] = _wins(row[f"{kind}_AP"] for row in per_class.values())
    kind = iou_types[-1]
    sides = tuple(scored_matches(table) for table in tables[kind])
    points = [side.points()["best_f1"] for side in sides]
    thresholds = (points[0].threshold, points[1].threshold)
    content["operating_point"] = {
        "iou": 0.5,
        "iou_type": kind,
        "thresholds": list(thresholds),
        **_rates(sides, points, weights),
    }
    content |= {"per_class": per_class, "wins": wins, "max_detections": max_detections, "version": version("finemask")}
    matches = (tables[kind][0].matches(), tables[kind][1].matches())
    return Comparison(content, _changes(tables[kind][0], sides, thresholds), thresholds, matches, kind)


def _row(
    measured: Sequence[Sequence[float | None]], resampled: Sequence[Sequence[NDArray[np.float64]]], images: int
) -> dict[str, Any] | None:
    """One number of a and b, of each training measured and float64 [B] in every resample; None: it does not exist."""
    known = [[value for value in side if value is not None] for side in measured]
    if [len(side) for side in known] != [len(side) for side in measured]:
        return None
    a, b = (float(np.mean(side)) for side in known)
    row: dict[str, Any] = {"a": a, "b": b, "difference": b - a}
    means = [np.mean(np.asarray(side), axis=0) for side in resampled]
    values = np.clip(means[1] - means[0] + seeds_error(known, len(means[0])), -1, 1)
    found = difference(b - a, values, images)
    if found is None:
        return row | {"interval": None, "p_value": None, "smallest_detectable": None, "verdict": NO_DIFFERENCE}
    return row | {
        "interval": list(found.interval),
        "p_value": found.p_value,
        "smallest_detectable": found.smallest_detectable,
        "verdict": verdict(found),
    }


def _wins(rows: Any) -> dict[str, int]:
    """In how many classes each side leads beyond chance."""
    counts = Counter({"a": 0, "b": 0, "undecided": 0})
    for row in rows:
        if row is None:
            continue
        ends = row["interval"]
        counts["undecided" if ends is None or ends[0] <= 0 <= ends[1] else "b" if ends[0] > 0 else "a"] += 1
    return dict(counts)


def _rates(sides: Sequence[ScoredMatches], points: Sequence[Point], weights: NDArray[np.float64]) -> Mapping[str, Any]:
    """Precision, recall and F1 of both at their own thresholds, which stay as they are in every resample."""
    if any(point.threshold is None for point in points):
        return dict.fromkeys(("precision", "recall", "f1"))
    resampled = [
        side.resampled_rates(point.threshold or 0.0, weights) for side, point in zip(sides, points, strict=True)
    ]
    images = max(side.images for side in sides)
    return {
        rate: _row([[getattr(point, rate)] for point in points], [[side[rate]] for side in resampled], images)
        for rate in resampled[0]
    }


def _changes(
    table: MatchTable, sides: tuple[ScoredMatches, ...], thresholds: tuple[float | None, float | None]
) -> list[ImageChange]:
    images = len(table.image_ids)
    found, false = [], []
    for side, threshold in zip(sides, thresholds, strict=True):
        kept = side.score >= (np.inf if threshold is None else threshold)
        found.append(np.bincount(side.image[kept & side.is_true], minlength=images))
        false.append(np.bincount(side.image[kept & ~side.is_true], minlength=images))
    changes = []
    for position in np.flatnonzero((found[0] != found[1]) | (false[0] != false[1])).tolist():
        objects = int(sides[0].objects[position])
        both = tuple(int(counts[position]) for counts in found)
        changes.append(
            ImageChange(
                table.image_ids[position],
                (both[0], both[1]),
                (objects - both[0], objects - both[1]),
                (int(false[0][position]), int(false[1][position])),
            )
        )
    return sorted(changes, key=lambda c: (-abs(c.fewer_errors), -abs(c.found[1] - c.found[0]), c.image_id))
