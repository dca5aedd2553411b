"""What the rules on image files share: opening the images of a document, and findings about many of them."""

from collections.abc import Iterator, Sequence

from finemask.coco.values import show
from finemask.datatools.check.document import Document, ImageRow
from finemask.datatools.check.problems import Dataset, Finding, RemoveEntry
from finemask.datatools.check.rules.findings import about_image
from finemask.datatools.check.rules.image_places import places_of
from finemask.datatools.image_facts import ImageFacts, facts_of

REMOVES = "removes the image and its annotations, unless it concerns more than half of the images"
"""What ``fix=`` does about what ``removed`` finds."""

_SHOWN = 3


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


def removed(document: Document, rows: Sequence[tuple[ImageRow, str]], together: str) -> Iterator[Finding]:
    """Findings that remove images; one without a repair when they are more than half of all.

    What most images share has one cause, a wrong folder or a missing codec, and a person has to find it.

    Args:
        document: the file.
        rows: images with a message each.
        together: what is wrong with all of them, after "12 of 20 images".
    """
    if len(rows) > len(document.images) / 2:
        first = ", ".join(show(row.file_name) for row, _ in rows[:_SHOWN]) + (", …" if len(rows) > _SHOWN else "")
        yield Finding(f"{len(rows)} of {len(document.images)} images {together}; the first: {first}", document)
        return
    for row, message in rows:
        yield about_image(document, row, message, RemoveEntry("images", row.position))


def counted(document: Document, rows: Sequence[ImageRow], message: str) -> Iterator[Finding]:
    """One finding for all rows; about the image if it is one."""
    if len(rows) == 1:
        yield about_image(document, rows[0], f"{show(rows[0].file_name)}: 1 image of {len(document.images)} {message}")
    elif rows:
        first = ", ".join(show(row.file_name) for row in rows[:_SHOWN]) + (", …" if len(rows) > _SHOWN else "")
        yield Finding(f"{len(rows)} of {len(document.images)} images {message}: {first}", document)
