"""Advice that follows from how many objects there are, and of which class."""

import numpy as np

from finemask.coco.index import CocoIndex
from finemask.data.image_weights import images_per_class
from finemask.datatools.stats.item import Advice
from finemask.datatools.stats.objects import Objects, overlapping_pairs
from finemask.datatools.stats.plan import ModelSettings
from finemask.datatools.stats.summary import objects_per_image
from finemask.ops.wording import count, names, percent, plural

_FEW = 10  # objects of a class
_IMBALANCE = 10  # times more objects in the largest class than in the smallest
_MOST_REPEATED = 4.0  # times an epoch
_PROPOSALS_PER_OBJECT = 2
_WORTH_NMS = 0.01  # of the objects
_COCO_CAP = 100


def detection_cap(index: CocoIndex, objects: Objects, settings: ModelSettings) -> Advice:
    """Room for every object of the fullest image."""
    fullest = objects_per_image(index, objects)
    most = int(fullest.max())
    key = "model.roi_heads.detections_per_img"
    holds = f"The fullest image holds {plural(most, 'object')}."
    automatic = (f"{key}=auto", "max_detections=auto")
    if settings.detections == "auto":
        room = max(_COCO_CAP, -(-3 * most // 2))
        text = f"{holds} The setting auto makes room for {count(room)}, in evaluation too."
        return Advice("detection cap", "keep", text, automatic)
    cap = int(settings.detections)
    if cap >= most:
        return Advice("detection cap", "keep", f"{holds} {count(cap)} detections are enough.", (f"{key}={cap}",))
    over = int((fullest > cap).sum())
    text = f"{holds} In {plural(over, 'image')} objects would be missed for want of room: {cap} detections."
    return Advice("detection cap", "change", text, automatic)


def proposals(index: CocoIndex, objects: Objects, settings: ModelSettings) -> list[Advice]:
    """Enough of them for every object; nothing to say where there are."""
    most = int(objects_per_image(index, objects).max())
    needed = -(-_PROPOSALS_PER_OBJECT * most // 100) * 100
    overrides = [
        f"model.rpn.{stage}_nms_top_n_{mode}={needed}"
        for mode, kept in (("train", settings.proposals_train), ("test", settings.proposals_test))
        if kept < needed
        for stage in ("pre", "post")
    ]
    if not overrides:
        return []
    kept = min(settings.proposals_train, settings.proposals_test)
    text = (
        f"The RPN hands at most {count(kept)} proposals an image to the heads; the fullest image holds "
        f"{plural(most, 'object')}, each of which needs one that survives among false ones."
    )
    return [Advice("proposals", "change", text, tuple(overrides))]


def suppression(objects: Objects, settings: ModelSettings) -> list[Advice]:
    """Objects of a class that overlap so much that one of them would be dropped."""
    found = overlapping_pairs(objects, settings.nms_thresh)
    if found < _WORTH_NMS * len(objects) or settings.nms_thresh >= 0.7:
        return []
    higher = 0.6 if settings.nms_thresh < 0.6 and overlapping_pairs(objects, 0.6) <= found / 2 else 0.7
    text = (
        f"The boxes of {plural(found, 'object')} ({percent(found / len(objects))}) overlap another one of their class "
        f"by more than {settings.nms_thresh:g}; non-maximum suppression drops one of each such pair. At {higher:g} "
        f"it is {count(overlapping_pairs(objects, higher))}, but more double detections get through."
    )
    return [Advice("crowded boxes", "option", text, (f"model.roi_heads.nms_thresh={higher:g}",))]


def rare_classes(index: CocoIndex, objects: Objects) -> Advice:
    """Whether images of rare classes are to be repeated; and classes that cannot be learned."""
    counts = np.bincount(objects.labels, minlength=len(index.categories) + 1)[1:]
    present = np.flatnonzero(counts)
    notes = []
    for what, chosen in (("no object at all", counts == 0), (f"fewer than {_FEW}", (counts > 0) & (counts < _FEW))):
        if chosen.any():
            found = [index.categories[k].name for k in np.flatnonzero(chosen)]
            notes.append(f"{plural(len(found), 'class has', 'classes have')} {what}: {names(found)}.")
    if len(present) == 1:
        name = index.categories[int(present[0])].name
        return Advice("rare classes", "keep", " ".join([f"There are objects of one class, {name}.", *notes]))
    common, rarest = present[counts[present].argmax()], present[counts[present].argmin()]
    ratio = counts[common] / counts[rarest]
    seen = (
        f"The largest class, {index.categories[common].name}, has {ratio:.1f} times as many objects as the smallest, "
        f"{index.categories[rarest].name}."
    )
    filled = max(1, int((objects_per_image(index, objects) > 0).sum()))
    frequency = images_per_class(index)[present] / filled
    least = float(frequency.min())
    threshold = float(f"{min(float(np.median(frequency)), _MOST_REPEATED**2 * least):.2g}")
    if ratio < _IMBALANCE or threshold <= least:
        why = "No image needs repeating." if ratio < _IMBALANCE else "Repeating images would not even that out."
        return Advice("rare classes", "keep", " ".join([seen, *notes, why]), ("data.repeat_threshold=null",))
    text = (
        f"The override shows classes in fewer than {percent(threshold)} of the images more often, the rarest "
        f"{(threshold / least) ** 0.5:.1f} times an epoch. More labelled images of them would help more."
    )
    return Advice("rare classes", "change", " ".join([seen, *notes, text]), (f"data.repeat_threshold={threshold:g}",))


def empty_images(index: CocoIndex, objects: Objects) -> list[Advice]:
    """Fewer images without objects, where they are the greater part."""
    filled = int((objects_per_image(index, objects) > 0).sum())
    empty = len(index) - filled
    if empty <= filled:
        return []
    fraction = float(f"{filled / empty:.2g}")
    text = (
        f"{count(empty)} of {plural(len(index), 'image')} have no object. They teach what is no object, but an epoch "
        f"spends {percent(empty / len(index))} of its time on them. The override shows as many of them as of the "
        "others, different ones each epoch."
    )
    return [Advice("empty images", "option", text, (f"data.empty_images={fraction:g}",))]
