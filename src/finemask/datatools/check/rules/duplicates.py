"""Rules on what is there twice: annotations on one image, images in one file, images in several files."""

import hashlib
import os
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from finemask.coco.values import show
from finemask.datatools.check.document import Document, ImageRow
from finemask.datatools.check.problems import Dataset, Finding, Rule, Severity
from finemask.datatools.check.rules.findings import about_image
from finemask.datatools.check.rules.image_findings import facts_of_images
from finemask.datatools.check.rules.overlaps import RULES as OVERLAP_RULES
from finemask.datatools.image_hash import clusters
from finemask.errors import DataError
from finemask.ops.images.decode import decode_image
from finemask.ops.images.image_reading import ImageReading

_SHOWN = 4


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
                first, *others = files.values()
                names = ", ".join(show(image.row.file_name) for image in (first, *others)[:_SHOWN])
                names += f" and {len(files) - _SHOWN} more" if len(files) > _SHOWN else ""
                message = f"{names} {_likeness(list(files.values()))}"
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
            names = f"{show(image.row.file_name)} and {show(nearest.row.file_name)} of {nearest.document.path.name}"
            yield about_image(image.document, image.row, f"{names} {_likeness([image, nearest])}")


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
    *OVERLAP_RULES,
    Rule(
        "image-in-two-files",
        Severity.WARNING,
        "No image is in two of the files given.",
        "What is trained on is not unseen in validation: the scores are too good to be true.",
        _same_file,
    ),
    Rule(
        "image-near-duplicate-across",
        Severity.WARNING,
        "No image of a file looks like an image of a file given before it.",
        "What is trained on is not unseen in validation: the scores are too good to be true. "
        "finemask data split with group_by=hash keeps such images together.",
        _across_files,
        fast=False,
    ),
    Rule(
        "image-near-duplicate",
        Severity.WARNING,
        "No two images of a file look alike.",
        "They count twice, and contradict one another if they are annotated differently; "
        "split later, they leak from training into validation.",
        _within_file,
        fast=False,
    ),
)
