"""Rules on image files: whether they are there, inside their folder, can be decoded, and have the size stated."""

import json
import shlex
from collections.abc import Callable, Iterator, Sequence
from typing import TypeAlias

from finemask.coco.entries import show
from finemask.datatools.check.document import Document, ImageRow
from finemask.datatools.check.problems import (
    Dataset,
    Finding,
    RemoveEntry,
    SetValue,
    about_image,
    each_document,
    error_rule,
    warning_rule,
)
from finemask.datatools.image_facts import Fault, ImageFacts, Place, facts_of, places_of

_REMOVES = "removes the image and its annotations, unless it concerns more than half of the images"
_SHOWN = 3

_Decoded: TypeAlias = list[tuple[ImageRow, ImageFacts]]
"""The images of a document with what their files hold, less those that are missing or outside the folder."""


def facts_of_images(dataset: Dataset, document: Document) -> Iterator[tuple[ImageRow, ImageFacts]]:
    """The images of a document with what their files are, without those that are missing or outside the folder.

    Args:
        dataset: its progress is told.
        document: without a known folder of images there is nothing to yield.
    """
    places = [place for place in places_of(document) if place.is_sound]
    what = f"opening images of {document.path.name}"
    paths = [place.path for place in places]
    found = facts_of(paths, lambda done, total: dataset.progress(what, done, total), dataset.settings.reading)
    for place, facts in zip(places, found, strict=True):
        yield place.row, facts


def _each_decoded(
    check: Callable[[Document, _Decoded], Iterator[Finding]],
) -> Callable[[Dataset], Iterator[Finding]]:
    """A check of what the image files of one document hold as a check of a dataset."""

    def check_all(dataset: Dataset) -> Iterator[Finding]:
        for document in dataset.documents:
            yield from check(document, list(facts_of_images(dataset, document)))

    return check_all


def _removed(document: Document, rows: Sequence[tuple[ImageRow, str]], together: str) -> Iterator[Finding]:
    """Findings that remove images; one without a repair when they are more than half of all.

    What most images share has one cause, a wrong folder or a missing codec, and a person has to find it.

    Args:
        document: the file.
        rows: images with a message each.
        together: what is wrong with all of them, after "12 of 20 images".
    """
    if len(rows) > len(document.images) / 2:
        first = _first_names([row for row, _ in rows])
        yield Finding(f"{len(rows)} of {len(document.images)} images {together}; the first: {first}", document)
        return
    for row, message in rows:
        yield about_image(document, row, message, RemoveEntry("images", row.position))


def _counted(document: Document, rows: Sequence[ImageRow], message: str) -> Iterator[Finding]:
    """One finding for all rows; about the image if it is one."""
    if len(rows) == 1:
        yield about_image(document, rows[0], f"{show(rows[0].file_name)}: 1 image of {len(document.images)} {message}")
    elif rows:
        text = f"{len(rows)} of {len(document.images)} images {message}: {_first_names(rows)}"
        yield Finding(text, document)


def _first_names(rows: Sequence[ImageRow]) -> str:
    return ", ".join(show(row.file_name) for row in rows[:_SHOWN]) + (", …" if len(rows) > _SHOWN else "")


def _missing(document: Document) -> Iterator[Finding]:
    lost = [place for place in places_of(document) if not place.exists]
    taken = {row.file_name for row in document.images}
    hint = _folder_hint(document, lost)
    rows = []
    for place in lost:
        name, meant = place.row.file_name, place.meant
        if hint or meant is None or meant.file in taken:
            rows.append((place.row, f"there is no file {show(name)}"))
            continue
        taken.add(meant.file)
        message = f"there is no file {show(name)}, but {show(meant.file)}, which differs by {meant.cause}"
        yield about_image(document, place.row, message, SetValue("images", place.row.position, "file_name", meant.file))
    yield from _removed(document, rows, f"are not in {document.images_dir}{hint}")


def _folder_hint(document: Document, lost: Sequence[Place]) -> str:
    """What to do when the file names already contain the folder."""
    if not lost or document.images_dir is None:
        return ""
    parent = document.images_dir.absolute().parent
    found = (parent / lost[0].row.file_name).is_file()
    return f": the file names already contain the folder, give images={parent}" if found else ""


def _leads_out(document: Document) -> Iterator[Finding]:
    rows = [
        (place.row, f"{show(place.row.file_name)} is a link to {place.leads_to}, outside of the images folder")
        for place in places_of(document)
        if place.leads_to is not None
    ]
    yield from _removed(document, rows, "are links that lead out of the images folder")


def _empty(document: Document) -> Iterator[Finding]:
    rows = [
        (place.row, f"{show(place.row.file_name)} has 0 bytes")
        for place in places_of(document)
        if place.is_sound and place.path.stat().st_size == 0
    ]
    yield from _removed(document, rows, "have 0 bytes")


def _faulty(fault: Fault) -> Callable[[Dataset], Iterator[Finding]]:
    def check(document: Document, images: _Decoded) -> Iterator[Finding]:
        rows = [(row, f"{show(row.file_name)}: {facts.reason}") for row, facts in images if facts.fault is fault]
        why = f" ({rows[0][1].partition(': ')[2]})" if rows else ""
        yield from _removed(document, rows, f"cannot be decoded{why}")

    return _each_decoded(check)


