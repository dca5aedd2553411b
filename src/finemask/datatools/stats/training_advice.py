"""Training advice that follows from the statistics, each with the override to type."""

import os
import shlex
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np

from finemask.coco.index import CocoIndex
from finemask.data.image_sampling import images_per_class
from finemask.datatools.stats.dataset_summary import boxes_in_training, objects_per_image
from finemask.datatools.stats.input_resolution import (
    LEAST_PX,
    ModelSettings,
    Resolution,
    cheaper_resolution,
    choose_resolution,
    small_side,
    tile_overlap,
)
from finemask.datatools.stats.object_stats import Objects, overlapping_pairs
from finemask.ops.anchor_fit import best_anchor_iou, coverage, fit_anchors
from finemask.ops.wording import listed, names, percent, plural

State: TypeAlias = Literal["change", "option", "keep"]
STATES: tuple[State, ...] = ("change", "option", "keep")

_DEFAULT_MODEL = "resnet50_fpn"
_FEW = 10  # objects of a class
_IMBALANCE = 10  # times more objects in the largest class than in the smallest
_MOST_REPEATED = 4.0  # times an epoch
_PROPOSALS_PER_OBJECT = 2
_WORTH_NMS = 0.01  # of the objects
_COCO_CAP = 100


@dataclass(frozen=True, slots=True)
class Advice:
    """A piece of advice for training, as it is printed and saved.

    Args:
        topic: what it is about.
        state: ``change``: do it; ``option``: weigh it up; ``keep``: the setting in use is right.
        text: what was found and what to do, in sentences.
        overrides: to type after ``finemask train``; of ``keep``, those that are in use.
        command: to run first, where there is one.
    """

    topic: str
    state: State
    text: str
    overrides: tuple[str, ...] = ()
    command: str | None = None

    def typed(self) -> str:
        """The overrides as a shell takes them; nothing where all is right as it is."""
        return "" if self.state == "keep" else shlex.join(self.overrides)

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self) | {"overrides": list(self.overrides)}


def advise(index: CocoIndex, objects: Objects, settings: ModelSettings, images_dir: Path | None) -> list[Advice]:
    """All advice about a file.

    Args:
        index: the file.
        objects: measured on it.
        settings: the model that is to be trained.
        images_dir: for the commands.

    Returns:
        What is worth doing first, then what is to be weighed up; nothing where there are no objects.
    """
    if not len(objects):
        return []
    best = choose_resolution(index, objects, settings)
    found = [
        _image_size(index, objects, settings, best),
        _tiles(index, objects, best, images_dir),
        _anchors(index, objects, settings, best),
        _detection_cap(index, objects, settings),
        *_proposals(index, objects, settings),
        *_suppression(objects, settings),
        _rare_classes(index, objects),
        *_empty_images(index, objects),
    ]
    return sorted(found, key=lambda item: STATES.index(item.state))


def train_command(advice: Sequence[Advice], settings: ModelSettings, annotations: Path, images_dir: Path | None) -> str:
    """One line that does everything that is worth changing, ready to be pasted into a shell."""
    tiled = any(item.command for item in advice)
    data = ["data.root=tiles"] if tiled else _data_overrides(annotations, images_dir)
    model = [f"model={settings.name}"] if settings.name != _DEFAULT_MODEL else []
    changes = [override for item in advice if item.state == "change" for override in item.overrides]
    return shlex.join(["finemask", "train", *data, *model, *changes])


def images_beside(annotations: Path) -> Path | None:
    """The folder ``images`` of the dataset that a file belongs to; None where there is none."""
    folder = _dataset_of(annotations) / "images"
    return folder if folder.is_dir() else None


def _dataset_of(annotations: Path) -> Path:
    return annotations.parent.parent if annotations.parent.name == "annotations" else annotations.parent


