"""The choice of examples: the worst, best and random images; false detections, missed objects, confused classes."""

from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

import numpy as np

from finemask.evaluation.ground_truth import GroundTruth
from finemask.ops.wording import plural, word
from finemask.pages.instance_pictures import box_xywh
from finemask.reports.verdicts import RIGHT_IOU, FalseDetection, Verdicts
from finemask.types import CocoResult

PER_GALLERY = 6  # whole images
FALSE_SHOWN, MISSED_SHOWN, CONFUSED_SHOWN = 16, 8, 16  # of each size, for what was missed
_PER_IMAGE, _PER_PAIR = 2, 2  # so that neither one image nor one pair of classes fills a gallery
_SIZES = (  # COCO's, √area in px
    ("large", "96 px and more", 96.0, float("inf")),
    ("medium", "32 to 96 px", 32.0, 96.0),
    ("small", "under 32 px", 0.0, 32.0),
)
_TOUCHING = 0.1  # IoU from which a detection and an object have to do with each other
_SEED = 0
_T = TypeVar("_T")


@dataclass(frozen=True)
class Outcome:
    """How one image went at the operating point.

    Args:
        image_id: in the ground truth.
        found: objects that a detection matches at the IoU of the operating point.
        false: detections that match nothing.
        missed: objects that no detection matches.
        confused: how many of the false detections only have the wrong class.
    """

    image_id: int
    found: int
    false: int
    missed: int
    confused: int = 0

    @property
    def f1(self) -> float:
        """In [0, 1]; 1 for an image without objects in which nothing was reported."""
        counts = 2 * self.found + self.false + self.missed
        return 2 * self.found / counts if counts else 1.0


def image_outcomes(ground_truth: GroundTruth, results: Sequence[CocoResult], verdicts: Verdicts) -> list[Outcome]:
    """Every image's counts, in the order of the ground truth.

    Args:
        ground_truth: of the evaluation.
        results: of the evaluation.
        verdicts: of the evaluation.
    """
    found, missed = (
        Counter(ground_truth.annotations[position]["image_id"] for position in positions)
        for positions in (verdicts.found_by, verdicts.missed)
    )
    false = Counter(results[detection.result]["image_id"] for detection in verdicts.false)
    confused = Counter(results[f.result]["image_id"] for f in verdicts.false if f.is_confused)
    return [Outcome(id_, found[id_], false[id_], missed[id_], confused[id_]) for id_ in ground_truth.images]