def _undecided(choice: str) -> Callable[[Dataset], Iterator[Finding]]:
    def check(document: Document, images: _Decoded) -> Iterator[Finding]:
        found = [(row, facts) for row, facts in images if facts.choice == choice]
        if found:
            typed = shlex.quote(f"image.{choice}={_example([facts.example for _, facts in found])}")
            first = f"{show(found[0][0].file_name)}: {found[0][1].reason}"
            message = f"cannot be read before image.{choice}= is chosen, such as {typed} ({first})"
            yield from _counted(document, [row for row, _ in found], message)

    return _each_decoded(check)


def _example(examples: Sequence[str]) -> str:
    """One value for all images: of ranges the one that holds the others."""
    values = [json.loads(example) for example in examples]
    ranges = [value for value in values if isinstance(value, list) and len(value) == 2]
    if len(ranges) == len(values):
        return f"[{min(low for low, _ in ranges):g},{max(high for _, high in ranges):.10g}]"
    return examples[0]


@_each_decoded
def _size_differs(document: Document, images: _Decoded) -> Iterator[Finding]:
    rows = []
    for row, facts in images:
        if facts.fault is not None or (row.height, row.width) in (facts.raw_hw, facts.upright_hw):
            continue
        assert facts.upright_hw is not None
        height, width = facts.upright_hw
        stated = f"its entry says {row.width} × {row.height} (width × height)"
        message = f"{show(row.file_name)} is {width} × {height} px, {stated}"
        if facts.orientation == 1 and _belong_to(document, row, height, width):
            size = {"height": height, "width": width}
            edits = [SetValue("images", row.position, key, value) for key, value in size.items()]
            yield about_image(document, row, message, *edits)
        else:
            rows.append((row, message))
    yield from _removed(document, rows, "have another size than their entries say")


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


@_each_decoded
def _on_raw_pixels(document: Document, images: _Decoded) -> Iterator[Finding]:
    rows = [
        row
        for row, facts in images
        if facts.fault is None and facts.upright_hw != facts.raw_hw and facts.raw_hw == (row.height, row.width)
    ]
    yield from _counted(document, rows, "were annotated as stored, before the EXIF rotation of their files")


@_each_decoded
def _orientation_unclear(document: Document, images: _Decoded) -> Iterator[Finding]:
    rows = [
        row
        for row, facts in images
        if facts.fault is None
        and facts.orientation != 1
        and facts.raw_hw == facts.upright_hw == (row.height, row.width)
        and document.annotations_of[row.id]
    ]
    message = "have an EXIF orientation that leaves their size as it is; they are taken to be annotated upright"
    yield from _counted(document, rows, message)


RULES = (
    error_rule(
        "image-missing",
        "Each image has a file in the images folder.",
        "Training cannot start: there is no picture to learn from.",
        each_document(_missing),
        repair="corrects a name that differs from one file's by slashes, %20, Unicode form, letter case, extension or "
        f"folder; else {_REMOVES}",
    ),
    error_rule(
        "image-link-leaves-folder",
        "No image is a link, or in a linked folder, that leads out of the images folder.",
        "Training cannot start: a dataset from elsewhere could read any file of this machine.",
        each_document(_leads_out),
        repair=_REMOVES,
    ),
    error_rule(
        "image-empty",
        "No image file has 0 bytes.",
        "Training would stop when it comes to this image.",
        each_document(_empty),
        repair=_REMOVES,
    ),
    error_rule(
        "image-unreadable",
        "Each image file is an image of a known format, with values of a known range.",
        "Training would stop when it comes to this image.",
        _faulty(Fault.UNREADABLE),
        repair=_REMOVES,
        fast=False,
    ),
    error_rule(
        "image-damaged",
        "Each image file can be decoded to its end: none is cut off.",
        "Training would stop when it comes to this image; other programs fill the rest with grey.",
        _faulty(Fault.DAMAGED),
        repair=_REMOVES,
        fast=False,
    ),
    error_rule(
        "image-pages",
        "Each TIFF file holds one page, or image.page= says which is read (data.image.page= in training).",
        "Training would stop when it comes to this image: a stack has no page that is the picture.",
        _undecided("page"),
        fast=False,
    ),
    error_rule(
        "image-range",
        "Values of more than 8 bits fill their range, or image.range= says what it is (data.image.range= in training).",
        "Training would stop when it comes to this image: 10 bits of a camera in a 16-bit file would be black.",
        _undecided("range"),
        fast=False,
    ),
    error_rule(
        "image-channels",
        "Each file says which channels are the picture, or image.channels= does (data.image.channels= in training).",
        "Training would stop when it comes to this image: of five channels none is red.",
        _undecided("channels"),
        fast=False,
    ),
    error_rule(
        "image-size-differs",
        "Width and height of each entry are those of the file, as stored or as rotated by EXIF.",
        "Masks and boxes would lie beside their objects.",
        _size_differs,
        repair="writes the size of the file if nothing depends on the other or the annotations prove it; else "
        + _REMOVES,
        fast=False,
    ),
    warning_rule(
        "image-orientation-raw",
        "No image was annotated before its EXIF rotation.",
        "None here: finemask reads it as it was annotated; other programs rotate it away from its masks.",
        _on_raw_pixels,
        fast=False,
        harmless_here=True,
    ),
    warning_rule(
        "image-orientation-unclear",
        "No annotated image has an EXIF orientation of which its size does not tell whether it was applied.",
        "If the annotations were made on the stored pixels, every mask lies on the wrong spot.",
        _orientation_unclear,
        fast=False,
    ),
)
