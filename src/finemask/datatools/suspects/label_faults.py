"""Label faults that detections point to: missing labels, wrong classes, loose masks, duplicates; with probabilities."""

from collections import Counter
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from finemask.datatools.suspects.compared_images import SAME_OBJECT_IOU, ComparedImage
from finemask.datatools.suspects.fault_probability import fit_trust, logits, looseness
from finemask.ops.rle import mask_iou, rle_area
from finemask.types import Rle

RuleName: TypeAlias = Literal["missing-label", "wrong-class", "loose-mask", "duplicate-label"]
RULES: dict[RuleName, str] = {
    "missing-label": "a confident detection where no label is",
    "wrong-class": "a label that the model takes for another class",
    "loose-mask": "a mask that overlaps the model's clearly less than usual",
    "duplicate-label": "two labels where the model sees one object",
}
"""Every rule and what it looks for."""

_CREDIBLE_SHARE = 0.02  # of the labels: faults of one kind that a dataset is taken to have at most
_UNSEEN_SCORE = 0.02  # of a class that is not detected: below what is kept
_OTHER_CLASS = 3.0  # how unlike pairs of different classes are, in logarithms of size and score
_SURELY_ONE_IOU = 0.8  # visible parts of two objects never overlap so far


@dataclass(frozen=True, slots=True)
class Suspect:
    """A label that is probably at fault, or one that is probably missing.

    Args:
        rule: which kind of fault.
        score: 0..1, the estimated probability of the fault.
        image: it, with its labels and detections.
        labels: positions of the labels concerned in the image; of a duplicate the one to remove first.
        detection: position of the detection that speaks against them.
        iou: of that detection with the label; of a duplicate, of its two labels; None where there is no label.
        usual_iou: of a loose mask, what this model has with the labels; else None.
    """

    rule: RuleName
    score: float
    image: ComparedImage
    labels: tuple[int, ...]
    detection: int
    iou: float | None = None
    usual_iou: float | None = None

    @property
    def rle(self) -> Rle:
        """The detection's mask."""
        return self.image.rles[self.detection]

    @property
    def label(self) -> int:
        """The detection's class, 1..K."""
        return int(self.image.classes[self.detection])


def find_suspects(images: Sequence[ComparedImage], min_score: float = 0.0) -> list[Suspect]:
    """Ranks suspected label faults.

    All scores are probabilities on one scale. It begins with the probability that a detection of its score is right,
    learned from how many detections of such scores have a label (``fit_trust``), and is multiplied with what else the
    fault needs: for a missing label, that its pixels are free; for a wrong class, that the class of the label is not
    detected there; for a loose mask, that its IoU is out of the ordinary (``looseness``); for a duplicate, that the
    two overlap as one object does, and that no second detection speaks for the second.

    Args:
        images: of all images; what is usual is learned from them together.
        min_score: what scores less is left out.

    Returns:
        Best score first; of an object at most one.
    """
    if not images:
        return []
    trust = _trust_in(images)
    candidates = [*_wrong_classes(images), *_loose_masks(images)]
    for image, trusted in zip(images, trust, strict=True):
        candidates += [*_missing_labels(image, trusted), *_duplicate_labels(image, trusted)]
    ranked = _suppress_same_object(candidates)
    credible = _CREDIBLE_SHARE * sum(len(image.label_ids) for image in images)
    return [suspect for suspect in _discounted(ranked, credible) if suspect.score >= min_score]


def _discounted(ranked: Sequence[Suspect], credible: float) -> list[Suspect]:
    """Of a kind with more suspects than there can be faults, those behind are worth less.

    First of each two classes that are taken for one another: what a model confuses all the time says more about the
    model (Northcutt et al. 2021, "Confident learning", estimate label errors by pairs of classes). Then of each rule.
    """
    confused = [_class_pair(suspect) for suspect in ranked if suspect.rule == "wrong-class"]
    of_pair = credible / max(1, len(set(confused)))
    ranked = _ration(ranked, lambda suspect: _class_pair(suspect) if suspect.rule == "wrong-class" else None, of_pair)
    return _ration(ranked, lambda suspect: suspect.rule, credible)


