"""Which entries a repair may take out unasked: never the last ones.

An image whose labels are gone is background to learn, a class without any is a class nobody learns, and where more
than half of a list is concerned there is one cause, which a person can find. The findings stay, without their edits.
"""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace

from finemask.coco.values import whole
from finemask.datatools.check.document import LIST_NAMES, Document
from finemask.datatools.check.problems import Dataset, Finding, ListName, RemoveEntry, SetValue

REMOVE = "remove=true"
"""What has to be said for such entries to be taken out as well."""

_MOST = 10  # entries that a rule may always have removed, however short the list is


def without_emptying(found: list[Finding], dataset: Dataset, *, asked: bool) -> list[Finding]:
    """The findings of one rule; those that would empty an image, a class or a file have lost their edits.

    Args:
        found: what the rule yields.
        dataset: what it was asked about.
        asked: whether a person has asked for more to be removed than that. A file is not emptied even then.
    """
    result = found
    for document in dataset.documents:
        mine = [finding for finding in found if finding.document is document and any(_removals(finding))]
        if not mine:
            continue
        gone = {name: {edit.position for f in mine for edit in _removals(f, name)} for name in LIST_NAMES}
        lost = set().union(*(_lost(document, finding) for finding in mine))
        if _is_emptied(document, gone, lost):
            kept, needs = {id(finding) for finding in mine}, None
        elif asked:
            continue
        else:
            last = _last_ones(document, gone["images"], lost)
            half = any(len(gone[name]) > max(_MOST, sum(1 for _ in document.entries(name)) / 2) for name in LIST_NAMES)
            kept, needs = {id(finding) for finding in mine if half or _lost(document, finding) & last}, REMOVE
        result = [replace(f, edits=(), needs=needs) if id(f) in kept else f for f in result]
    return result


def _removals(finding: Finding, name: ListName | None = None) -> Iterator[RemoveEntry]:
    for edit in finding.edits:
        if isinstance(edit, RemoveEntry) and name in (None, edit.list_name):
            yield edit


def _lost(document: Document, finding: Finding) -> set[int]:
    """Positions of the annotations that a finding takes out, by themselves or with their image."""
    lost = {edit.position for edit in _removals(finding, "annotations")}
    images = {edit.position for edit in _removals(finding, "images")}
    for number, positions in document.image_ids.items() if images else ():
        if images.issuperset(positions):
            lost.update(document.references.get(("image_id", number), ()))
    moved = {edit.position for edit in finding.edits if isinstance(edit, SetValue) and edit.key == "image_id"}
    return lost - moved


def _is_emptied(document: Document, gone: dict[ListName, set[int]], lost: set[int]) -> bool:
    """Whether no object is left in a list, or no annotation of those that had an image."""
    for name in LIST_NAMES:
        taken = lost if name == "annotations" else gone[name]
        positions = {position for position, _ in document.objects(name)}
        if positions & taken and positions <= taken:
            return True
    return False


def _last_ones(document: Document, images: set[int], lost: set[int]) -> set[int]:
    """Positions of annotations with which an image that stays, or a class, would lose its last that is no crowd."""
    groups: dict[tuple[str, int], set[int]] = defaultdict(set)
    for position, entry in document.objects("annotations"):
        if entry.get("iscrowd") in (1, True):
            continue
        image_id, category_id = whole(entry.get("image_id")), whole(entry.get("category_id"))
        if image_id is not None and not images.issuperset(document.image_ids.get(image_id, ())):
            groups["image", image_id].add(position)
        if category_id in document.category_ids:
            groups["category", category_id].add(position)
    return {position for group in groups.values() if group <= lost for position in group}
