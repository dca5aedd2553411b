"""Rules on masks: is there one, has it pixels, is it inside, and is it one object or a crowd?"""

from collections.abc import Iterator
from typing import Any

from finemask.datatools.check.crossing import crosses_itself
from finemask.datatools.check.document import AnnotationRow, Document
from finemask.datatools.check.problems import (
    Edit,
    Finding,
    RemoveEntry,
    RemoveKey,
    Rule,
    SetValue,
    Severity,
    each_document,
)
from finemask.datatools.check.rules.findings import about_annotation
from finemask.datatools.check.values import show

_TRUTH = {"0": 0, "1": 1, "false": 0, "true": 1, "no": 0, "yes": 1}
_OUTSIDE_TOLERANCE_PX = 2.0


def _iscrowd_invalid(document: Document) -> Iterator[Finding]:
    for row in document.annotations:
        value = row.entry.get("iscrowd")
        if _is_flag(value):
            continue
        known = _TRUTH.get(value.strip().lower()) if isinstance(value, str) else None
        edit: Edit = RemoveKey("annotations", row.position, "iscrowd")
        if known is not None:
            edit = SetValue("annotations", row.position, "iscrowd", known)
        yield about_annotation(document, row, f"its iscrowd is {show(value)}, not 0 or 1", edit)


def _is_flag(value: Any) -> bool:
    return value is None or (type(value) in (int, float, bool) and value in (0, 1))


def _crowd_only(document: Document) -> Iterator[Finding]:
    if document.annotations and all(row.iscrowd for row in document.annotations):
        yield Finding(f"all {len(document.annotations)} annotations are flagged as crowds", document)


def _crowd_polygon(document: Document) -> Iterator[Finding]:
    if all(row.iscrowd for row in document.annotations):
        return  # said once, of the whole file
    for row in document.annotations:
        if row.iscrowd and isinstance(row.entry.get("segmentation"), list) and row.rle:
            yield about_annotation(document, row, "a polygon is flagged as a crowd; crowds are run lengths in COCO")


def _mask_missing(document: Document) -> Iterator[Finding]:
    bare = [row for row in document.annotations if row.outline is None and _is_flag(row.entry.get("iscrowd"))]
    if bare and len(bare) == len(document.annotations) and not any(row.iscrowd for row in bare):
        yield Finding(f"none of the {len(bare)} annotations has a mask, only boxes", document)
        return
    for row in bare:
        if not row.iscrowd:
            message = "it has no segmentation"
        elif row.box_xyxy is None:
            message = f"it is a crowd with neither a segmentation nor a usable bbox ({show(row.entry.get('bbox'))})"
        else:
            continue
        yield about_annotation(document, row, message, RemoveEntry("annotations", row.position))


def _self_crossing(document: Document) -> Iterator[Finding]:
    for row in document.annotations:
        for part in row.outline.doubtful_parts if row.outline else ():
            points = row.entry["segmentation"][part]
            if crosses_itself(points):
                yield about_annotation(document, row, f"a polygon of {len(points) // 2} points crosses itself")
                break


def _polygon_outside(document: Document) -> Iterator[Finding]:
    for row in document.annotations:
        extent = row.outline.extent_xyxy if row.outline and row.outline.rle else None
        if extent is None:
            continue
        x0, y0, x1, y1 = extent
        beyond = max(-x0, -y0, x1 - row.image.width, y1 - row.image.height)
        if beyond > _OUTSIDE_TOLERANCE_PX:
            size = f"{row.image.width} × {row.image.height} px"
            yield about_annotation(document, row, f"a polygon reaches {beyond:.1f} px out of its image of {size}")


def _mask_empty(document: Document) -> Iterator[Finding]:
    if document.is_normalised:
        return
    for row in document.annotations:
        if row.outline is not None and not row.outline.faults and row.outline.rle is None:
            yield about_annotation(document, row, _why_empty(row), RemoveEntry("annotations", row.position))


def _why_empty(row: AnnotationRow) -> str:
    assert row.outline is not None
    extent = row.outline.extent_xyxy
    if extent is None:
        return "its run lengths hold no pixel"
    x0, y0, x1, y1 = extent
    if x1 <= 0 or y1 <= 0 or x0 >= row.image.width or y0 >= row.image.height:
        return f"its polygon lies outside the image of {row.image.width} × {row.image.height} px"
    return f"its polygon of {x1 - x0:.2g} × {y1 - y0:.2g} px covers no pixel"


RULES = (
    Rule(
        "iscrowd-invalid",
        Severity.ERROR,
        "iscrowd is 0 or 1.",
        "A single object could be taken for a crowd, which is not trained on.",
        each_document(_iscrowd_invalid),
        repair="writes 0 or 1 where that is said in words, else removes the key",
    ),
    Rule(
        "crowd-only",
        Severity.ERROR,
        "Not every annotation is a crowd.",
        "Nothing would be learned: crowds are regions to be ignored.",
        each_document(_crowd_only),
    ),
    Rule(
        "crowd-polygon",
        Severity.WARNING,
        "Crowds are run lengths; a polygon is one object.",
        "The object is not trained on, and detections of it count neither as right nor as wrong.",
        each_document(_crowd_polygon),
    ),
    Rule(
        "mask-missing",
        Severity.ERROR,
        "Each object has a mask; a crowd has a mask or at least a box.",
        "Training cannot start: a box alone does not teach a mask.",
        each_document(_mask_missing),
        repair="removes the annotation, unless none has a mask",
    ),
    Rule(
        "mask-empty",
        Severity.ERROR,
        "Each mask has at least one pixel inside the image.",
        "There is nothing to learn, and nothing can find it: it counts as missed for ever.",
        each_document(_mask_empty),
        repair="removes the annotation",
    ),
    Rule(
        "polygon-outside",
        Severity.WARNING,
        f"Polygons stay inside the image, to {_OUTSIDE_TOLERANCE_PX:g} px.",
        "The mask is cut off at the edge; if many are, the annotations belong to another size of the images.",
        each_document(_polygon_outside),
    ),
    Rule(
        "polygon-self-crossing",
        Severity.WARNING,
        "Polygons do not cross themselves so that their mask loses or gains area.",
        "What is enclosed twice counts as outside: the mask has holes that the object has not.",
        each_document(_self_crossing),
    ),
)
