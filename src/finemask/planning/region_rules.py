"""Rules of the plan about regions: proposals of the RPN and those that the heads learn from, in crowded images."""

from finemask.ops.wording import plural
from finemask.planning.decision import Decision, Settings
from finemask.planning.fingerprint import Fingerprint

# Every object needs a proposal that survives among false ones: as ``data stats`` advises.
_PROPOSALS_AN_OBJECT = 2
# Regions of a training image for each object of a full one; a quarter are positives: Faster R-CNN, Ren et al. 2015.
_REGIONS_AN_OBJECT, _MOST_REGIONS = 4, 256
_FULL_IMAGE = 75  # percentile of objects an image
_RPN = ("model.rpn.pre_nms_top_n_train", "model.rpn.pre_nms_top_n_test",
        "model.rpn.post_nms_top_n_train", "model.rpn.post_nms_top_n_test")  # fmt: skip


def proposals(data: Fingerprint, now: Settings) -> Decision | None:
    """Room for every object of the fullest image; on a GPU, where it costs little."""
    if not now.machine.gpus:
        return None
    needed = -(-_PROPOSALS_AN_OBJECT * data.fullest // 100) * 100
    few = [(key, now[key]) for key in _RPN if isinstance(now[key], int) and now[key] < needed]
    changes = tuple((key, needed) for key, _ in few if not now.is_given(key))
    if not changes:
        return None
    least = min(number for _, number in few)
    why = f"the fullest image holds {plural(data.fullest, 'object')}; {least} proposals are too few for them"
    return Decision(changes, why, "two an object, as data stats advises")


def regions(data: Fingerprint, now: Settings) -> Decision | None:
    """Enough regions an image for the heads to learn from each object of a full one; on a GPU, which has the time."""
    key = "model.sampler.batch_size_per_image"
    present, full = now[key], data.crowded(_FULL_IMAGE)
    if not now.machine.gpus or not isinstance(present, int) or now.is_given(key, "model/sampler"):
        return None
    best = min(_MOST_REGIONS, -(-_REGIONS_AN_OBJECT * full // 32) * 32)
    if best <= present:
        return None
    why = f"a quarter of the images hold {full} objects or more; {present} regions leave {present // 4} for objects"
    return Decision(((key, best),), why, "a quarter are positives (Ren et al. 2015)")
