"""The four ways in which detections contradict labels, each with the probability that the label is at fault."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from finemask.datatools.suspects.scene import SAME_OBJECT_IOU, Scene, mask_iou
from finemask.datatools.suspects.trust import fit_trust, looseness
from finemask.types import Rle

RuleName: TypeAlias = Literal["missing-label", "wrong-class", "loose-mask", "duplicate-label"]
RULES: dict[RuleName, str] = {
    "missing-label": "a confident detection where no label is",
    "wrong-class": "a label that the model takes for another class",
    "loose-mask": "a mask that overlaps the model's clearly less than usual",
    "duplicate-label": "two labels where the model sees one object",
}
"""Every rule and what it looks for."""

_SURELY_ONE_IOU = 0.8  # visible parts of two objects never overlap so far


@dataclass(frozen=True, slots=True)
class Suspect:
    """A label that is probably at fault, or one that is probably missing.

    Args:
        rule: which kind of fault.
        score: 0..1, the estimated probability of the fault.
        scene: the image.
        labels: positions of the labels concerned in the scene; of a duplicate the one to remove first.
        detection: position of the detection that speaks against them.
        iou: of that detection with the label; of a duplicate, of its two labels; None where there is no label.
        usual_iou: of a loose mask, what this model has with the labels; else None.
    """

    rule: RuleName
    score: float
    scene: Scene
    labels: tuple[int, ...]
    detection: int
    iou: float | None = None
    usual_iou: float | None = None

    @property
    def rle(self) -> Rle:
        """The detection's mask."""
        return self.scene.rles[self.detection]

    @property
    def label(self) -> int:
        """The detection's class, 1..K."""
        return int(self.scene.classes[self.detection])


def find_suspects(scenes: Sequence[Scene], min_score: float = 0.0) -> list[Suspect]:
    """Ranks what the detections say against the labels.

    All scores are probabilities on one scale. It begins with the probability that a detection of its score is right,
    learned from how many detections of such scores have a label (``fit_trust``), and is multiplied with what else the
    fault needs: for a missing label, that its pixels are free; for a wrong class, that the class of the label is not
    detected there; for a loose mask, that its IoU is out of the ordinary (``looseness``); for a duplicate, that the
    two overlap as one object does, and that no second detection speaks for the second.

    Args:
        scenes: of all images; what is usual is learned from them together.
        min_score: what scores less is left out.

    Returns:
        Best score first; of an object at most one.
    """
    if not scenes:
        return []
    scores = np.concatenate([scene.scores for scene in scenes])
    right = np.concatenate([_found(scene) for scene in scenes])
    trust = fit_trust(scores, right)
    candidates: list[Suspect] = []
    for scene in scenes:
        believed = trust(scene.scores)
        candidates += [*_missing(scene, believed), *_wrong(scene, believed), *_duplicates(scene, believed)]
    candidates += _loose(scenes, [trust(scene.scores) for scene in scenes])
    return _one_per_object([suspect for suspect in candidates if suspect.score >= min_score])


def _found(scene: Scene) -> NDArray[np.bool_]:
    """Which detections found a label of their class, bool [D]."""
    rows = np.arange(len(scene.scores))
    if not scene.iou.size:
        return np.zeros(len(rows), dtype=np.bool_)
    return (scene.matches >= 0) & (scene.iou[rows, scene.matches] >= SAME_OBJECT_IOU)


def _missing(scene: Scene, believed: NDArray[np.float64]) -> Iterator[Suspect]:
    most = scene.iou.max(axis=1, initial=0.0)
    free = (1.0 - scene.covered) * (1.0 - most)
    for d in np.flatnonzero((scene.matches < 0) & (most < SAME_OBJECT_IOU)).tolist():
        yield Suspect("missing-label", float(believed[d] * free[d]), scene, (), d)


def _wrong(scene: Scene, believed: NDArray[np.float64]) -> Iterator[Suspect]:
    for a, label in enumerate(scene.label_classes.tolist()):
        near = scene.iou[:, a] >= SAME_OBJECT_IOU
        agrees = near & (scene.classes == label)
        others = np.flatnonzero(near & (scene.classes != label) & (scene.matches < 0))
        if len(others):
            d = int(others[0])  # detections stand by falling score
            score = believed[d] * (1.0 - believed[agrees].max(initial=0.0))
            yield Suspect("wrong-class", float(score), scene, (a,), d, float(scene.iou[d, a]))


def _duplicates(scene: Scene, believed: NDArray[np.float64]) -> Iterator[Suspect]:
    spoken_for = np.zeros(len(scene.label_ids))
    matched = np.flatnonzero(scene.matches >= 0)
    spoken_for[scene.matches[matched]] = believed[matched]
    for one, other in np.argwhere(np.triu(scene.label_iou >= SAME_OBJECT_IOU, k=1)).tolist():
        near = np.flatnonzero(scene.iou[:, [one, other]].max(axis=1) >= SAME_OBJECT_IOU)
        if not len(near):
            continue
        d, iou = int(near[0]), float(scene.label_iou[one, other])
        alike = min(1.0, (iou - SAME_OBJECT_IOU / 2) / (_SURELY_ONE_IOU - SAME_OBJECT_IOU / 2))
        score = believed[d] * alike * (1.0 - min(spoken_for[one], spoken_for[other]))
        fits = [(scene.label_classes[a] == scene.classes[d], scene.iou[d, a]) for a in (one, other)]
        pair = (other, one) if fits[0] >= fits[1] else (one, other)
        yield Suspect("duplicate-label", float(score), scene, pair, d, iou)


def _loose(scenes: Sequence[Scene], believed: Sequence[NDArray[np.float64]]) -> Iterator[Suspect]:
    pairs = [
        (k, d, int(scene.matches[d])) for k, scene in enumerate(scenes) for d in np.flatnonzero(scene.matches >= 0)
    ]
    iou = np.array([scenes[k].iou[d, a] for k, d, a in pairs])
    areas = np.array([scenes[k].areas[a] for k, _, a in pairs])
    usual = float(np.median(iou)) if pairs else 0.0
    for (k, d, a), sure, overlap in zip(pairs, looseness(iou, areas), iou.tolist(), strict=True):
        if sure > 0:
            yield Suspect("loose-mask", float(believed[k][d] * sure), scenes[k], (a,), int(d), overlap, usual)


def _one_per_object(candidates: Sequence[Suspect]) -> list[Suspect]:
    kept: list[Suspect] = []
    labels_taken: set[tuple[int, int]] = set()
    free: dict[int, list[Suspect]] = {}  # missing labels kept, by image: several detections may show one object
    for suspect in sorted(candidates, key=lambda suspect: -suspect.score):
        image = suspect.scene.image
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