def _data_overrides(annotations: Path, images_dir: Path | None) -> list[str]:
    """Where the data are; the images' folder is guessed where it was not given, and asked for where it cannot be."""
    images_dir = images_dir or images_beside(annotations)
    if images_dir is None:
        return ["data.root=DIR"]
    root = _dataset_of(annotations)
    if not images_dir.is_relative_to(root):  # elsewhere: from the folder that holds both
        annotations, images_dir = annotations.absolute(), images_dir.absolute()
        root = Path(os.path.commonpath([annotations.parent, images_dir]))
    train, images = annotations.relative_to(root).as_posix(), images_dir.relative_to(root).as_posix()
    found = [f"data.root={root}"]
    found += [f"data.train={train}"] if train != "annotations/train.json" else []
    return found + ([f"data.images={images}"] if images != "images" else [])


def _image_size(index: CocoIndex, objects: Objects, settings: ModelSettings, best: Resolution) -> Advice:
    """Image size: larger, smaller, or as it is."""
    current = Resolution(settings.min_size, settings.max_size)
    small = small_side(index, objects, current)
    scales = current.scales(index.heights, index.widths)
    median = float(np.median(np.sqrt(objects.areas) * scales[objects.image]))
    seen = (
        f"With a shorter side of {settings.min_size:,} px ({_times(float(np.median(scales)))}) the median object "
        f"measures {median:.0f} px, and nine of ten measure {small:.0f} px or more."
    )
    if best.tile is not None:
        return _size("keep", f"{seen} Tiles mend that better than a larger size does.", current)
    if best != current:
        cost = (best.min_size / settings.min_size) ** 2
        text = (
            f"{seen} Below {LEAST_PX} px an object is only a few cells of the finest feature map. {best.min_size:,} px "
            f"brings nine of ten to {small_side(index, objects, best):.0f} px, for {cost:.1f} times as many pixels "
            "to compute."
        )
        return _size("change", text, best)
    if small < LEAST_PX:
        return _size("keep", f"{seen} That is little, but enlarging these images would show nothing new.", current)
    cheaper = cheaper_resolution(index, objects, settings)
    if cheaper is None:
        return _size("keep", f"{seen} That is enough.", current)
    text = (
        f"{seen} Enlarging shows nothing new: at {cheaper.min_size:,} px nine of ten still measure "
        f"{small_side(index, objects, cheaper):.0f} px or more, with "
        f"{(settings.min_size / cheaper.min_size) ** 2:.1f} times fewer pixels to compute."
    )
    return _size("option", text, cheaper)


def _tiles(index: CocoIndex, objects: Objects, best: Resolution, images_dir: Path | None) -> Advice:
    """Whether images are to be cut before training."""
    longer = float(np.median(np.maximum(index.heights, index.widths)))
    if best.tile is None:
        return Advice("tiles", "keep", f"Whole images: the longer side, {longer:,.0f} px, needs no cutting.")
    words = [f"annotations={index.annotations_path}", f"images={images_dir or 'DIR'}", "output=tiles"]
    words += [f"size={best.tile}", f"overlap={tile_overlap(objects, best.tile):g}"]
    command = shlex.join(["finemask", "data", "tile", *words])
    text = (
        f"The images have a longer side of {longer:,.0f} px; shrunk to a shorter side of {best.min_size:,} px, small "
        f"objects vanish. Tiles of {best.tile:,} px bring nine of ten to {small_side(index, objects, best):.0f} px or "
        "more. Cut every split in the same way and train on the tiles."
    )
    return Advice("tiles", "change", text, command=command)


def _anchors(index: CocoIndex, objects: Objects, settings: ModelSettings, best: Resolution) -> Advice:
    """Anchor sizes and ratios for the objects, as large as they are at the best resolution."""
    boxes, size_hw = boxes_in_training(index, objects, best)
    sizes, ratios = fit_anchors(boxes, size_hw, settings.anchor_sizes, settings.aspect_ratios)
    now = coverage(best_anchor_iou(boxes, size_hw, settings.anchor_sizes, settings.aspect_ratios))
    at = f" at {best.min_size:,} px" if best.min_size != settings.min_size else ""
    seen = (
        f"{percent(now)} of the objects{at} have an anchor that overlaps them by half or more; sizes are "
        f"{listed(settings.anchor_sizes)} px."
    )
    overrides = []
    if tuple(sizes) != settings.anchor_sizes:
        overrides.append(f"model.anchors.sizes={listed(sizes)}")
    if tuple(ratios) != settings.aspect_ratios:
        overrides.append(f"model.anchors.aspect_ratios={listed(ratios)}")
    if not overrides:
        kept = (f"model.anchors.sizes={listed(settings.anchor_sizes)}",)
        return Advice("anchors", "keep", f"{seen} No others do clearly better.", kept)
    then = coverage(best_anchor_iou(boxes, size_hw, sizes, ratios))
    text = f"{seen} With the anchors below {percent(then)} have one; model.anchors=auto fits them at each start."
    return Advice("anchors", "change", text, tuple(overrides))


