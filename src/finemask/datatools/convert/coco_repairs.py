"""COCO documents repaired before they are converted, by the very repairs of ``finemask data check fix=``."""

import shlex
from collections import Counter
from pathlib import Path
from typing import Any

from finemask.coco.coco_file import CocoDocument, load_coco
from finemask.coco.entries import file_name_fault, size_hw
from finemask.datatools.check.document import LIST_NAMES, Document
from finemask.datatools.check.problems import CheckSettings, Dataset, Finding, Rule, Severity
from finemask.datatools.check.repair import Change, repair
from finemask.datatools.check.run_rules import REMOVE, RULES, load_document
from finemask.datatools.convert.records import Notes
from finemask.datatools.convert.source_files import Source, split_of, whole_number
from finemask.errors import DataError

# What a conversion settles otherwise: a box stays a box (boxes= says what becomes of it), ids of annotations and areas
# are made anew, images are looked for in the whole source. What is there twice stays so.
_ELSEWHERE = {
    "annotation-id-missing",
    "annotation-id-invalid",
    "annotation-id-repeated",
    "annotation-repeated",
    "file-name-invalid",
    "file-name-leaves-folder",
    "image-missing",
    "image-empty",
    "image-link-leaves-folder",
    "image-size-invalid",
    "box-corners",
    "box-degenerate",
    "box-outside",
    "box-not-of-mask",
    "area-invalid",
    "area-not-of-mask",
}
_DECIDED_BY_A_PERSON = {"category-ids-shifted"}
REPAIRS: tuple[Rule, ...] = tuple(
    rule
    for rule in RULES
    if rule.fast and rule.name not in _ELSEWHERE and (rule.repair or rule.name in _DECIDED_BY_A_PERSON)
)
"""The rules whose repairs a conversion makes, or at which it stops."""

_TRUE_NAME = "\0file_name"  # no key of a file that a tool wrote
_LIKE_OBJECTS = "crowds that look like single objects, and are not learned as long as they are crowds (crowds=objects)"


def read_repaired(source: Source, name: str) -> Document:
    """Reads an annotation file and repairs what has one right repair; what was done, and lost, is noted.

    Args:
        source: gets the notes; its images tell sizes that the file does not.
        name: of the file, relative to the root.

    Raises:
        DataError: it is no COCO file; it holds something that a person has to decide; or no annotation would be left.
    """
    path = source.inside(name)
    raw = load_document(path).raw
    lists = [raw.get(key) if isinstance(raw, dict) else None for key in LIST_NAMES]
    if not all(isinstance(found, list) for found in lists) or is_panoptic(raw):
        return Document(path, load_coco(path))  # which says what is wrong
    settings = CheckSettings(remove=source.options.remove, crowds=source.options.crowds)
    notes, source.notes = source.notes, Notes()  # whatever there is to say of images is said when they are read
    try:
        judged = Document(path, {**raw, "images": _judgeable(source, name, raw["images"])})
    finally:
        source.notes = notes
    done = repair(Dataset((judged,), settings), rules=REPAIRS)
    (repaired,) = done.dataset.documents
    _refuse(done.left, raw, path)
    _note(source, done.changes, done.left)
    for image_id in sorted(_labelled(raw) - _labelled(repaired.raw), key=str):
        source.notes.add("images that have lost all their annotations: background, if they are trained on", image_id)
    return repaired


def is_panoptic(document: CocoDocument) -> bool:
    """Whether annotations hold segments instead of masks."""
    first = document["annotations"][:1]
    return any(isinstance(annotation, dict) and "segments_info" in annotation for annotation in first)


def _labelled(raw: CocoDocument) -> set[int | None]:
    """Ids of images that annotations refer to."""
    entries = [entry for entry in raw["annotations"] if isinstance(entry, dict)]
    known = {whole_number(entry.get("id")) for entry in raw["images"] if isinstance(entry, dict)}
    return {whole_number(entry.get("image_id")) for entry in entries} & known


def with_true_name(entry: dict[str, Any]) -> dict[str, Any]:
    """An image of a repaired document with the file name that it has in the file."""
    if _TRUE_NAME not in entry:
        return entry
    return {key: value for key, value in entry.items() if key != _TRUE_NAME} | {"file_name": entry[_TRUE_NAME]}


def _judgeable(source: Source, name: str, entries: list[Any]) -> list[Any]:
    """Images with a size, and with a name that the rules take: a conversion finds more files than they would."""
    folder = name.rpartition("/")[0]
    split = split_of([name.rpartition("/")[2].removesuffix(".json")]) or split_of(name)
    found = []
    for position, entry in enumerate(entries):
        if isinstance(entry, dict):
            file_name = entry.get("file_name")
            if size_hw(entry) is None and isinstance(file_name, str) and file_name:
                size = whole_number(entry.get("height")), whole_number(entry.get("width"))
                path = None if all(size) else source.find_image(file_name, near=folder, split=split)
                height, width = (source.size_of(path) or size) if path is not None else size
                entry = {**entry, "height": height, "width": width} if height and width else entry
            if isinstance(file_name, str) and file_name_fault(entry):
                entry = {**entry, "file_name": f"image {position}", _TRUE_NAME: file_name}
        found.append(entry)
    return found


def _refuse(left: list[tuple[Rule, Finding]], raw: CocoDocument, path: Path) -> None:
    errors = [
        (rule.name, finding)
        for rule, finding in left
        if rule.severity is Severity.ERROR
        # an object with a box is converted as such, and crowds are
        and rule.name != "crowd-only"
        and not (finding.needs or "").startswith("boxes")
    ]
    if not errors:
        return
    counts = ", ".join(f"{name} {count:,} ×" for name, count in Counter(name for name, _ in errors).items())
    first = errors[0][1]
    place = f"annotation {first.annotation_id}: " if first.annotation_id is not None else ""
    what = f"of its {len(raw['annotations']):,} annotations nothing would be left, or a person has to decide"
    remedy = f"To see it all: finemask data check annotations={shlex.quote(str(path))}"
    if all(finding.needs == REMOVE for _, finding in errors):
        what = "annotations that cannot be used are the last of an image or a class, or more than half of all"
        remedy = f"{REMOVE} leaves them out. {remedy}"
    raise DataError(f"{what}: {counts} ({place}{first.message})", where=path, remedy=remedy)


def _note(source: Source, changes: list[Change], left: list[tuple[Rule, Finding]]) -> None:
    for change in changes:
        what = "annotations left out" if change.loses_annotation else "entries repaired"
        source.notes.add(f"{what}, by the rule {change.rule} of data check", change.edit.partition(":")[0])
    for rule, finding in left:
        if rule.name in ("crowd-polygon", "crowd-single-object") or (rule.name == "crowd-only" and finding.needs):
            source.notes.add(_LIKE_OBJECTS, None if finding.annotation_id is None else f"id {finding.annotation_id}")
