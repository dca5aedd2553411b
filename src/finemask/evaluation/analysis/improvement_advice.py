"""Advice from the errors: the few changes that would gain most AP50, each with the numbers that say so.

For every error type the AP50 is computed with that type alone put right, and the types are ranked by what they gain.
What a cap on the number of detections cut off is a type of its own, since no picture and no label mends it. If most of
what missed objects cost is due to those of one size, class or kind of place, the advice is about these.

A gain that the set of images is too small to show is no advice: whoever followed it could not tell whether it helped.
"""

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from finemask.evaluation.analysis.slices import CROWDINGS, SIZES, Slice
from finemask.evaluation.analysis.tide_errors import DETECTION_ERRORS, FOREGROUND_IOU, Errors, repaired_ap50
from finemask.evaluation.evaluator import CocoEvaluator, resolved_cap
from finemask.evaluation.numbers.match_table import MatchTable, match_table
from finemask.evaluation.numbers.overlaps import find_overlaps
from finemask.evaluation.numbers.ranking import rank
from finemask.ops.wording import percent, plural

MOST = 3
_LEAST_GAIN = 0.005  # of AP50: what is less is not worth anybody's week
_DEVIATIONS = 1.96  # half of a 95 % interval, in standard deviations
_MOST_OF_IT = 0.5  # a part of a type's gain from which the advice is about that part
_MORE_OFTEN = 1.25  # times as often are objects missed of which the advice is to be
_STANDS_OUT = 0.1  # part of all confusions from which a pair of classes is named
_SMALL = (SIZES[0][0], SIZES[1][0])
_CROWDED = CROWDINGS[-1][0]
_USUAL_CAPS = (100, 200, 300, 500, 1000)  # of detectors
_LEAST_CAP, _LEAST_IMAGES = 10, 3  # so many images with so many detections each, and none with more: a cap of its own

_REMEDIES = {
    "localisation": "train longer (trainer.max_epochs), or with a larger picture (model.min_size); finemask "
    "data suspects lists labels whose outlines may not fit",
    "both": "finemask data suspects lists labels that may be wrong there; a higher threshold takes most of these away",
    "background": "finemask data suspects lists those that may be objects without a label; if they are none, add "
    "images without objects",
    "missed": "more labelled images that show such objects, or longer training (trainer.max_epochs)",
}


@dataclass(frozen=True)
class Cap:
    """A cap, and the objects without a detection because of it.

    Args:
        objects: bool [G].
        what: how it shows, in words.
        remedy: the key that moves it, and where to.
    """

    objects: NDArray[np.bool_]
    what: str
    remedy: str


def find_caps(evaluator: CocoEvaluator, table: MatchTable, iou_type: str, settings: Mapping[str, Any]) -> list[Cap]:
    """The caps that cost objects: the evaluation's, and the one under which the detections were made.

    Args:
        evaluator: with all detections added.
        table: of what its cap kept, at IoU 0.5.
        iou_type: of the table.
        settings: known ones by their keys; ``model.roi_heads.detections_per_img`` is looked for.
    """
    limit = settings.get("model.roi_heads.detections_per_img")
    caps = (_of_evaluation(evaluator, table, iou_type), _of_detections(evaluator, table, limit))
    return [cap for cap in caps if cap is not None and cap.objects.any()]


def _of_evaluation(evaluator: CocoEvaluator, table: MatchTable, iou_type: str) -> Cap | None:
    """Objects that a detection beyond ``max_detections`` would have found."""
    truth, results, cap = evaluator.ground_truth, evaluator.result_table, evaluator.max_detections
    everything = rank(results, len(results) + 1)
    is_cut = everything.place >= cap
    if not is_cut.any():
        return None
    crowded = everything.where(np.isin(everything.image_category, everything.image_category[is_cut]))
    overlaps = find_overlaps(crowded, table.objects, results, iou_type, FOREGROUND_IOU)
    found_by = match_table(truth, crowded, overlaps, [FOREGROUND_IOU]).found_by()
    return Cap(
        (found_by >= 0) & (table.found_by() < 0),
        f"cut off by max_detections={cap}: of one class in one image no more are counted",
        "max_detections=auto"
        if cap < resolved_cap("auto", truth)
        else f"max_detections={int(everything.place.max()) + 1}",
    )


