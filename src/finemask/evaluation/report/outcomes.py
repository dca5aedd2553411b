"""How each image went, and which images to show whole."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from finemask.evaluation.ground_truth import GroundTruth
from finemask.evaluation.report.findings import Findings
from finemask.types import CocoResult

PER_GALLERY = 6
_SEED = 0


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


def image_outcomes(ground_truth: GroundTruth, results: Sequence[CocoResult], findings: Findings) -> list[Outcome]:
    """Every image's counts, in the order of the ground truth.

    Args:
        ground_truth: of the evaluation.
        results: of the evaluation.
        findings: of the evaluation.
    """
    found, missed = (
        Counter(ground_truth.annotations[position]["image_id"] for position in positions)
        for positions in (findings.found_by, findings.missed)
    )
    false = Counter(results[detection.result]["image_id"] for detection in findings.false)
    confused = Counter(results[f.result]["image_id"] for f in findings.false if f.is_confused)
    return [Outcome(id_, found[id_], false[id_], missed[id_], confused[id_]) for id_ in ground_truth.images]


def choose(outcomes: Sequence[Outcome], number: int = PER_GALLERY) -> dict[str, list[Outcome]]:
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
