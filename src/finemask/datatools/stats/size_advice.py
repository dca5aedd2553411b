"""Advice that follows from how large objects are: image size, tiles, anchors."""

import shlex
from pathlib import Path

import numpy as np

from finemask.coco.index import CocoIndex
from finemask.datatools.stats.choose_plan import LEAST_PX, cheaper_plan, small_side, tile_overlap
from finemask.datatools.stats.item import Advice, State
from finemask.datatools.stats.objects import Objects
from finemask.datatools.stats.plan import ModelSettings, Plan
from finemask.datatools.stats.summary import boxes_in_training
from finemask.ops.anchor_fit import best_anchor_iou, coverage, fit_anchors
from finemask.ops.wording import listed, percent


def image_size(index: CocoIndex, objects: Objects, settings: ModelSettings, plan: Plan) -> Advice:
    """Larger, smaller, or as it is."""
    current = Plan(settings.min_size, settings.max_size)
    small = small_side(index, objects, current)
    scales = current.scales(index.heights, index.widths)
    median = float(np.median(np.sqrt(objects.areas) * scales[objects.image]))
    seen = (
        f"With a shorter side of {settings.min_size:,} px ({_times(float(np.median(scales)))}) the median object "
        f"measures {median:.0f} px, and nine of ten measure {small:.0f} px or more."
    )
    if plan.tile is not None:
        return _size("keep", f"{seen} Tiles mend that better than a larger size does.", current)
    if plan != current:
        cost = (plan.min_size / settings.min_size) ** 2
        text = (
            f"{seen} Below {LEAST_PX} px an object is only a few cells of the finest feature map. {plan.min_size:,} px "
            f"brings nine of ten to {small_side(index, objects, plan):.0f} px, for {cost:.1f} times as many pixels "
            "to compute."
        )
        return _size("change", text, plan)
    if small < LEAST_PX:
        return _size("keep", f"{seen} That is little, but enlarging these images would show nothing new.", current)
    cheaper = cheaper_plan(index, objects, settings)
    if cheaper is None:
        return _size("keep", f"{seen} That is enough.", current)
    text = (
        f"{seen} Enlarging shows nothing new: at {cheaper.min_size:,} px nine of ten still measure "
        f"{small_side(index, objects, cheaper):.0f} px or more, with "
        f"{(settings.min_size / cheaper.min_size) ** 2:.1f} times fewer pixels to compute."
    )
    return _size("option", text, cheaper)


def tiles(index: CocoIndex, objects: Objects, plan: Plan, images_dir: Path | None) -> Advice:
    """Whether images are to be cut before training."""
    longer = float(np.median(np.maximum(index.heights, index.widths)))
    if plan.tile is None:
        return Advice("tiles", "keep", f"Whole images: the longer side, {longer:,.0f} px, needs no cutting.")
    words = [f"annotations={index.annotations_path}", f"images={images_dir or 'DIR'}", "output=tiles"]
    words += [f"size={plan.tile}", f"overlap={tile_overlap(objects, plan.tile):g}"]
    command = shlex.join(["finemask", "data", "tile", *words])
    text = (
        f"The images have a longer side of {longer:,.0f} px; shrunk to a shorter side of {plan.min_size:,} px, small "
        f"objects vanish. Tiles of {plan.tile:,} px bring nine of ten to {small_side(index, objects, plan):.0f} px or "
        "more. Cut every split in the same way and train on the tiles."
    )
    return Advice("tiles", "change", text, command=command)


def anchors(index: CocoIndex, objects: Objects, settings: ModelSettings, plan: Plan) -> Advice:
    """Sizes and ratios, at the size that the plan brings images to."""
    boxes, size_hw = boxes_in_training(index, objects, plan)
    sizes, ratios = fit_anchors(boxes, size_hw, settings.anchor_sizes, settings.aspect_ratios)
    now = coverage(best_anchor_iou(boxes, size_hw, settings.anchor_sizes, settings.aspect_ratios))
    at = f" at {plan.min_size:,} px" if plan.min_size != settings.min_size else ""
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


def _size(state: State, text: str, plan: Plan) -> Advice:
    overrides = (f"model.min_size={plan.min_size}", f"model.max_size={plan.max_size}")
    return Advice("image size", state, text, overrides)


def _times(scale: float) -> str:
    if 0.95 <= scale <= 1.05:
        return "about the size the images have"
    return f"images enlarged {scale:.1f} times" if scale > 1 else f"images shrunk to {percent(scale)}"