def choose_images(outcomes: Sequence[Outcome], number: int = PER_GALLERY) -> dict[str, list[Outcome]]:
    """The worst, the best and some random images, no image twice.

    Worst and best go by F1; of equals, the image with more errors or more objects found comes first. Images
    that have neither objects nor detections say nothing and are left out of both.

    Args:
        outcomes: of all images.
        number: how many of each.
    """
    telling = [o for o in outcomes if o.found + o.false + o.missed]
    worst = sorted(telling, key=lambda o: (o.f1, -o.false - o.missed, o.image_id))
    worst = [o for o in worst if o.f1 < 1][: min(number, (len(telling) + 1) // 2)]
    best = sorted(telling, key=lambda o: (-o.f1, -o.found, o.image_id))
    best = [o for o in best if o.found and o not in worst][:number]
    others = [o for o in outcomes if o not in worst and o not in best]
    picked = np.random.default_rng(_SEED).permutation(len(others))[:number]
    return {"worst": worst, "best": best, "random": [others[i] for i in sorted(picked.tolist())]}


class PlannedExample(NamedTuple):
    """A picture to make: its words, and what it shows; without a box, the whole image."""

    image_id: int
    name: str
    detail: str
    outcome: Outcome | None = None
    around: list[float] | None = None  # xywh px


class GalleryPlan(NamedTuple):
    """A gallery before it is drawn: its heading, what its pictures have in common, and the pictures."""

    title: str
    note: str
    examples: list[PlannedExample]


def plan_whole_images(ground_truth: GroundTruth, outcomes: Sequence[Outcome]) -> Iterator[GalleryPlan]:
    """Galleries of the worst, the best and some random images; a gallery may have none."""
    headings = {
        "worst": ("Worst images", "Lowest F1: begin here to see what goes wrong."),
        "best": ("Best images", "Highest F1."),
        "random": ("Random images", "Drawn without looking at the result, so they show the ordinary case."),
    }
    for key, group in choose_images(outcomes).items():
        names = [ground_truth.images[outcome.image_id].file_name for outcome in group]
        yield GalleryPlan(
            *headings[key],
            [PlannedExample(o.image_id, name, "", outcome=o) for o, name in zip(group, names, strict=True)],
        )


def plan_mistakes(
    ground_truth: GroundTruth, results: Sequence[CocoResult], verdicts: Verdicts
) -> Iterator[GalleryPlan]:
    """Chooses the mistakes to look at; a gallery may have none.

    Args:
        ground_truth: of the evaluation.
        results: of the evaluation.
        verdicts: of the evaluation.
    """
    mistakes = _Mistakes(
        ground_truth.annotations,
        results,
        verdicts,
        {category.id: category.name for category in ground_truth.categories},
    )
    yield mistakes.false()
    for size in _SIZES:
        yield mistakes.missed(*size)
    yield mistakes.confused()


@dataclass(frozen=True)
class _Mistakes:
    annotations: Sequence[Mapping[str, Any]]
    results: Sequence[CocoResult]
    verdicts: Verdicts
    names: Mapping[int, str]

    def false(self) -> GalleryPlan:
        others = [false for false in self.verdicts.false if not false.is_confused]
        shown = _at_most(others, lambda false: self.results[false.result]["image_id"], _PER_IMAGE)[:FALSE_SHOWN]
        return GalleryPlan(
            "False detections",
            f"Best score first, at most {_PER_IMAGE} of an image: where the model is surest of what is not labelled. "
            "Some of these may be objects that nobody labelled.",
            [self._of_detection(false, self._predicted(false), self._lies_on(false)) for false in shown],
        )

    def missed(self, size: str, limits: str, low: float, high: float) -> GalleryPlan:
        def area(position: int) -> float:
            return float(self.annotations[position]["area"])

        missed = sorted((p for p in self.verdicts.missed if low <= area(p) ** 0.5 < high), key=lambda p: -area(p))
        shown = _at_most(missed, lambda p: self.annotations[p]["image_id"], _PER_IMAGE)[:MISSED_SHOWN]
        nearest = {false.annotation: false for false in sorted(self.verdicts.false, key=lambda false: false.overlap)}
        return GalleryPlan(
            f"Missed: {size} objects",
            f"{plural(len(missed), 'object')} of this size ({limits}, the square root of the area) "
            f"{word(len(missed), 'was', 'were')} missed. The "
            f"largest first, at most {_PER_IMAGE} of an image.",
            [self._of_object(position, nearest.get(position)) for position in shown],
        )

    def confused(self) -> GalleryPlan:
        confused = [false for false in self.verdicts.false if false.is_confused]

        def pair(false: FalseDetection) -> tuple[str, str]:
            return self._labelled(false), self._predicted(false)

        times = Counter(map(pair, confused))
        shown = sorted(_at_most(confused, pair, _PER_PAIR), key=lambda false: (-times[pair(false)], pair(false)))
        return GalleryPlan(
            "Confused classes",
            f"The place is right (IoU {RIGHT_IOU} or more), the class is not. The commonest pairs first, at most "
            f"{_PER_PAIR} of each, best score first.",
            [
                self._of_detection(false, " taken for ".join(pair(false)), f"overlap {false.overlap:.2f}")
                for false in shown[:CONFUSED_SHOWN]
            ],
        )

    def _predicted(self, false: FalseDetection) -> str:
        return self.names[self.results[false.result]["category_id"]]

    def _labelled(self, false: FalseDetection) -> str:
        """The class of the object that it overlaps most; empty if there is none."""
        return "" if false.annotation is None else self.names[self.annotations[false.annotation]["category_id"]]

    def _lies_on(self, false: FalseDetection) -> str:
        if false.overlap < _TOUCHING:
            return "nothing is labelled here"
        if false.overlap >= RIGHT_IOU:
            return f"a second detection of one {self._labelled(false)}"
        return f"overlaps a labelled {self._labelled(false)} by {false.overlap:.2f}"

    def _of_detection(self, false: FalseDetection, name: str, detail: str) -> PlannedExample:
        result = self.results[false.result]
        return PlannedExample(
            result["image_id"], name, f"score {result['score']:.2f}, {detail}", around=box_xywh(result)
        )

    def _of_object(self, position: int, nearest: FalseDetection | None) -> PlannedExample:
        annotation = self.annotations[position]
        box, class_name = box_xywh(annotation), self.names[annotation["category_id"]]
        fate = "not detected"
        if nearest is not None and nearest.overlap >= _TOUCHING:
            other = self._predicted(nearest)
            by = "a detection" if other == class_name else f"a detection of {other}"
            fate = f"{by} overlaps it by {nearest.overlap:.2f}"
        return PlannedExample(annotation["image_id"], f"{class_name}, {box[2]:.0f} × {box[3]:.0f} px", fate, around=box)


def _at_most(entries: Iterable[_T], group: Callable[[_T], Hashable], most: int) -> list[_T]:
    """The entries in their order, no more than so many of a group."""
    taken: Counter[Hashable] = Counter()
    kept = []
    for entry in entries:
        taken[group(entry)] += 1
        if taken[group(entry)] <= most:
            kept.append(entry)
    return kept
