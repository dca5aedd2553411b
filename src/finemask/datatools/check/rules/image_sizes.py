"""Rules on whether image files have the size that the annotations state, and on EXIF rotation."""

from collections.abc import Iterator

from finemask.coco.values import show
from finemask.datatools.check.document import Document, ImageRow
from finemask.datatools.check.problems import Dataset, Edit, Finding, Rule, SetValue, Severity
from finemask.datatools.check.rules.findings import about_image
from finemask.datatools.check.rules.image_findings import REMOVES, counted, facts_of_images, removed


def _size_differs(dataset: Dataset) -> Iterator[Finding]:
    for document in dataset.documents:
        rows = []
        for row, facts in facts_of_images(dataset, document):
            if facts.fault is not None or (row.height, row.width) in (facts.raw_hw, facts.upright_hw):
                continue
            assert facts.upright_hw is not None
            height, width = facts.upright_hw
            message = (
                f"{show(row.file_name)} is {width} × {height} px, its entry says {row.width} × {row.height} "
                "(width × height)"
            )
            if facts.orientation == 1 and _belong_to(document, row, height, width):
                edits: tuple[Edit, ...] = (
                    SetValue("images", row.position, "height", height),
                    SetValue("images", row.position, "width", width),
                )
                yield about_image(document, row, message, *edits)
            else:
                rows.append((row, message))
        yield from removed(document, rows, "have another size than their entries say")


def _belong_to(document: Document, row: ImageRow, height: int, width: int) -> bool:
    """Whether the annotations of an image were certainly made on pixels of this size, not of the one that is stated.

    They were when there are none; or when height and width are swapped, all of them fit, and some would not fit the
    stated size.
    """
    annotations = document.annotations_of[row.id]
    if not annotations:
        return True
    extents = [annotation.outline.extent_xyxy for annotation in annotations if annotation.outline is not None]
    known = [extent for extent in extents if extent is not None]  # of polygons; run lengths belong to one size only
    if len(known) < len(annotations) or (height, width) != (row.width, row.height):
        return False
    right, lower = max(extent[2] for extent in known), max(extent[3] for extent in known)
    return right <= width + 1 and lower <= height + 1 and (right > row.width + 1 or lower > row.height + 1)


def _on_raw_pixels(dataset: Dataset) -> Iterator[Finding]:
    for document in dataset.documents:
        rows = [
            row
            for row, facts in facts_of_images(dataset, document)
            if facts.fault is None and facts.upright_hw != facts.raw_hw and facts.raw_hw == (row.height, row.width)
        ]
        yield from counted(document, rows, "were annotated as stored, before the EXIF rotation of their files")


def _orientation_unclear(dataset: Dataset) -> Iterator[Finding]:
    for document in dataset.documents:
        rows = [
            row
            for row, facts in facts_of_images(dataset, document)
            if facts.fault is None
            and facts.orientation != 1
            and facts.raw_hw == facts.upright_hw == (row.height, row.width)
            and document.annotations_of[row.id]
        ]
        message = "have an EXIF orientation that leaves their size as it is; they are taken to be annotated upright"
        yield from counted(document, rows, message)


RULES = (
    Rule(
        "image-size-differs",
        Severity.ERROR,
        "Width and height of each entry are those of the file, as stored or as rotated by EXIF.",
        "Masks and boxes would lie beside their objects.",
        _size_differs,
        repair="writes the size of the file if nothing depends on the other or the annotations prove it; else "
        + REMOVES,
        fast=False,
    ),
    Rule(
        "image-orientation-raw",
        Severity.WARNING,
        "No image was annotated before its EXIF rotation.",
        "None here: finemask reads it as it was annotated; other programs rotate it away from its masks.",
        _on_raw_pixels,
        fast=False,
        harmless_here=True,
    ),
    Rule(
        "image-orientation-unclear",
        Severity.WARNING,
        "No annotated image has an EXIF orientation of which its size does not tell whether it was applied.",
        "If the annotations were made on the stored pixels, every mask lies on the wrong spot.",
        _orientation_unclear,
        fast=False,
    ),
)
