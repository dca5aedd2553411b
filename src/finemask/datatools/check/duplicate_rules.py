"""Rules on what is there twice: annotations on one image, images in one file, images in several files."""

import hashlib
import os
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from finemask.coco.entries import show
from finemask.datatools.check.box_rules import box_iou
from finemask.datatools.check.document import AnnotationRow, Document, ImageRow
from finemask.datatools.check.image_file_rules import facts_of_images
from finemask.datatools.check.problems import (
    Dataset,
    Finding,
    RemoveEntry,
    about_annotation,
    about_image,
    each_document,
    warning_rule,
)
from finemask.datatools.image_hash import clusters
from finemask.errors import DataError
from finemask.ops.images.decode import decode_image
from finemask.ops.images.image_reading import ImageReading
from finemask.ops.rle import mask_iou
from finemask.ops.wording import names

NEAR_IOU = 0.9
"""Overlap from which two annotations are taken for one object annotated twice."""

_BOX_IOU = 0.5  # masks that nearly coincide have boxes that overlap at least this much
_SHOWN = 4  # names in a message
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
        classes = {row.id: row.name for row in document.categories}
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
                    one, two = (classes.get(row.category_id, str(row.category_id)) for row in (first, second))
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
    if one.rle is not None and other.rle is not None:
        return float(mask_iou([one.rle], [other.rle])[0, 0])
    assert one.box_xyxy is not None
    assert other.box_xyxy is not None
    return box_iou(one.box_xyxy, other.box_xyxy)


@dataclass(frozen=True, slots=True)
class _Image:
    """An image that can be compared."""

    document: Document
    row: ImageRow
    hash: int

    @property
    def path(self) -> Path:
        assert self.document.images_dir is not None
        return Path(os.path.realpath(self.document.images_dir)) / self.row.file_name


def _alike(dataset: Dataset) -> list[list[_Image]]:
    """Groups of near-duplicates, over all files."""
    images = [
        _Image(document, row, facts.hash)
        for document in dataset.documents
        for row, facts in facts_of_images(dataset, document)
    ]
    hashes = np.array([image.hash for image in images], dtype=np.uint64)
    return [[images[k] for k in group] for group in clusters(hashes)]


def _within_file(dataset: Dataset) -> Iterator[Finding]:
    for group in _alike(dataset):
        by_document: dict[int, list[_Image]] = defaultdict(list)
        for image in group:
            by_document[id(image.document)].append(image)
        for images in by_document.values():
            files = {image.path: image for image in images}  # one file with two entries has its own rule
            if len(files) > 1:
                first = next(iter(files.values()))
                alike = names([show(image.row.file_name) for image in files.values()], _SHOWN)
                message = f"{alike} {_likeness(list(files.values()))}"
                yield about_image(first.document, first.row, message)


def _across_files(dataset: Dataset) -> Iterator[Finding]:
    if len(dataset.documents) < 2:
        return
    rank = {id(document): number for number, document in enumerate(dataset.documents)}
    for group in _alike(dataset):
        for image in group:
            earlier = [other for other in group if rank[id(other.document)] < rank[id(image.document)]]
            if not earlier or any(other.path == image.path for other in earlier):
                continue  # the very same file has its own rule
            nearest = min(earlier, key=lambda other: (other.hash ^ image.hash).bit_count())
            both = f"{show(image.row.file_name)} and {show(nearest.row.file_name)} of {nearest.document.path.name}"
            yield about_image(image.document, image.row, f"{both} {_likeness([image, nearest])}")


def _likeness(images: Sequence[_Image]) -> str:
    """What a group has in common: its pixels, or its looks."""
    digests = {_pixels_of(image.path) for image in images[:_SHOWN]}
    if len(digests) == 1 and None not in digests:
        return "have the same pixels"
    apart = max((image.hash ^ images[0].hash).bit_count() for image in images)
    return f"look alike (their hashes differ in {apart} of 64 bits)"


@lru_cache(4096)
def _pixels_of(path: Path) -> str | None:
    """A digest of what is decoded; None if that fails."""
    try:
        pixels = decode_image(path, None, ImageReading(page=0, range="image"))
    except DataError:
        return None
    return hashlib.sha256(f"{pixels.shape}".encode() + pixels.tobytes()).hexdigest()


def _same_file(dataset: Dataset) -> Iterator[Finding]:
    known: dict[tuple[str, str], Document] = {}
    for document in dataset.documents:
        if document.images_dir is None:
            continue
        root = os.path.realpath(document.images_dir)
        for row in {row.file_name: row for row in document.images}.values():
            other = known.setdefault((root, row.file_name), document)
            if other is not document:
                yield about_image(document, row, f"{show(row.file_name)} is in {other.path.name} as well")


RULES = (
    warning_rule(
        "annotation-repeated",
        "No two annotations of an image have the same class and the same pixels.",
        "The object counts twice in training, and one of the two can never be found in validation.",
        each_document(_same),
        repair="keeps the first and removes the others",
    ),
    warning_rule(
        "annotation-near-duplicate",
        f"No two annotations of one class on an image have an IoU of {NEAR_IOU:g} or more.",
        "One object is probably annotated twice: one of the two can never be found in validation.",
        each_document(_near(same_class=True)),
    ),
    warning_rule(
        "annotation-two-classes",
        f"No two annotations of different classes on an image have an IoU of {NEAR_IOU:g} or more.",
        "The model is told that the same pixels are one class and not the other, and the reverse.",
        each_document(_near(same_class=False)),
    ),
    warning_rule(
        "image-in-two-files",
        "No image is in two of the files given.",
        "What is trained on is not unseen in validation: the scores are too good to be true.",
        _same_file,
    ),
    warning_rule(
        "image-near-duplicate-across",
        "No image of a file looks like an image of a file given before it.",
        "What is trained on is not unseen in validation: the scores are too good to be true. "
        "finemask data split with group_by=hash keeps such images together.",
        _across_files,
        fast=False,
    ),
    warning_rule(
        "image-near-duplicate",
        "No two images of a file look alike.",
        "They count twice, and contradict one another if they are annotated differently; "
        "split later, they leak from training into validation.",
        _within_file,
        fast=False,
    ),
)
