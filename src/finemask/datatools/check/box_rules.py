"""Rules on ``bbox`` and ``area``, by themselves and against the mask."""

from collections.abc import Callable, Iterator
from typing import TypeAlias

from finemask.coco.entries import area_fault, is_number, number_in_text, show, sound_box
from finemask.datatools.check.document import AnnotationRow, Document
from finemask.datatools.check.problems import (
    Edit,
    Finding,
    RemoveKey,
    SetValue,
    about_annotation,
    each_document,
    error_rule,
    warning_rule,
)

Box: TypeAlias = tuple[float, float, float, float]

_OUTSIDE_TOLERANCE_PX = 2.0
_AGREEING_IOU = 0.9
_AGREEING_PX = 3.0  # a box may differ by this on every side: rounding, and outlines drawn around pixel centres
_AREA_TOLERANCE = 0.1


def _each_box(check: Callable[[AnnotationRow], str | None]) -> Callable[[Document], Iterator[Finding]]:
    """A check that says what is wrong with an annotation's box, or None; the mask's own box replaces it."""

    def check_all(document: Document) -> Iterator[Finding]:
        for row in document.annotations:
            if row.entry.get("bbox") is None or document.is_normalised:
                continue
            if row.outline is None and row.iscrowd:
                continue  # its box is its mask, and judged there
            message = check(row)
            if message is not None:
                yield about_annotation(document, row, message, _box_edit(row))

    return check_all


def _box_edit(row: AnnotationRow) -> Edit:
    if row.rle is None or row.box_xyxy is None:
        value = row.entry.get("bbox")
        numbers = [number_in_text(v) if isinstance(v, str) else v for v in value] if isinstance(value, list) else None
        if numbers != value and sound_box(numbers) is not None:
            return SetValue("annotations", row.position, "bbox", numbers)
        return RemoveKey("annotations", row.position, "bbox")
    x0, y0, x1, y1 = row.box_xyxy
    return SetValue("annotations", row.position, "bbox", [x0, y0, x1 - x0, y1 - y0])


def _box_invalid(row: AnnotationRow) -> str | None:
    return None if row.bbox_xywh else f"its bbox is {show(row.entry['bbox'])}, not four finite numbers"


def _box_degenerate(row: AnnotationRow) -> str | None:
    if row.bbox_xywh is None or min(row.bbox_xywh[2:]) > 0 or _is_corners(row):
        return None
    return f"its bbox {show(row.entry['bbox'])} is {show(row.bbox_xywh[2])} wide and {show(row.bbox_xywh[3])} high"


def _box_corners(row: AnnotationRow) -> str | None:
    if not _is_corners(row):
        return None
    return f"its bbox {show(row.entry['bbox'])} is [x1, y1, x2, y2], not [x, y, width, height]"


def _box_outside(row: AnnotationRow) -> str | None:
    if row.bbox_xywh is None:
        return None
    x, y, w, h = row.bbox_xywh
    beyond = max(-x, -y, x + w - row.image.width, y + h - row.image.height)
    if min(w, h) <= 0 or beyond <= _OUTSIDE_TOLERANCE_PX or _is_corners(row):
        return None
    size = f"{row.image.width} × {row.image.height} px"
    return f"its bbox {show(row.entry['bbox'])} reaches {beyond:.1f} px out of its image of {size}"


def _box_not_of_mask(row: AnnotationRow) -> str | None:
    if row.bbox_xywh is None or row.rle is None or row.box_xyxy is None:
        return None
    x, y, w, h = row.bbox_xywh
    box = (x, y, x + w, y + h)
    if _agree(box, row) or _is_corners(row) or _box_degenerate(row) or _box_outside(row):
        return None
    x0, y0, x1, y1 = row.box_xyxy
    seen, right = show(row.entry["bbox"]), show([x0, y0, x1 - x0, y1 - y0])
    return f"its bbox is {seen}, that of its mask is {right} (IoU {box_iou(box, row.box_xyxy):.2f})"


def _is_corners(row: AnnotationRow) -> bool:
    """Whether four numbers fit the mask as corners and do not as corner and size."""
    if row.bbox_xywh is None or row.rle is None:
        return False
    x, y, w, h = row.bbox_xywh
    return _agree((x, y, w, h), row) and not _agree((x, y, x + w, y + h), row)