def _of_detections(evaluator: CocoEvaluator, table: MatchTable, limit: Any) -> Cap | None:
    """Objects that nothing found in images which hold more of them than the detections that were kept of an image."""
    truth, objects = evaluator.ground_truth, table.objects
    made = np.bincount(evaluator.result_table.image, minlength=len(truth.images))
    if not made.any():
        return None
    at_most = int(made.max())
    if not isinstance(limit, int):
        is_cap = at_most in _USUAL_CAPS or (at_most >= _LEAST_CAP and int((made == at_most).sum()) >= _LEAST_IMAGES)
        limit = at_most if is_cap else at_most + 1
    wanted = np.bincount(objects.image[~objects.ignored], minlength=len(truth.images))
    full = (made >= limit) & (wanted > made)
    room = resolved_cap("auto", truth)
    return Cap(
        full[objects.image] & (table.found_by() < 0) & ~objects.ignored,
        f"in {plural(int(full.sum()), 'image')} that {'holds' if full.sum() == 1 else 'hold'} more objects than the "
        f"{limit:,} detections which are kept of an image",
        f"detections_per_img={room} in finemask predict and evaluate; a model that is trained with "
        "model.roi_heads.detections_per_img=auto has the room by itself",
    )


@dataclass(frozen=True)
class Findings:
    """What the advice is drawn from.

    Args:
        errors: of all detections.
        costs: what the types of errors cost, as ``error_table`` gives it.
        slices: of their table.
        names: of the categories, by ascending id.
        caps: that left objects without a detection.
        interval: of the AP50, 95 %; None where it is not known, and the number of objects has to do.
        settings: values in use by their keys, such as ``model.min_size``, as far as they are known.
    """

    errors: Errors
    costs: dict[str, Any]
    slices: list[Slice]
    names: list[str]
    caps: Sequence[Cap] = ()
    interval: Sequence[float] | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)

    def now(self, key: str) -> str:
        """The value in use, to put behind a key; nothing where it is not known."""
        value = self.settings.get(key)
        if isinstance(value, list | tuple):  # sizes that training draws from: the last is the one of evaluation
            value = value[-1]
        return "" if value is None else f" (now {value})"


def give_advice(findings: Findings) -> list[dict[str, Any]]:
    """At most three entries of ``gain`` in AP50, ``share`` of the missing AP50, ``problem``, ``remedy``; best first.

    Nothing is advised on a gain of less than half a point or less than ``detectable_gain``, or where there is no AP.
    """
    base = findings.costs["AP50"]
    if base is None or base >= 1:
        return []
    least = max(_LEAST_GAIN, detectable_gain(findings) or 0)
    entries = []
    for gain, what, remedy in [*_of_caps(findings, base), *_of_types(findings, base)]:
        if gain >= least:
            share = gain / (1 - base)
            repaired = f"put right, they would make it {base + gain:.3f}, not {base:.3f}"
            problem = f"{percent(share)} of the missing AP50 is {what}; {repaired}"
            entries.append({"gain": gain, "share": share, "problem": problem, "remedy": remedy})
    return sorted(entries, key=lambda entry: -entry["gain"])[:MOST]


def detectable_gain(findings: Findings) -> float | None:
    """The change of the AP50 that such a set of images can show: half of its interval.

    Where there is no interval, that of a share among as many objects takes its place; None without an AP50.
    """
    if findings.costs["AP50"] is None:
        return None
    if findings.interval is not None:
        return (findings.interval[1] - findings.interval[0]) / 2
    base, objects = findings.costs["AP50"], int(findings.errors.table.positives().sum())
    return _DEVIATIONS * math.sqrt(base * (1 - base) / objects)


def _of_caps(findings: Findings, base: float) -> Iterator[tuple[float, str, str]]:
    """What each cap costs: the gain, what is wrong, and what to do about it."""
    for cap in findings.caps:
        repaired = repaired_ap50(findings.errors, ["missed"], cap.objects)
        number = int((cap.objects & findings.errors.is_missed).sum())
        yield (repaired or base) - base, f"{plural(number, 'object')} {cap.what}", cap.remedy


def _of_types(findings: Findings, base: float) -> Iterator[tuple[float, str, str]]:
    """The same of each type of error."""
    for name, entry in findings.costs["types"].items():
        gain, number = entry["gain"], entry["count"]
        detections = plural(number, "detection")
        if not number:
            continue
        if name == "missed":
            yield _missed(findings, base)
        elif name == "classification":
            yield gain, *_confused(findings, number)
        elif name == "duplicate":
            threshold = "model.roi_heads.nms_thresh"
            remedy = f"a lower {threshold}{findings.now(threshold)}"
            yield gain, f"{detections} of objects that a better one had found", remedy
        else:
            whats = {
                "localisation": plural(number, "detection that overlaps", "detections that overlap")
                + " an object of the class too little",
                "both": f"{detections} of the wrong class that overlap an object too little",
                "background": f"{detections} where no object is labelled",
            }
            yield gain, whats[name], _REMEDIES[name]


