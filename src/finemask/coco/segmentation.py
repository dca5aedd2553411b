"""What stands under ``segmentation``: a mask, or the faults that make it none.

Everything is judged before pycocotools sees it, which misreads some of it (four numbers as a box) and needs
gigabytes for some (a point a million px away).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from finemask.coco.entries import Fault, show, whole
from finemask.coco.other_forms import are_run_lengths, known_form
from finemask.coco.polygons import PlainPolygons, Raster, are_sound, is_flat, plain_polygons, rasterise
from finemask.coco.rasterising import FIFTHS_LIMIT
from finemask.ops.rle import rle_from_segmentation, rles_for_coco, run_lengths
from finemask.ops.wording import plural
from finemask.types import Rle

FAR_FACTOR = 10
"""Points further from the image than this many of its longer sides are taken for nonsense."""

_NUMBER_TYPES = {int, float}
_LARGEST = 1e18  # of a coordinate that can be a mistake; beyond, it is no number in earnest


@dataclass(frozen=True, slots=True)
class Outline:
    """A judged segmentation.

    Args:
        faults: empty when it is sound.
        rle: the mask, cut off at the image's edge; None when there are faults or no pixel.
        area: pixels of the mask.
        box_xyxy: of the pixels of the mask, px.
        extent_xyxy: of the points of the polygons, px; None for run lengths.
        doubtful_parts: polygons whose outline encloses another area than their pixels have: they may cross themselves.
    """

    faults: tuple[Fault, ...] = ()
    rle: Rle | None = None
    area: int = 0
    box_xyxy: tuple[float, float, float, float] | None = None
    extent_xyxy: tuple[float, float, float, float] | None = None
    doubtful_parts: tuple[int, ...] = ()


def read_outlines(entries: Sequence[tuple[Any, int, int]]) -> list[Outline]:
    """Judges segmentations, sound polygons all at once.

    Args:
        entries: any JSON value, and height and width of its image in px; not missing segmentations.
    """
    found: dict[int, Outline] = {}
    plain: list[PlainPolygons] = []
    numbers: list[int] = []
    for number, (segmentation, height, width) in enumerate(entries):
        polygons = plain_polygons(segmentation, height, width)
        if polygons is None:
            found[number] = _judge(segmentation, height, width)
        else:
            plain.append(polygons)
            numbers.append(number)
    sound = [
        is_sound and not (len(polygons.parts) == 1 and are_run_lengths(polygons.parts[0], *polygons[1:]))
        for polygons, is_sound in zip(plain, are_sound(plain, FAR_FACTOR), strict=True)
    ]
    for number, is_sound in zip(numbers, sound, strict=True):
        if not is_sound:
            found[number] = _judge(*entries[number])
    kept = [polygons for polygons, is_sound in zip(plain, sound, strict=True) if is_sound]
    rasters = iter(rasterise(kept))
    for number, is_sound in zip(numbers, sound, strict=True):
        if is_sound:
            found[number] = _outline_of_raster(next(rasters))
    return [found[number] for number in range(len(entries))]


def rle_of_detection(segmentation: Any, height: int, width: int) -> Rle:
    """The mask of a detection, as a compressed RLE; one that covers nothing is no fault there.

    Args:
        segmentation: any JSON value.
        height: of its image, px.
        width: of its image, px.

    Raises:
        ValueError: it is no mask.
    """
    (outline,) = read_outlines([(segmentation, height, width)])
    for fault in outline.faults:
        if fault.rule not in ("polygon-no-area", "polygon-far-away"):
            raise ValueError(fault.message)
    return outline.rle or rle_from_segmentation(segmentation, height, width)


def _outline_of_raster(raster: Raster) -> Outline:
    if raster.area == 0:
        return Outline(extent_xyxy=raster.extent_xyxy)
    return Outline((), raster.rle, raster.area, raster.box_xyxy, raster.extent_xyxy, raster.doubtful_parts)


def _judge(segmentation: Any, height: int, width: int) -> Outline:
    """Everything but sound polygons."""
    form = known_form(segmentation, height, width)
    if form is not None:
        return Outline((form,))
    if isinstance(segmentation, dict):
        return _read_rle(segmentation, height, width)
    if not isinstance(segmentation, list):
        message = f"its segmentation is {show(segmentation)}, neither polygons nor run lengths"
        return Outline((Fault("segmentation-invalid", message),))
    if len(segmentation) > 1 and all(isinstance(part, dict) for part in segmentation):
        return Outline((_union(segmentation, height, width),))
    return Outline(tuple(_faults_by_rule(segmentation, [_part_fault(part, height, width) for part in segmentation])))


def _union(parts: list[dict[str, Any]], height: int, width: int) -> Fault:
    """Several run lengths in a list: the parts of one mask."""
    message = f"its segmentation is a list of {len(parts)} run lengths, not one"
    rles: Any = [_read_rle(part, height, width).rle for part in parts]
    if None in rles:
        return Fault("segmentation-invalid", message)
    merged: Any = coco_mask.merge(rles_for_coco(rles))
    rle = Rle(size=[height, width], counts=merged["counts"].decode("ascii"))
    return Fault("segmentation-nesting", message, rle)


def _faults_by_rule(parts: list[Any], judged: list[tuple[str, str] | None]) -> list[Fault]:
    """One fault a rule: what is wrong with the first polygon it concerns, and the segmentation without all of them."""
    faults = []
    for rule in dict.fromkeys(fault[0] for fault in judged if fault):
        concerned = [fault is not None and fault[0] == rule for fault in judged]
        message = next(fault[1] for fault in judged if fault is not None and fault[0] == rule)
        if sum(concerned) > 1:
            message += f" (and {sum(concerned) - 1} more of its {len(parts)})"
        rest = [part for part, wrong in zip(parts, concerned, strict=True) if not wrong]
        empty = all(part in (None, [], {}) for part, wrong in zip(parts, concerned, strict=True) if wrong)
        faults.append(Fault(rule, message, rest if rest or empty else None))
    return faults


def _part_fault(part: Any, height: int, width: int) -> tuple[str, str] | None:
    """Rule and message for one polygon; None when it is sound."""
    if not isinstance(part, list):
        return "segmentation-invalid", f"one of its polygons is {show(part)}, not a list of numbers"
    types = set(map(type, part))
    if not types <= _NUMBER_TYPES:
        wrong = next(value for value in part if type(value) not in _NUMBER_TYPES)
        return "polygon-not-numbers", f"a polygon holds {show(wrong)}, which is not a number"
    if len(part) == 4:
        return "polygon-is-box", f"a polygon has 4 numbers, {show(part)}, which is a box or a line but no outline"
    if len(part) % 2:
        return "polygon-odd", f"a polygon has {len(part)} numbers, which is not a whole number of points"
    if len(part) < 6:
        points = len(part) // 2
        return "polygon-too-few-points", f"a polygon has {plural(points, 'point')}, it needs 3"
    try:
        values = np.array(part, dtype=np.float64)
    except OverflowError:
        return "polygon-not-finite", "a polygon has a coordinate beyond all numbers, which is not finite"
    furthest = part[int(np.abs(values).argmax())]  # NaN counts as the greatest
    if fault := coordinate_fault(furthest, height, width):
        return fault
    if is_flat(values):
        return "polygon-no-area", f"the {len(part) // 2} points of a polygon lie on one line"
    return None


def coordinate_fault(value: float, height: int, width: int) -> tuple[str, str] | None:
    """Rule and message for a coordinate that is not finite or far from its image of height × width px."""
    if not isfinite(value) or abs(value) >= _LARGEST:
        return "polygon-not-finite", f"a polygon has the coordinate {show(value)}, which is not finite"
    reach = FAR_FACTOR * max(height, width) + 1000
    if abs(value) <= reach:
        return None
    beyond = ", beyond a million px" if abs(value) >= FIFTHS_LIMIT / 5 else ""
    message = f"a polygon has the coordinate {show(value)}{beyond}; its image is {width} × {height} px"
    return "polygon-far-away", message


def rle_size_fault(rle: dict[str, Any], height: int, width: int, pixels: int) -> Fault | None:
    """What is wrong with the ``size`` of run lengths.

    Args:
        rle: run lengths, as the file has them.
        height: of its image, px.
        width: of its image, px.
        pixels: that its counts add up to.
    """
    size = rle.get("size")
    sides = [whole(side) for side in size] if isinstance(size, list) else []
    if sides == [height, width]:
        return None
    # Run lengths of another image can be as long by chance; what is certain is a size that is not there, or one
    # written the wrong way round.
    certain = pixels == height * width and (size is None or sides == [width, height])
    turned = {**rle, "size": [height, width]} if certain else None
    stated = "no size" if size is None else f"the size {show(size)}"
    return Fault("rle-size", f"its run lengths have {stated}, its image [{height}, {width}] (height, width)", turned)


def _read_rle(rle: dict[str, Any], height: int, width: int) -> Outline:
    counts = rle.get("counts")
    if not isinstance(counts, str | list):
        message = "its segmentation is neither polygons nor run lengths: an object without size and counts"
        return Outline((Fault("segmentation-invalid", message),))
    damage, runs = None, np.zeros(0, dtype=np.int64)
    try:
        runs = counted_runs(counts)
    except ValueError as error:
        damage = Fault("rle-counts", str(error))
    total = int(runs.sum())
    if fault := rle_size_fault(rle, height, width, total) or damage:
        return Outline((fault,))
    if (runs < 0).any():
        return Outline((Fault("rle-counts", "its run lengths hold a negative run"),))
    if total != height * width:
        message = f"its run lengths cover {total} pixels, its image has {height} × {width} = {height * width}"
        return Outline((Fault("rle-counts", message),))
    uncompressed: Any = {"size": [height, width], "counts": counts}  # the stubs know whole numbers only
    encoded: Any = (
        {"size": [height, width], "counts": counts.encode()}
        if isinstance(counts, str)
        else coco_mask.frPyObjects(uncompressed, height, width)
    )
    area = int(coco_mask.area(encoded))
    if area == 0:
        return Outline()
    x, y, w, h = coco_mask.toBbox(encoded).tolist()
    mask = Rle(size=[height, width], counts=encoded["counts"].decode("ascii"))
    return Outline((), mask, area, (x, y, x + w, y + h))


def counted_runs(counts: str | list[Any]) -> NDArray[np.int64]:
    """Run lengths int64 [runs], zeros first, of compressed or uncompressed counts.

    Raises:
        ValueError: they are no such thing; they may not be those of the image, or negative.
    """
    if isinstance(counts, str):
        return run_lengths(counts)
    if not counts or not all(type(count) is int and abs(count) < 2**32 for count in counts):
        raise ValueError("its run lengths are not whole numbers" if counts else "its run lengths are empty")
    return np.array(counts, dtype=np.int64)
