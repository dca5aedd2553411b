"""Forms other than COCO's in which tools write segmentations, where it is plain what they mean.

Nothing is lost by turning them into COCO's form, so this is tried before anything is taken out.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from finemask.coco.entries import Fault, number_in_text, show, whole
from finemask.ops.rle import run_lengths

_NUMBER_TYPES = {int, float}
_DEEPEST = 3  # a list of polygons, of points, of numbers
_PYTHON_BYTES = re.compile(r"""([:,\[]\s*)b(?=["'])""")


def known_form(segmentation: Any, height: int, width: int) -> Fault | None:
    """What makes a segmentation another form than COCO's, with what it is in COCO's; None if it is no such form.

    Args:
        segmentation: any JSON value.
        height: of its image, px.
        width: of its image, px.
    """
    if isinstance(segmentation, str):
        value = _of_text(segmentation)
        message = f"its segmentation is text, {show(segmentation)}"
        return None if value is None else Fault("segmentation-text", message, value)
    if isinstance(segmentation, dict):
        return _other_counts(segmentation, height * width)
    if not isinstance(segmentation, list):
        return None
    numbers = _with_numbers(segmentation, _DEEPEST)
    if numbers is not None and numbers != segmentation:
        message = f"a coordinate is {show(_first_text(segmentation))}, which is text, not a number"
        return Fault("polygon-not-numbers", message, numbers)
    runs = segmentation[0] if len(segmentation) == 1 and isinstance(segmentation[0], list) else segmentation
    if _is_numbers(runs) and are_run_lengths(runs, height, width):
        rle = {"size": [height, width], "counts": [int(run) for run in runs]}
        return Fault("run-lengths-as-polygon", f"its polygon of {len(runs)} numbers is the counts of run lengths", rle)
    return _other_nesting(segmentation)


def are_run_lengths(values: Sequence[float] | NDArray[np.float64], height: int, width: int) -> bool:
    """Whether numbers that stand where a polygon belongs are run lengths.

    They are whole, cover the image to the pixel, and as coordinates would lie outside of it.
    """
    try:
        numbers = np.asarray(values, dtype=np.float64)
    except OverflowError:
        return False
    return bool(
        numbers.size
        and numbers.sum() == height * width
        and numbers.min() >= 0
        and numbers.max() > max(height, width)
        and (numbers == np.floor(numbers)).all()
    )


def _of_text(text: str) -> Any:
    """The lists and objects that text spells as JSON, or as Python writes them; None if it spells neither."""
    for spelt in (text, _PYTHON_BYTES.sub(r"\1", text).replace("'", '"')):
        try:
            value = json.loads(spelt)
        except (ValueError, RecursionError):
            continue
        if isinstance(value, str) and value != text:  # JSON within JSON
            return _of_text(value)
        return value if isinstance(value, list | dict) and value else None
    return None


def _with_numbers(value: Any, depth: int) -> Any:
    """Lists of lists with numbers instead of text that spells them; None if some other value is among them."""
    if isinstance(value, str):
        return number_in_text(value)
    if type(value) in _NUMBER_TYPES:
        return value
    if not isinstance(value, list) or depth == 0:
        return None
    found = [_with_numbers(item, depth - 1) for item in value]
    return None if any(item is None for item in found) else found


def _first_text(value: Any) -> Any:
    while isinstance(value, list):
        value = next(item for item in value if isinstance(item, str) or (isinstance(item, list) and _has_text(item)))
    return value


def _has_text(value: Any) -> bool:
    return any(_has_text(item) for item in value) if isinstance(value, list) else isinstance(value, str)


def _is_numbers(part: Any) -> bool:
    return isinstance(part, list) and bool(part) and set(map(type, part)) <= _NUMBER_TYPES


def _other_nesting(parts: list[Any]) -> Fault | None:
    """Polygons that are not nested as [[x0, y0, x1, y1, …], …], when it is plain what they mean."""
    if _is_numbers(parts):
        return Fault(
            "segmentation-nesting",
            "its polygon is a bare list of numbers, not a list of lists [[x0, y0, x1, y1, …], …]",
            [parts],
        )
    if len(parts) == 1 and isinstance(parts[0], dict):
        return Fault("segmentation-nesting", "its run lengths are wrapped in a list", parts[0])
    if len(parts) == 1 and isinstance(parts[0], list) and parts[0] and all(map(_is_polygon, parts[0])):
        return Fault("segmentation-nesting", "its polygons are in one list too many", parts[0])
    if len(parts) >= 3 and all(map(_is_point, parts)):
        flat = [number for point in parts for number in point]
        return Fault("segmentation-nesting", "its polygon is a list of points [x, y], not of numbers", [flat])
    of_points = [isinstance(part, list) and len(part) >= 3 and all(map(_is_point, part)) for part in parts]
    if any(of_points):
        flat_parts = [
            [number for point in part for number in point] if wrong else part
            for part, wrong in zip(parts, of_points, strict=True)
        ]
        return Fault("segmentation-nesting", "its polygons are lists of points [x, y], not of numbers", flat_parts)
    return None


def _is_point(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and set(map(type, value)) <= _NUMBER_TYPES


def _is_polygon(value: Any) -> bool:
    return _is_numbers(value) and len(value) >= 6


def _other_counts(rle: dict[str, Any], pixels: int) -> Fault | None:
    """Counts of run lengths as Python prints bytes, as numbers with a point, or as text of numbers or of a list."""
    counts = rle.get("counts")
    found: Any = _of_text(counts) if isinstance(counts, str) and counts[:1] == "[" else counts
    if isinstance(found, list):
        found = [number_in_text(count) if isinstance(count, str) else count for count in found]
        found = [whole(count) for count in found]
        if None in found or list(map(type, found)) == list(map(type, counts or ())):
            return None
    elif isinstance(found, str) and found[:2] in ("b'", 'b"') and found[-1:] == found[1]:
        found = found[2:-1].replace("\\\\", "\\").replace("\\'", "'")
    else:
        return None
    try:
        runs = run_lengths(found) if isinstance(found, str) else np.array(found, dtype=np.int64)
    except ValueError:
        return None
    if int(runs.sum()) != pixels or (runs < 0).any():
        return None
    return Fault("rle-counts", f"the counts of its run lengths are {show(counts)}", {**rle, "counts": found})