def _size(state: State, text: str, best: Resolution) -> Advice:
    overrides = (f"model.min_size={best.min_size}", f"model.max_size={best.max_size}")
    return Advice("image size", state, text, overrides)


def _times(scale: float) -> str:
    if 0.95 <= scale <= 1.05:
        return "about the size the images have"
    return f"images enlarged {scale:.1f} times" if scale > 1 else f"images shrunk to {percent(scale)}"


def _detection_cap(index: CocoIndex, objects: Objects, settings: ModelSettings) -> Advice:
    """Enough detections for every object of the fullest image."""
    fullest = objects_per_image(index, objects)
    most = int(fullest.max())
    key = "model.roi_heads.detections_per_img"
    holds = f"The fullest image holds {plural(most, 'object')}."
    automatic = (f"{key}=auto", "max_detections=auto")
    if settings.detections == "auto":
        room = max(_COCO_CAP, -(-3 * most // 2))
        text = f"{holds} The setting auto makes room for {room:,}, in evaluation too."
        return Advice("detection cap", "keep", text, automatic)
    cap = int(settings.detections)
    if cap >= most:
        return Advice("detection cap", "keep", f"{holds} {cap:,} detections are enough.", (f"{key}={cap}",))
    over = int((fullest > cap).sum())
    text = f"{holds} In {plural(over, 'image')} objects would be missed for want of room: {cap} detections."
    return Advice("detection cap", "change", text, automatic)


def _proposals(index: CocoIndex, objects: Objects, settings: ModelSettings) -> list[Advice]:
    """Enough proposals for every object; nothing to say where there are."""
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
        f"The RPN hands at most {kept:,} proposals an image to the heads; the fullest image holds "
        f"{plural(most, 'object')}, each of which needs one that survives among false ones."
    )
    return [Advice("proposals", "change", text, tuple(overrides))]


def _suppression(objects: Objects, settings: ModelSettings) -> list[Advice]:
    """Objects of a class that overlap so much that one of them would be dropped."""
    found = overlapping_pairs(objects, settings.nms_thresh)
    if found < _WORTH_NMS * len(objects) or settings.nms_thresh >= 0.7:
        return []
    higher = 0.6 if settings.nms_thresh < 0.6 and overlapping_pairs(objects, 0.6) <= found / 2 else 0.7
    text = (
        f"The boxes of {plural(found, 'object')} ({percent(found / len(objects))}) overlap another one of their class "
        f"by more than {settings.nms_thresh:g}; non-maximum suppression drops one of each such pair. At {higher:g} "
        f"it is {overlapping_pairs(objects, higher):,}, but more double detections get through."
    )
    return [Advice("crowded boxes", "option", text, (f"model.roi_heads.nms_thresh={higher:g}",))]


def _rare_classes(index: CocoIndex, objects: Objects) -> Advice:
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


def _empty_images(index: CocoIndex, objects: Objects) -> list[Advice]:
    """Fewer images without objects, where they are the greater part."""
    filled = int((objects_per_image(index, objects) > 0).sum())
    empty = len(index) - filled
    if empty <= filled:
        return []
    fraction = float(f"{filled / empty:.2g}")
    text = (
        f"{empty:,} of {plural(len(index), 'image')} have no object. They teach what is no object, but an epoch "
        f"spends {percent(empty / len(index))} of its time on them. The override shows as many of them as of the "
        "others, different ones each epoch."
    )
    return [Advice("empty images", "option", text, (f"data.empty_images={fraction:g}",))]