def _agree(box: Box, row: AnnotationRow) -> bool:
    """Whether a box is that of the mask's pixels, or that of the polygon's points, which may reach out of the image."""
    for extent in (row.box_xyxy, row.outline.extent_xyxy if row.outline else None):
        if extent is not None and (
            max(abs(a - b) for a, b in zip(box, extent, strict=True)) <= _AGREEING_PX
            or box_iou(box, extent) >= _AGREEING_IOU
        ):
            return True
    return False


def box_iou(one: Box, other: Box) -> float:
    """Overlap of two boxes xyxy, 0..1; 0 for boxes without an area."""
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    common = max(width, 0.0) * max(height, 0.0)
    areas = [max(box[2] - box[0], 0.0) * max(box[3] - box[1], 0.0) for box in (one, other)]
    return common / union if (union := sum(areas) - common) > 0 else 0.0


def _area_invalid(document: Document) -> Iterator[Finding]:
    for row in document.annotations:
        area = row.entry.get("area")
        if area_fault(row.entry) or (area is not None and area < 0):
            yield about_annotation(document, row, f"its area is {show(area)}", _area_edit(row))


def _area_not_of_mask(document: Document) -> Iterator[Finding]:
    for row in document.annotations:
        area = row.entry.get("area")
        if row.rle is None or not is_number(area) or area < 0:
            continue
        assert row.box_xyxy is not None
        x0, y0, x1, y1 = row.box_xyxy
        rim = x1 - x0 + y1 - y0 + 4  # half a pixel on every side: what rounding to pixels can add or take
        if abs(area - row.area) > max(_AREA_TOLERANCE * row.area, rim):
            what = f"its area is {show(area)}, its mask has {row.area} px"
            if row.bbox_xywh and abs(row.bbox_xywh[2] * row.bbox_xywh[3] - area) < 1:
                what += " (it is the area of the box)"
            yield about_annotation(document, row, what, _area_edit(row))


def _area_edit(row: AnnotationRow) -> Edit:
    if row.rle is None:
        return RemoveKey("annotations", row.position, "area")
    return SetValue("annotations", row.position, "area", row.area)


_FROM_MASK = "takes it from the mask, or removes it where there is none"
_OR_TEXT = "takes it from the mask; without one, writes text as numbers, or removes it"
_MEASURED_WRONG = "Boxes are measured against it in evaluation; finemask trains on the boxes of the masks."

RULES = (
    error_rule(
        "box-invalid",
        "bbox is a list of four finite numbers.",
        "Evaluation cannot start.",
        each_document(_each_box(_box_invalid)),
        repair=_OR_TEXT,
    ),
    error_rule(
        "box-corners",
        "bbox is [x, y, width, height], not [x1, y1, x2, y2].",
        f"{_MEASURED_WRONG} No detection would ever match.",
        each_document(_each_box(_box_corners)),
        repair=_FROM_MASK,
    ),
    error_rule(
        "box-degenerate",
        "Boxes have a width and a height above 0.",
        "Evaluation cannot start, or nothing can match the box; other programs end with losses of NaN.",
        each_document(_each_box(_box_degenerate)),
        repair=_FROM_MASK,
    ),
    warning_rule(
        "box-outside",
        f"Boxes stay inside the image, to {_OUTSIDE_TOLERANCE_PX:g} px.",
        _MEASURED_WRONG,
        each_document(_each_box(_box_outside)),
        repair=_FROM_MASK,
    ),
    warning_rule(
        "box-not-of-mask",
        f"Boxes are those of the masks: an IoU of {_AGREEING_IOU:g}, or within {_AGREEING_PX:g} px.",
        _MEASURED_WRONG,
        each_document(_each_box(_box_not_of_mask)),
        repair=_FROM_MASK,
    ),
    error_rule(
        "area-invalid",
        "area is a finite number, 0 or more.",
        "Evaluation cannot start, or counts the object in no size class.",
        each_document(_area_invalid),
        repair=_FROM_MASK,
    ),
    warning_rule(
        "area-not-of-mask",
        f"area is that of the mask, to {_AREA_TOLERANCE:.0%} and half a pixel along the edge.",
        "AP of small, medium and large objects puts the object into the wrong class of size.",
        each_document(_area_not_of_mask),
        repair=_FROM_MASK,
    ),
)
