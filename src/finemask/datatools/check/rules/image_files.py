"""Rules on image files: whether they are there, inside their folder, and can be decoded."""

import json
import shlex
from collections.abc import Callable, Iterator, Sequence

from finemask.coco.values import show
from finemask.datatools.check.document import Document
from finemask.datatools.check.problems import Dataset, Finding, Rule, SetValue, Severity, each_document
from finemask.datatools.check.rules.findings import about_image
from finemask.datatools.check.rules.image_findings import REMOVES, counted, facts_of_images, removed
from finemask.datatools.check.rules.image_places import Place, places_of
from finemask.datatools.check.rules.image_sizes import RULES as SIZE_RULES
from finemask.datatools.image_facts import Fault


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
    yield from removed(document, rows, f"are not in {document.images_dir}{hint}")


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
    yield from removed(document, rows, "are links that lead out of the images folder")


def _empty(document: Document) -> Iterator[Finding]:
    rows = [
        (place.row, f"{show(place.row.file_name)} has 0 bytes")
        for place in places_of(document)
        if place.is_sound and place.path.stat().st_size == 0
    ]
    yield from removed(document, rows, "have 0 bytes")


def _faulty(fault: Fault) -> Callable[[Dataset], Iterator[Finding]]:
    def check(dataset: Dataset) -> Iterator[Finding]:
        for document in dataset.documents:
            rows = [
                (row, f"{show(row.file_name)}: {facts.reason}")
                for row, facts in facts_of_images(dataset, document)
                if facts.fault is fault
            ]
            why = f" ({rows[0][1].partition(': ')[2]})" if rows else ""
            yield from removed(document, rows, f"cannot be decoded{why}")

    return check


def _undecided(choice: str) -> Callable[[Dataset], Iterator[Finding]]:
    def check(dataset: Dataset) -> Iterator[Finding]:
        for document in dataset.documents:
            found = [(row, facts) for row, facts in facts_of_images(dataset, document) if facts.choice == choice]
            if found:
                typed = shlex.quote(f"image.{choice}={_example([facts.example for _, facts in found])}")
                first = f"{show(found[0][0].file_name)}: {found[0][1].reason}"
                message = f"cannot be read before image.{choice}= is chosen, such as {typed} ({first})"
                yield from counted(document, [row for row, _ in found], message)

    return check


def _example(examples: Sequence[str]) -> str:
    """One value for all images: of ranges the one that holds the others."""
    values = [json.loads(example) for example in examples]
    ranges = [value for value in values if isinstance(value, list) and len(value) == 2]
    if len(ranges) == len(values):
        return f"[{min(low for low, _ in ranges):g},{max(high for _, high in ranges):.10g}]"
    return examples[0]


RULES = (
    Rule(
        "image-missing",
        Severity.ERROR,
        "Each image has a file in the images folder.",
        "Training cannot start: there is no picture to learn from.",
        each_document(_missing),
        repair="corrects a name that differs from one file's by slashes, %20, Unicode form, letter case, extension or "
        f"folder; else {REMOVES}",
    ),
    Rule(
        "image-link-leaves-folder",
        Severity.ERROR,
        "No image is a link, or in a linked folder, that leads out of the images folder.",
        "Training cannot start: a dataset from elsewhere could read any file of this machine.",
        each_document(_leads_out),
        repair=REMOVES,
    ),
    Rule(
        "image-empty",
        Severity.ERROR,
        "No image file has 0 bytes.",
        "Training would stop when it comes to this image.",
        each_document(_empty),
        repair=REMOVES,
    ),
    Rule(
        "image-unreadable",
        Severity.ERROR,
        "Each image file is an image of a known format, with values of a known range.",
        "Training would stop when it comes to this image.",
        _faulty(Fault.UNREADABLE),
        repair=REMOVES,
        fast=False,
    ),
    Rule(
        "image-damaged",
        Severity.ERROR,
        "Each image file can be decoded to its end: none is cut off.",
        "Training would stop when it comes to this image; other programs fill the rest with grey.",
        _faulty(Fault.DAMAGED),
        repair=REMOVES,
        fast=False,
    ),
    Rule(
        "image-pages",
        Severity.ERROR,
        "Each TIFF file holds one page, or image.page= says which is read (data.image.page= in training).",
        "Training would stop when it comes to this image: a stack has no page that is the picture.",
        _undecided("page"),
        fast=False,
    ),
    Rule(
        "image-range",
        Severity.ERROR,
        "Values of more than 8 bits fill their range, or image.range= says what it is (data.image.range= in training).",
        "Training would stop when it comes to this image: 10 bits of a camera in a 16-bit file would be black.",
        _undecided("range"),
        fast=False,
    ),
    Rule(
        "image-channels",
        Severity.ERROR,
        "Each file says which channels are the picture, or image.channels= does (data.image.channels= in training).",
        "Training would stop when it comes to this image: of five channels none is red.",
        _undecided("channels"),
        fast=False,
    ),
    *SIZE_RULES,
)
