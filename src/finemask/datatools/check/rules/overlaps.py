"""Rules on annotations of one image that cover the same pixels."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from finemask.datatools.check.document import AnnotationRow, Document
from finemask.datatools.check.problems import Finding, RemoveEntry, Rule, Severity, each_document
from finemask.datatools.check.rules.findings import about_annotation

NEAR_IOU = 0.9
"""Overlap from which two annotations are taken for one object annotated twice."""

_BOX_IOU = 0.5  # masks that nearly coincide have boxes that overlap at least this much
_CHUNK = 512  # boxes that are compared with all others at once


def _same(document: Document) -> Iterator[Finding]:
    for rows in document.annotations_of.values():
        seen: dict[tuple[Any, ...], AnnotationRow] = {}
        for row in rows:
            key = _identity(row)
            first = seen.setdefault(key, row) if key is not None else row
            if first is not row:
                yield about_annotation(
                    document, row, f"it is the same as {_name(first)}", RemoveEntry("annotations", row.position)
                )


def _identity(row: AnnotationRow) -> tuple[Any, ...] | None:
    """What two annotations of one object have in common; None when it covers nothing."""
    if row.rle is not None:
        return row.category_id, row.iscrowd, row.rle["counts"]
    return None if row.box_xyxy is None else (row.category_id, row.iscrowd, row.box_xyxy)


def _name(row: AnnotationRow) -> str:
    return f"entry {row.position + 1}" if row.id is None else f"annotation {row.id}"


def _near(same_class: bool) -> Callable[[Document], Iterator[Finding]]:
    def check(document: Document) -> Iterator[Finding]:
        names = {row.id: row.name for row in document.categories}
        for rows in document.annotations_of.values():
            distinct: dict[tuple[Any, ...], AnnotationRow] = {}
            for row in rows:
                key = _identity(row)
                if key is not None and not row.iscrowd:
                    distinct.setdefault(key, row)
            for first, second, iou in _overlapping(list(distinct.values())):
                if (first.category_id == second.category_id) is not same_class:
                    continue
                if same_class:
                    message = f"it and {_name(first)} have an IoU of {iou:.2f}"
                else:
                    one, two = (names.get(row.category_id, str(row.category_id)) for row in (first, second))
                    message = f"it is a {two!r}, {_name(first)} is a {one!r}, and their IoU is {iou:.2f}"
                yield about_annotation(document, second, message)

    return check


def _overlapping(rows: Sequence[AnnotationRow]) -> Iterator[tuple[AnnotationRow, AnnotationRow, float]]:
    """Pairs whose masks, or boxes where neither has a mask, overlap by ``NEAR_IOU``; each row once, as the second."""
    if len(rows) < 2:
        return
    boxes = np.array([row.box_xyxy for row in rows], dtype=np.float64)
    partners: dict[int, list[int]] = defaultdict(list)
    for first, second in _pairs_of_boxes(boxes):
        if (rows[first].rle is None) == (rows[second].rle is None):
            partners[second].append(first)
    for second in sorted(partners):
        firsts = partners[second]
        ious = [_iou(rows[first], rows[second]) for first in firsts]
        best = int(np.argmax(ious))
        if ious[best] >= NEAR_IOU:
            yield rows[firsts[best]], rows[second], ious[best]


def _pairs_of_boxes(boxes: NDArray[np.float64]) -> Iterator[tuple[int, int]]:
    """Positions of pairs, the lower first, whose boxes overlap by ``_BOX_IOU``."""
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
    for start in range(0, len(boxes), _CHUNK):
        these = boxes[start : start + _CHUNK, None]
        shared = np.minimum(these[..., 2:], boxes[:, 2:]) - np.maximum(these[..., :2], boxes[:, :2])
        overlap = shared.clip(0).prod(axis=2)
        union = areas[start : start + _CHUNK, None] + areas - overlap
        for one, other in np.argwhere(overlap >= _BOX_IOU * union).tolist():
            if start + one < other:
                yield start + one, other


def _iou(one: AnnotationRow, other: AnnotationRow) -> float:
    if one.rle is None or other.rle is None:
        assert one.box_xyxy is not None
        assert other.box_xyxy is not None
        (ax0, ay0, ax1, ay1), (bx0, by0, bx1, by1) = one.box_xyxy, other.box_xyxy
        shared = max(0.0, min(ax1, bx1) - max(ax0, bx0)) * max(0.0, min(ay1, by1) - max(ay0, by0))
        return shared / ((ax1 - ax0) * (ay1 - ay0) + (bx1 - bx0) * (by1 - by0) - shared)
    pair: list[Any] = [{"size": rle["size"], "counts": rle["counts"].encode("ascii")} for rle in (one.rle, other.rle)]
    ious: Any = coco_mask.iou(pair[:1], pair[1:], [0])
    return float(ious[0][0])


RULES = (
    Rule(
        "annotation-repeated",
        Severity.WARNING,
        "No two annotations of an image have the same class and the same pixels.",
        "The object counts twice in training, and one of the two can never be found in validation.",
        each_document(_same),
        repair="keeps the first and removes the others",
    ),
    Rule(
        "annotation-near-duplicate",
        Severity.WARNING,
        f"No two annotations of one class on an image have an IoU of {NEAR_IOU:g} or more.",
        "One object is probably annotated twice: one of the two can never be found in validation.",
        each_document(_near(same_class=True)),
    ),
    Rule(
        "annotation-two-classes",
        Severity.WARNING,
        f"No two annotations of different classes on an image have an IoU of {NEAR_IOU:g} or more.",
        "The model is told that the same pixels are one class and not the other, and the reverse.",
        each_document(_near(same_class=False)),
    ),
)
