"""The few changes that would gain most, each with the numbers that say so.

For every error type the AP50 is computed with that type alone put right, and the types are ranked by what they gain. If
most of what missed objects cost is due to those of one size, class or kind of place, the advice is about these.
"""

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from finemask.evaluation.matching import Assignment
from finemask.evaluation.slices import CROWDINGS, SIZES, Slice
from finemask.evaluation.tide import DETECTION_ERRORS, Errors, repaired_ap50

MOST = 3
_LEAST_GAIN = 0.005  # of AP50: what is less is not worth anybody's week
_MOST_OF_IT = 0.5  # a part of a type's gain from which the advice is about that part
_STANDS_OUT = 0.1  # part of all confusions from which a pair of classes is named
_SMALL = (SIZES[0][0], SIZES[1][0])
_CROWDED = CROWDINGS[-1][0]

_REMEDIES = {
    "localisation": "train longer (trainer.max_epochs), or with a larger picture (model.min_size); finemask "
    "data suspects lists labels whose outlines may not fit",
    "both": "finemask data suspects lists labels that may be wrong there; a higher threshold takes most of these away",
    "duplicate": "a lower model.roi_heads.nms_thresh",
    "background": "finemask data suspects lists those that may be objects without a label; if they are none, add "
    "images without objects (data.empty_images=keep)",
    "missed": "more labelled images that show such objects, or longer training (trainer.max_epochs)",
}


@dataclass(frozen=True)
class Findings:
    """What the advice is drawn from.

    Args:
        assignment: all detections.
        errors: of it.
        table: what the types of errors cost, as ``error_table`` gives it.
        slices: of the assignment.
        names: of the categories, by ascending id.
    """

    assignment: Assignment
    errors: Errors
    table: dict[str, Any]
    slices: list[Slice]
    names: list[str]


def give_advice(findings: Findings) -> list[dict[str, Any]]:
    """At most three entries of ``gain`` in AP50, ``share`` of the missing AP50, ``problem``, ``remedy``; best first.

    Nothing is advised on a gain of less than half a point, or where there is no AP.
    """
    base = findings.table["AP50"]
    if base is None or base >= 1:
        return []
    gains = {name: entry["gain"] for name, entry in findings.table["types"].items() if entry["gain"] >= _LEAST_GAIN}
    entries = []
    for name in sorted(gains, key=lambda name: -gains[name])[:MOST]:
        gain, what, remedy = _entry(findings, name, base)
        share = gain / (1 - base)
        repaired = f"put right, they would make it {base + gain:.3f}, not {base:.3f}"
        problem = f"{share:.0%} of the missing AP50 is {what}; {repaired}"
        entries.append({"gain": gain, "share": share, "problem": problem, "remedy": remedy})
    return sorted(entries, key=lambda entry: -entry["gain"])


def _entry(findings: Findings, name: str, base: float) -> tuple[float, str, str]:
    """The gain, what is wrong, and what to do about it."""
    gain, count = findings.table["types"][name]["gain"], findings.table["types"][name]["count"]
    if name == "missed":
        return _missed(findings, gain, base)
    if name == "classification":
        return gain, *_confused(findings, count)
    whats = {
        "localisation": f"{_number(count, 'detection')} that overlap an object of the class too little",
        "both": f"{_number(count, 'detection')} of the wrong class that overlap an object too little",
        "duplicate": f"{_number(count, 'detection')} of objects that a better one had found",
        "background": f"{_number(count, 'detection')} where no object is labelled",
    }
    return gain, whats[name], _REMEDIES[name]


def _missed(findings: Findings, gain: float, base: float) -> tuple[float, str, str]:
    """Missed objects: small ones, crowded ones, one class, or all of them."""
    missed, is_wanted = findings.errors.is_missed, ~findings.assignment.objects.ignored

    def count(objects: NDArray[np.bool_]) -> str:
        return f"{int((missed & objects).sum())} of {int((is_wanted & objects).sum())}"

    def part(objects: NDArray[np.bool_]) -> float | None:
        """The gain of these alone; None if they are not most of the matter, or missed no more often than the rest."""
        rates = [missed[some].sum() / max(int(some.sum()), 1) for some in (is_wanted & objects, is_wanted & ~objects)]
        if rates[0] <= rates[1]:
            return None
        repaired = repaired_ap50(findings.assignment, findings.errors, ["missed"], objects)
        return None if repaired is None or repaired - base < _MOST_OF_IT * gain else repaired - base

    by_name = {found.name: found.objects for found in findings.slices}
    nobody = np.zeros(len(missed), dtype=np.bool_)
    small = nobody
    for name, high in zip(_SMALL, (16, 32), strict=True):
        small = small | by_name.get(name, nobody)
        if (of_small := part(small)) is not None:
            return (
                of_small,
                f"missed objects under {high} px ({count(small)} such objects)",
                "a larger picture: finemask data tile for large images, else model.min_size above its present value; "
                "and smaller model.anchors.sizes",
            )
    crowded = by_name.get(_CROWDED, nobody)
    if (of_crowded := part(crowded)) is not None:
        return (
            of_crowded,
            f"missed objects whose box overlaps a neighbour's by an IoU over 0.5 ({count(crowded)} such objects)",
            "a higher model.roi_heads.nms_thresh, above the IoU of the boxes",
        )
    category, positives = findings.assignment.objects.category, findings.assignment.positives()
    if (positives > 0).sum() > 1:
        worst = int(np.argmax(np.bincount(category[missed], minlength=len(positives)) / np.maximum(positives, 1)))
        if (of_worst := part(category == worst)) is not None:
            return (
                of_worst,
                f"missed objects of the class {findings.names[worst]} ({count(category == worst)} such objects)",
                f"more labels of {findings.names[worst]}, or its images shown more often (data.repeat_threshold)",
            )
    return gain, f"missed objects ({count(is_wanted)})", _REMEDIES["missed"]


def _confused(findings: Findings, count: int) -> tuple[str, str]:
    """Detections of the wrong class, and the two classes that are confused most, if they stand out."""
    errors, category = findings.errors, findings.assignment.objects.category
    rows = np.flatnonzero(errors.type == DETECTION_ERRORS.index("classification"))
    truth, said = category[errors.aim[rows]].tolist(), findings.assignment.candidates.category[rows].tolist()
    pairs = Counter(zip(truth, said, strict=True))
    (true, wrong), number = pairs.most_common(1)[0]
    what = f"{_number(count, 'detection')} of the wrong class"
    if number < _STANDS_OUT * count:
        what += f", spread over {len(pairs)} pairs of classes"
        return what, "more labels of the classes that the confusion matrix shows to be found least; or fewer classes"
    names = findings.names[true], findings.names[wrong]
    return f"{what}, most often {names[0]} taken for {names[1]} ({number})", (
        f"more labels of {names[0]} and {names[1]}; finemask data suspects lists those that may be labelled wrongly"
    )


def _number(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"