def _class_pair(suspect: Suspect) -> tuple[int, int]:
    """Of a wrong class: the label's, and the one that the model sees."""
    return int(suspect.image.label_classes[suspect.labels[0]]), suspect.label


def _ration(ranked: Sequence[Suspect], kind: Callable[[Suspect], Hashable | None], credible: float) -> list[Suspect]:
    """Best first, after the k-th of a kind has its score multiplied by ``credible / k``; None is no kind."""
    seen: Counter[Hashable] = Counter()
    found = []
    for suspect in ranked:
        key = kind(suspect)
        seen[key] += 1
        share = 1.0 if key is None else min(1.0, max(1.0, credible) / seen[key])
        found.append(replace(suspect, score=suspect.score * share))
    return sorted(found, key=lambda suspect: -suspect.score)


def _found_label(image: ComparedImage) -> NDArray[np.bool_]:
    """Which detections found a label of their class, bool [D]."""
    rows = np.arange(len(image.scores))
    if not image.iou.size:
        return np.zeros(len(rows), dtype=np.bool_)
    return (image.matches >= 0) & (image.iou[rows, image.matches] >= SAME_OBJECT_IOU)


def _trust_in(images: Sequence[ComparedImage]) -> list[NDArray[np.float64]]:
    """For each image, the probability [D] that its detections are objects of their class.

    A detection that found no label counts as wrong as far as no other label explains it.
    """
    scores = np.concatenate([image.scores for image in images])
    sizes = np.concatenate([_sizes(image) for image in images])
    right = np.concatenate([_found_label(image) for image in images])
    free = np.concatenate([_unexplained(image) for image in images])
    evidence = np.stack([logits(scores), sizes], axis=1)
    trusted = fit_trust(evidence, right, np.where(right, 1.0, free))
    return np.split(trusted, np.cumsum([len(image.scores) for image in images])[:-1])


def _sizes(image: ComparedImage) -> NDArray[np.float64]:
    """Logarithm of the pixels of each detection [D]."""
    return np.log(np.array([rle_area(rle) for rle in image.rles], dtype=np.float64))


def _unexplained(image: ComparedImage) -> NDArray[np.float64]:
    """Share of each detection that no label explains, 0..1 [D]."""
    return np.asarray((1.0 - image.covered) * (1.0 - image.iou.max(axis=1, initial=0.0)), dtype=np.float64)


def _missing_labels(image: ComparedImage, believed: NDArray[np.float64]) -> Iterator[Suspect]:
    free = _unexplained(image)
    least = image.iou.max(axis=1, initial=0.0) < SAME_OBJECT_IOU
    for d in np.flatnonzero((image.matches < 0) & least).tolist():
        yield Suspect("missing-label", float(believed[d] * free[d]), image, (), d)


def _wrong_classes(images: Sequence[ComparedImage]) -> Iterator[Suspect]:
    """Labels where the best detection is of another class than theirs.

    How often that detection is right is learned from the labels, by its score, by its lead over other classes, by how
    well it fits the label's outline, and by the size.
    """
    leaders = [(image, a, *leader) for image in images for a, leader in _best_detections(image)]
    if not leaders:
        return
    agrees = np.array([image.classes[d] == image.label_classes[a] for image, a, d, _ in leaders], dtype=np.bool_)
    scores = np.array([image.scores[d] for image, _, d, _ in leaders])
    fit = np.array([image.iou[d, a] for image, a, d, _ in leaders])
    sizes = np.log(np.array([image.areas[a] for image, a, *_ in leaders]))
    evidence = np.stack([logits(scores), [lead for *_, lead in leaders], logits(fit), sizes], axis=1)
    for (image, a, d, _), agree, trusted in zip(leaders, agrees, fit_trust(evidence, agrees), strict=True):
        if not agree and image.matches[d] < 0:  # what found a label of its own speaks against no other
            yield Suspect("wrong-class", float(trusted), image, (a,), d, float(image.iou[d, a]))