def _missed(findings: Findings, base: float) -> tuple[float, str, str]:
    """Missed objects that no cap cut off: small ones, crowded ones, one class, or all of them."""
    is_wanted = ~findings.errors.table.objects.ignored
    for cap in findings.caps:
        is_wanted = is_wanted & ~cap.objects
    missed = findings.errors.is_missed & is_wanted
    gain = (repaired_ap50(findings.errors, ["missed"], is_wanted) or base) - base

    def of_all(objects: NDArray[np.bool_]) -> str:
        return f"{int((missed & objects).sum()):,} of {int((is_wanted & objects).sum()):,}"

    def part(objects: NDArray[np.bool_]) -> float | None:
        """The gain of these alone; None if they are not most of it, or missed hardly more often than the rest."""
        rates = [missed[some].sum() / max(int(some.sum()), 1) for some in (is_wanted & objects, is_wanted & ~objects)]
        if rates[0] < _MORE_OFTEN * rates[1]:
            return None
        repaired = repaired_ap50(findings.errors, ["missed"], is_wanted & objects)
        return None if repaired is None or repaired - base < _MOST_OF_IT * gain else repaired - base

    by_name = {found.name: found.objects for found in findings.slices}
    nobody = np.zeros(len(missed), dtype=np.bool_)
    small = nobody
    for name, high in zip(_SMALL, (16, 32), strict=True):
        small = small | by_name.get(name, nobody)
        if (of_small := part(small)) is not None:
            return (
                of_small,
                f"missed objects under {high} px ({of_all(small)} such objects)",
                "a larger picture: finemask data tile for large images, else a model.min_size above its present value"
                f"{findings.now('model.min_size')}; and smaller model.anchors.sizes",
            )
    crowded = by_name.get(_CROWDED, nobody)
    if (of_crowded := part(crowded)) is not None:
        return (
            of_crowded,
            f"missed objects whose box overlaps a neighbour's by an IoU over 0.5 ({of_all(crowded)} such objects)",
            f"a higher model.roi_heads.nms_thresh{findings.now('model.roi_heads.nms_thresh')}, above the IoU of the "
            "boxes",
        )
    category, positives = findings.errors.table.objects.category, findings.errors.table.positives()
    if (positives > 0).sum() > 1:
        worst = int(np.argmax(np.bincount(category[missed], minlength=len(positives)) / np.maximum(positives, 1)))
        if (of_worst := part(category == worst)) is not None:
            return (
                of_worst,
                f"missed objects of the class {findings.names[worst]} ({of_all(category == worst)} such objects)",
                f"more labels of {findings.names[worst]}, or its images shown more often: "
                f"data.repeat_threshold{findings.now('data.repeat_threshold')}",
            )
    return gain, f"missed objects ({of_all(is_wanted)})", _REMEDIES["missed"]


def _confused(findings: Findings, number: int) -> tuple[str, str]:
    """Detections of the wrong class, and the two classes that are confused most, if they stand out."""
    errors, detections = findings.errors, findings.errors.table.detections
    rows = np.flatnonzero(errors.type == DETECTION_ERRORS.index("classification"))
    # of pairs that are equally frequent the first is named, image by image
    rows = rows[np.lexsort((detections.result[rows], -detections.score[rows], detections.image[rows]))]
    truth = errors.table.objects.category[errors.aim[rows]]
    pairs = Counter(zip(truth.tolist(), detections.category[rows].tolist(), strict=True))
    (true, wrong), times = pairs.most_common(1)[0]
    what = f"{plural(number, 'detection')} of the wrong class"
    if times < _STANDS_OUT * number:
        what += f", spread over {len(pairs)} pairs of classes"
        return what, "more labels of the classes that the confusion matrix shows to be found least; or fewer classes"
    names = findings.names[true], findings.names[wrong]
    return f"{what}, most often {names[0]} taken for {names[1]} ({times:,})", (
        f"more labels of {names[0]} and {names[1]}; finemask data suspects lists those that may be labelled wrongly"
    )
