"""Findings about rows, so that every rule names the same things in the same way."""

from typing import Any

from finemask.coco.values import whole
from finemask.datatools.check.document import AnnotationRow, CategoryRow, Document, ImageRow
from finemask.datatools.check.problems import Edit, Finding, ListName, RemoveEntry


def about_annotation(document: Document, row: AnnotationRow, message: str, *edits: Edit) -> Finding:
    """A finding about an annotation."""
    return Finding(message, document, row.image.id, row.id, row.category_id, edits)


def about_image(document: Document, row: ImageRow, message: str, *edits: Edit) -> Finding:
    """A finding about an image."""
    return Finding(message, document, image_id=row.id, edits=edits)


def about_category(document: Document, row: CategoryRow, message: str, *edits: Edit) -> Finding:
    """A finding about a category."""
    return Finding(message, document, category_id=row.id, edits=edits)


def about_entry(document: Document, name: ListName, position: int, message: str, *edits: Edit) -> Finding:
    """A finding about an entry that may be no row: with those of its ids that are whole numbers."""
    entry = document.raw[name][position]
    values = entry if isinstance(entry, dict) else {}
    own = {"images": "image_id", "annotations": "annotation_id", "categories": "category_id"}[name]
    ids: dict[str, Any] = {own: whole(values.get("id"))}
    if name == "annotations":
        ids |= {"image_id": whole(values.get("image_id")), "category_id": whole(values.get("category_id"))}
    if ids[own] is None:
        message = f"entry {position + 1} of {name}: {message}"
    return Finding(message, document, edits=edits, **ids)


def remove(name: ListName, position: int) -> RemoveEntry:
    """The edit that takes out an entry."""
    return RemoveEntry(name, position)