def _best_detections(image: ComparedImage) -> Iterator[tuple[int, tuple[int, float]]]:
    """For each label with a detection on it, the best of these, and the lead of its logit over other classes'."""
    for a in range(len(image.label_ids)):
        near = np.flatnonzero(image.iou[:, a] >= SAME_OBJECT_IOU)  # by falling score
        if len(near):
            others = near[image.classes[near] != image.classes[near[0]]]
            second = image.scores[others[0]] if len(others) else _UNSEEN_SCORE
            first, next_best = logits(np.array([image.scores[near[0]], second])).tolist()
            yield a, (int(near[0]), first - next_best)


def _duplicate_labels(image: ComparedImage, believed: NDArray[np.float64]) -> Iterator[Suspect]:
    spoken_for = np.zeros(len(image.label_ids))
    matched = np.flatnonzero(image.matches >= 0)
    spoken_for[image.matches[matched]] = believed[matched]
    for one, other in np.argwhere(np.triu(image.label_iou >= SAME_OBJECT_IOU, k=1)).tolist():
        near = np.flatnonzero(image.iou[:, [one, other]].max(axis=1) >= SAME_OBJECT_IOU)
        if not len(near):
            continue
        d, iou = int(near[0]), float(image.label_iou[one, other])
        alike = min(1.0, (iou - SAME_OBJECT_IOU / 2) / (_SURELY_ONE_IOU - SAME_OBJECT_IOU / 2))
        score = believed[d] * alike * (1.0 - min(spoken_for[one], spoken_for[other]))
        fits = [(image.label_classes[a] == image.classes[d], image.iou[d, a]) for a in (one, other)]
        pair = (other, one) if fits[0] >= fits[1] else (one, other)
        yield Suspect("duplicate-label", float(score), image, pair, d, iou)


def _loose_masks(images: Sequence[ComparedImage]) -> Iterator[Suspect]:
    """Labels whose detection covers too little of them, or they of it, beside others of class, size and score."""
    pairs = [(image, int(d), int(image.matches[d])) for image in images for d in np.flatnonzero(image.matches >= 0)]
    if not pairs:
        return
    iou = np.array([image.iou[d, a] for image, d, a in pairs])
    label_px = np.array([image.areas[a] for image, _, a in pairs])
    seen_px = np.array([rle_area(image.rles[d]) for image, d, _ in pairs], dtype=np.float64)
    common = iou * (label_px + seen_px) / (1 + iou)
    shares = np.stack([iou, common / label_px, common / seen_px], axis=1)
    scores = np.array([image.scores[d] for image, d, _ in pairs])
    classes = np.array([image.classes[d] for image, d, _ in pairs])
    likeness = np.stack([np.log(seen_px), logits(scores), classes * _OTHER_CLASS], axis=1)
    usual = float(np.median(iou))
    for (image, d, a), sure, overlap in zip(pairs, looseness(shares, likeness).tolist(), iou.tolist(), strict=True):
        if sure > 0:
            yield Suspect("loose-mask", sure, image, (a,), d, overlap, usual)


def _suppress_same_object(candidates: Sequence[Suspect]) -> list[Suspect]:
    kept: list[Suspect] = []
    labels_taken: set[tuple[int, int]] = set()
    free: dict[int, list[Suspect]] = {}  # missing labels kept, by image: several detections may show one object
    for suspect in sorted(candidates, key=lambda suspect: -suspect.score):
        image = suspect.image.position
        concerned = {(image, label) for label in suspect.labels}
        if concerned & labels_taken:
            continue
        if not concerned:
            known = free.setdefault(image, [])
            if known and mask_iou([suspect.rle], [other.rle for other in known]).max() >= SAME_OBJECT_IOU:
                continue
            known.append(suspect)
        labels_taken |= concerned
        kept.append(suspect)
    return kept
