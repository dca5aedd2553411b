"""Rules on masks: is there one, has it pixels, is it inside, and is it one object or a crowd?

A crowd is a region of many objects that nobody outlined one by one; it is neither learned nor measured. Labelling
tools misuse the flag: CVAT exports every brush mask with ``iscrowd`` 1, because COCO's own crowds are run lengths too.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache

import numpy as np
from scipy import ndimage

from finemask.coco.entries import crowd_fault, crowd_flag, show
from finemask.coco.polygons import crosses_itself
from finemask.datatools.check.document import AnnotationRow, Document
from finemask.datatools.check.problems import (
    CheckSettings,
    Dataset,
    Edit,
    Finding,
    RemoveEntry,
    RemoveKey,
    SetValue,
    about_annotation,
    each_document,
    error_rule,
    warning_rule,
)
from finemask.ops.rle import rle_to_crop
from finemask.types import Rle

AS_OBJECTS = "crowds=objects"
"""What has to be said for crowds that look like single objects to become such."""

_ONE_PIECE = 0.95  # of the pixels in one piece: a brush leaves specks
_OBJECTS_BESIDE_A_CROWD = 10  # COCO's labellers outlined 10 to 15 objects of a class before they took to a crowd
_HABIT = 0.02  # share of such annotations from which they are a habit of the tool; in COCO all crowds are 0.012
_OUTSIDE_TOLERANCE_PX = 2.0
_MAKES_OBJECTS = "sets iscrowd to 0 where the mask is in one piece; crowds=all does so for every crowd with a mask"


def _iscrowd_invalid(document: Document) -> Iterator[Finding]:
    for row in document.annotations:
        if fault := crowd_fault(row.entry.get("iscrowd")):
            edit: Edit = RemoveKey("annotations", row.position, "iscrowd")
            if fault.repaired is not None:
                edit = SetValue("annotations", row.position, "iscrowd", fault.repaired)
            yield about_annotation(document, row, fault.message, edit)


def _crowd_only(dataset: Dataset) -> Iterator[Finding]:
    for document in dataset.documents:
        rows = document.annotations
        if not rows or not all(row.iscrowd for row in rows):
            continue
        message = f"all {len(rows):,} annotations are flagged as crowds"
        edits = tuple(_as_object(row) for row in rows if _is_asked(row, document, dataset.settings))
        helps = not edits and any(looks_single(row, document) for row in rows)
        yield Finding(message, document, edits=edits, needs=AS_OBJECTS if helps else None)


def _crowd_polygon(dataset: Dataset) -> Iterator[Finding]:
    for document in dataset.documents:
        for row in _crowds_among_objects(document):
            if isinstance(row.entry.get("segmentation"), list) and row.rle:
                message = "a polygon is flagged as a crowd; crowds are run lengths in COCO"
                yield _about_crowd(document, row, message, dataset.settings)


def _crowd_single(dataset: Dataset) -> Iterator[Finding]:
    asked = dataset.settings.crowds
    for document in dataset.documents:
        masks = [row for row in _crowds_among_objects(document) if isinstance(row.entry.get("segmentation"), dict)]
        rows = [row for row in masks if row.rle and (asked == "all" or looks_single(row, document))]
        if rows and (asked != "keep" or are_a_habit(rows, document)):
            for row in rows:
                message = f"a mask of {row.area:,} px is flagged as a crowd"
                yield _about_crowd(document, row, message, dataset.settings)


def _crowds_among_objects(document: Document) -> list[AnnotationRow]:
    """The crowds of a file; none where all are, which is said once, of the whole file."""
    crowds = [row for row in document.annotations if row.iscrowd]
    return crowds if len(crowds) < len(document.annotations) else []


def _about_crowd(document: Document, row: AnnotationRow, message: str, settings: CheckSettings) -> Finding:
    edits = (_as_object(row),) if _is_asked(row, document, settings) else ()
    return Finding(message, document, row.image.id, row.id, row.category_id, edits, None if edits else AS_OBJECTS)


def _is_asked(row: AnnotationRow, document: Document, settings: CheckSettings) -> bool:
    wanted = settings.crowds == "all" or (settings.crowds == "objects" and looks_single(row, document))
    return wanted and row.rle is not None


def _as_object(row: AnnotationRow) -> Edit:
    return SetValue("annotations", row.position, "iscrowd", 0)


def _mask_missing(dataset: Dataset) -> Iterator[Finding]:
    for document in dataset.documents:
        rows = [row for row in document.annotations if crowd_flag(row.entry.get("iscrowd")) is not None]
        bare = [row for row in rows if row.outline is None and not document.is_normalised]
        boxed = [row for row in bare if row.box_xyxy is not None and not row.iscrowd]
        edits = [_of_box(row, dataset.settings.boxes) for row in boxed]
        if boxed and len(boxed) == sum(not row.iscrowd for row in document.annotations):
            message = f"none of the {len(boxed):,} annotations has a mask, only boxes"
            needs = None if all(edits) else "boxes=rectangle"
            yield Finding(message, document, edits=tuple(edit for edit in edits if edit), needs=needs)
        else:
            for row, edit in zip(boxed, edits, strict=True):
                finding = about_annotation(document, row, "it has no segmentation, only a bbox")
                yield replace(finding, edits=(edit,) if edit else (), needs=None if edit else "boxes=drop")
        for row in bare:
            if row.box_xyxy is None:
                what = "it is a crowd with" if row.iscrowd else "it has"
                message = f"{what} neither a segmentation nor a usable bbox ({show(row.entry.get('bbox'))})"
                yield about_annotation(document, row, message, RemoveEntry("annotations", row.position))


def _of_box(row: AnnotationRow, boxes: str) -> Edit | None:
    """What becomes of an object with a box alone; None: nothing unasked."""
    if boxes == "drop":
        return RemoveEntry("annotations", row.position)
    if boxes == "keep" or row.box_xyxy is None:
        return None
    x0, y0, x1, y1 = row.box_xyxy
    return SetValue("annotations", row.position, "segmentation", [[x0, y0, x1, y0, x1, y1, x0, y1]])


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


def crowds_by_class(document: Document) -> dict[str, int]:
    """How many annotations of each class are crowds; classes without any are left out."""
    names = {row.id: row.name for row in document.categories}
    counts = Counter(names.get(row.category_id, str(row.category_id)) for row in document.annotations if row.iscrowd)
    return dict(counts)


def looks_single(row: AnnotationRow, document: Document) -> bool:
    """Whether a crowd looks like one object: a polygon, or a mask of one piece that is no rest of many objects."""
    if isinstance(row.entry.get("segmentation"), list):
        return row.rle is not None
    if row.rle is None or not _is_one_piece(row.rle["counts"], *row.rle["size"]):
        return False
    alike = [other for other in document.annotations_of[row.image.id] if other.category_id == row.category_id]
    crowds = sum(other.iscrowd for other in alike)
    return crowds > 1 or len(alike) - crowds < _OBJECTS_BESIDE_A_CROWD


def are_a_habit(rows: list[AnnotationRow], document: Document) -> bool:
    """Whether crowds that look like single objects are too many of a file to be chance."""
    return len(rows) >= _HABIT * len(document.annotations)


@lru_cache(maxsize=100_000)
def _is_one_piece(counts: str, height: int, width: int) -> bool:
    crop, _, _ = rle_to_crop(Rle(size=[height, width], counts=counts))
    pieces, number = ndimage.label(crop, structure=np.ones((3, 3)))
    return number == 1 or bool(np.bincount(pieces.ravel())[1:].max() >= _ONE_PIECE * np.count_nonzero(crop))


RULES = (
    error_rule(
        "iscrowd-invalid",
        "iscrowd is 0 or 1.",
        "A single object could be taken for a crowd, which is not trained on.",
        each_document(_iscrowd_invalid),
        repair="writes 0 or 1 where that is said in words, else removes the key",
    ),
    error_rule(
        "crowd-only",
        "Not every annotation is a crowd.",
        "Nothing would be learned: crowds are regions to be ignored.",
        _crowd_only,
        repair=f"with {AS_OBJECTS}, {_MAKES_OBJECTS}",
    ),
    warning_rule(
        "crowd-polygon",
        "Crowds are run lengths; a polygon is one object.",
        "The object is not trained on, and detections of it count neither as right nor as wrong.",
        _crowd_polygon,
        repair=f"with {AS_OBJECTS}, {_MAKES_OBJECTS}",
    ),
    warning_rule(
        "crowd-single-object",
        "Crowds are regions of many objects, not single objects.",
        "Objects that are flagged so are not learned. Some tools export single objects as crowds: CVAT does so with "
        "masks drawn with its brush.",
        _crowd_single,
        repair=f"with {AS_OBJECTS}, {_MAKES_OBJECTS}",
    ),
    error_rule(
        "mask-missing",
        "Each object has a mask; a crowd has a mask or at least a box.",
        "Training cannot start: a box alone does not teach a mask.",
        _mask_missing,
        repair="with boxes=rectangle, makes the box the mask; with boxes=drop, removes the annotation, "
        "as it does unasked where there is no box either",
    ),
    error_rule(
        "mask-empty",
        "Each mask has at least one pixel inside the image.",
        "There is nothing to learn, and nothing can find it: it counts as missed for ever.",
        each_document(_mask_empty),
        repair="removes the annotation",
    ),
    warning_rule(
        "polygon-outside",
        f"Polygons stay inside the image, to {_OUTSIDE_TOLERANCE_PX:g} px.",
        "The mask is cut off at the edge; if many are, the annotations belong to another size of the images.",
        each_document(_polygon_outside),
    ),
    warning_rule(
        "polygon-self-crossing",
        "Polygons do not cross themselves so that their mask loses or gains area.",
        "What is enclosed twice counts as outside: the mask has holes that the object has not.",
        each_document(_self_crossing),
    ),
)
