"""Which image size and which tiles suit the objects."""

import math

import numpy as np
from numpy.typing import NDArray

from finemask.coco.index import CocoIndex
from finemask.datatools.stats.objects import Objects
from finemask.datatools.stats.plan import ModelSettings, Plan

LEAST_PX = 12
"""Side that nine of ten objects should have in training: three cells of the finest feature map, whose stride is 4."""

_COMFORTABLE_PX = 32  # where COCO's small objects end: with more, fewer pixels will do
_IN_TILES_PX = 16  # somewhat more than the least, since tiles make it cheap
_WORTH_SAVING = 1.5  # times fewer pixels
_RUNGS = (256, 320, 384, 448, 480, 512, 576, 640, 704, 768, 800, 896, 1024, 1152, 1344)
_MOST_ENLARGED = 4.0  # beyond, enlarging shows nothing new
_TILE_STEP, _LEAST_TILE = 64, 256  # px


def small_side(index: CocoIndex, objects: Objects, plan: Plan) -> float:
    """Side in px, the root of the area, that nine of ten objects reach at least under a plan."""
    scale = plan.scales(index.heights, index.widths)[objects.image]
    return float(np.percentile(np.sqrt(objects.areas) * scale, 10))


def choose_plan(index: CocoIndex, objects: Objects, settings: ModelSettings) -> Plan:
    """The plan now in use where small objects are large enough in it; else larger images, else tiles.

    Args:
        index: the file.
        objects: measured on it, at least one.
        settings: now in use.
    """
    current = Plan(settings.min_size, settings.max_size)
    if small_side(index, objects, current) >= LEAST_PX:
        return current
    shorter = float(np.median(np.minimum(index.heights, index.widths)))
    larger = [
        _resized(index, rung)
        for rung in _RUNGS
        if current.min_size < rung and (rung <= _MOST_ENLARGED * shorter or shorter < _LEAST_TILE / 4)
    ]
    for plan in larger:
        if small_side(index, objects, plan) >= LEAST_PX:
            return plan
    return _tiles(index, objects, settings) or (larger[-1] if larger else current)


def cheaper_plan(index: CocoIndex, objects: Objects, settings: ModelSettings) -> Plan | None:
    """A smaller image size that still shows every original pixel and leaves small objects large; None: there is none.

    Args:
        index: the file.
        objects: measured on it, at least one.
        settings: now in use.
    """
    shorter = float(np.median(np.minimum(index.heights, index.widths)))
    for rung in _RUNGS:
        plan = _resized(index, rung)
        worth = (settings.min_size / rung) ** 2 >= _WORTH_SAVING
        if worth and rung >= shorter and small_side(index, objects, plan) >= _COMFORTABLE_PX:
            return plan
    return None


def tile_overlap(objects: Objects, tile: int) -> float:
    """Share of a tile by which neighbours should overlap: nearly every object is then whole in one of them."""
    longest = (objects.boxes[:, 2:] - objects.boxes[:, :2]).max(axis=1)
    wanted = float(np.percentile(longest, 95)) / tile
    return float(np.clip(math.ceil(wanted * 20) / 20, 0.1, 0.5))


def _resized(index: CocoIndex, rung: int) -> Plan:
    sides = np.stack([index.heights, index.widths])
    elongation: NDArray[np.float64] = sides.max(axis=0) / sides.min(axis=0)
    limit = rung * float(np.clip(np.percentile(elongation, 95), 1.67, 2.5))
    return Plan(rung, math.ceil(limit / 32) * 32)


def _tiles(index: CocoIndex, objects: Objects, settings: ModelSettings) -> Plan | None:
    """Tiles that bring small objects to ``_IN_TILES_PX`` at the size in use, if the images are much larger."""
    small = float(np.percentile(np.sqrt(objects.areas), 10))
    longest = float(np.percentile((objects.boxes[:, 2:] - objects.boxes[:, :2]).max(axis=1), 95))
    wanted = max(settings.min_size * small / _IN_TILES_PX, 2 * longest, _LEAST_TILE)
    tile = int(wanted // _TILE_STEP) * _TILE_STEP
    if tile > 0.7 * float(np.median(np.maximum(index.heights, index.widths))):
        return None
    return Plan(settings.min_size, settings.max_size, tile)
