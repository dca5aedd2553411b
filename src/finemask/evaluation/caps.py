"""Objects that were missed for want of room: a cap on the number of detections left out what would have found them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from finemask.evaluation.coco import CocoEvaluator
from finemask.evaluation.matching import Assignment, assign
from finemask.evaluation.overlaps import find_overlaps
from finemask.evaluation.ranking import Candidates, capped_candidates
from finemask.evaluation.settings import resolved_cap
from finemask.ops.wording import count, plural

_USUAL_CAPS = (100, 200, 300, 500, 1000)  # of detectors
_LEAST_CAP, _LEAST_IMAGES = 10, 3  # so many images with so many detections each, and none with more: a cap of its own


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


def find_caps(
    evaluator: CocoEvaluator, assignment: Assignment, iou_type: str, settings: Mapping[str, Any]
) -> list[Cap]:
    """The caps that cost objects: the evaluation's, and the one under which the detections were made.

    Args:
        evaluator: with all detections added.
        assignment: of what its cap kept.
        iou_type: of the assignment.
        settings: known ones by their keys; ``model.roi_heads.detections_per_img`` is looked for.
    """
    return [
        cap
        for cap in (
            _of_evaluation(evaluator, assignment, iou_type),
            _of_detections(evaluator, assignment, settings.get("model.roi_heads.detections_per_img")),
        )
        if cap is not None and cap.objects.any()
    ]


def _of_evaluation(evaluator: CocoEvaluator, assignment: Assignment, iou_type: str) -> Cap | None:
    """Objects that a detection beyond ``max_detections`` would have found."""
    truth, results, objects = evaluator.ground_truth, evaluator.result_table, assignment.objects
    everything = capped_candidates(results, len(results) + 1)
    cut = np.isin(everything.result, assignment.candidates.result, invert=True)
    if not cut.any():
        return None
    rows = np.isin(everything.image, everything.image[cut])
    crowded = Candidates(**{name: column[rows] for name, column in vars(everything).items()})
    overlaps = find_overlaps(truth, results, objects, crowded, iou_type)
    found_by = assign(objects, crowded, overlaps, assignment.categories).found_by
    cap, automatic = evaluator.max_detections, resolved_cap("auto", truth)
    cells = np.unique(np.stack([everything.image, everything.category]), axis=1, return_counts=True)[1]
    return Cap(
        (found_by >= 0) & (assignment.found_by < 0),
        f"cut off by max_detections={cap}: of one class in one image no more are counted",
        "max_detections=auto" if cap < automatic else f"max_detections={int(cells.max())}",
    )


def _of_detections(evaluator: CocoEvaluator, assignment: Assignment, limit: Any) -> Cap | None:
    """Objects that nothing found in images which hold more of them than the detections that were kept of an image."""
    truth, objects = evaluator.ground_truth, assignment.objects
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
        full[objects.image] & (assignment.found_by < 0) & ~objects.ignored,
        f"in {plural(int(full.sum()), 'image')} that {'holds' if full.sum() == 1 else 'hold'} more objects than the "
        f"{count(limit)} detections which are kept of an image",
        f"detections_per_img={room} in finemask predict and evaluate; a model that is trained with "
        "model.roi_heads.detections_per_img=auto has the room by itself",
    )
