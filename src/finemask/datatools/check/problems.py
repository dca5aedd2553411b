"""What a check of a dataset consists of: documents, rules, findings with their repairs, and problems as reported.

A rule is a function that looks at a ``Dataset`` and yields a ``Finding`` for each thing that is wrong. Any JSON value
can stand anywhere in the file of a person, so a rule works on the *rows* of a ``Document`` (entries of which
everything it needs is known to be sound, see ``document.py``); only the structural rules look at the
raw values and name what did not become a row. A broken entry is thus reported once, and no rule can stumble over it.

A finding carries the edits of its one right repair, or none. Repairing applies the edits and checks again until there
is nothing left to repair, so an edit may leave work to another rule: after an image is removed its annotations refer
to nothing, and the rule about that removes them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from finemask.coco.entries import whole
from finemask.ops.images.image_reading import AS_THE_FILE_SAYS, ImageReading

if TYPE_CHECKING:
    from finemask.datatools.check.document import AnnotationRow, CategoryRow, Document, ImageRow

ListName: TypeAlias = Literal["images", "annotations", "categories"]


CROWDS = ("keep", "objects", "all")
"""Which crowds a repair makes single objects: none, those that look like one, every one with a mask."""

BOXES = ("keep", "rectangle", "drop")
"""What becomes of objects that have a box and no mask: nothing, the rectangle is made the mask, they are taken out."""


class Severity(StrEnum):
    """``ERROR``: training refuses to start, or would learn something false. ``WARNING``: a person should look."""

    ERROR = "error"
    WARNING = "warning"


@dataclass(frozen=True, slots=True)
class SetValue:
    """Repair: ``document[list_name][position][key] = value``."""

    list_name: ListName
    position: int
    key: str
    value: Any


@dataclass(frozen=True, slots=True)
class RemoveKey:
    """Repair: the entry loses a key."""

    list_name: ListName
    position: int
    key: str


@dataclass(frozen=True, slots=True)
class RemoveEntry:
    """Repair: the entry is taken out of its list."""

    list_name: ListName
    position: int


@dataclass(frozen=True, slots=True)
class AddEntry:
    """Repair: the list gets one more entry, at its end."""

    list_name: ListName
    value: dict[str, Any]


@dataclass(frozen=True, slots=True)
class SetTop:
    """Repair: ``document[key] = value``, for what is none of the three lists."""

    key: str
    value: Any


Edit: TypeAlias = SetValue | RemoveKey | RemoveEntry | AddEntry | SetTop


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong, as a rule yields it.

    Args:
        message: what is wrong here, naming the values seen; one line, no full stop at the end.
        document: the file it is in.
        image_id: the image concerned, as the file names it.
        annotation_id: the annotation concerned.
        category_id: the category concerned.
        edits: the one right repair; empty when a person has to decide. An entry that can never be used may be
            removed. Nothing may be guessed.
        needs: the key of ``data check`` that would have to be given for it to be repaired; None: none would help, or
            none is needed.
    """

    message: str
    document: Document
    image_id: int | None = None
    annotation_id: int | None = None
    category_id: int | None = None
    edits: tuple[Edit, ...] = ()
    needs: str | None = None


@dataclass(frozen=True, slots=True)
class CheckSettings:
    """What the training to come looks like, for the rules that ask whether the data fit it; and what repairs may do.

    Args:
        min_size: shorter side of the resized image in px.
        max_size: upper bound of its longer side in px.
        detection_cap: most detections an image can have; None: what training makes of ``auto``.
        anchor_sizes: side in px of the square anchor of each pyramid level, at training resolution.
        aspect_ratios: height / width of the anchors.
        allow_missing_categories: whether other files than the one trained on may lack some of its categories.
        remove: whether repairs may take out the last annotations of an image or a class, or more than half of a list.
        crowds: which crowds are made single objects, one of ``CROWDS``.
        boxes: what becomes of objects without a mask, one of ``BOXES``.
        reading: page, range and channels of the images.
    """

    min_size: int = 800
    max_size: int = 1333
    detection_cap: int | None = 100
    anchor_sizes: tuple[float, ...] = (32.0, 64.0, 128.0, 256.0, 512.0)
    aspect_ratios: tuple[float, ...] = (0.5, 1.0, 2.0)
    allow_missing_categories: bool = False
    remove: bool = False
    crowds: str = "keep"
    boxes: str = "keep"
    reading: ImageReading = AS_THE_FILE_SAYS


def _silent(what: str, done: int, total: int) -> None:
    """Progress that nobody watches."""


@dataclass(frozen=True, slots=True)
class Dataset:
    """What is checked: one annotation file, or several that belong together (the first is the one trained on).

    Args:
        documents: at least one; each knows its path and its folder of images.
        settings: the training to come.
        progress: told by rules that take long (those that open images) what they do, how much is done, of how much.
    """

    documents: tuple[Document, ...]
    settings: CheckSettings = field(default_factory=CheckSettings)
    progress: Callable[[str, int, int], None] = _silent


@dataclass(frozen=True, slots=True)
class Rule:
    """A named check.

    Args:
        name: unique, words joined by hyphens, names the fault: ``polygon-too-few-points``.
        summary: what it looks for, one line without full stop, for the documentation.
        effect: what the fault would have done to training, one sentence.
        check: yields the findings; sees only rows, unless it is a structural rule.
        severity: of all its findings.
        repair: what ``fix=`` does about it, a few words (``removes the annotation``); None: nothing.
        fast: needs no image file opened; these rules run before training.
        harmless_here: finemask copes with it, other programs may not; such rules do not run before training.
    """

    name: str
    summary: str
    effect: str
    check: Callable[[Dataset], Iterator[Finding]]
    severity: Severity
    repair: str | None = None
    fast: bool = True
    harmless_here: bool = False


error_rule = partial(Rule, severity=Severity.ERROR)
warning_rule = partial(Rule, severity=Severity.WARNING)


@dataclass(frozen=True, slots=True)
class Problem:
    """A finding as it is reported: plain values, ready for JSON.

    Args:
        rule: name of the rule.
        severity: its severity.
        message: what is wrong here.
        effect: what it would have done to training.
        file: the annotation file.
        image_id: the image concerned, if any.
        annotation_id: the annotation concerned, if any.
        category_id: the category concerned, if any.
        fixable: whether ``fix=`` repairs this very problem.
        needs: the key that ``fix=`` needs besides to do so, such as ``remove=true``; None: none would help.
    """

    rule: str
    severity: Severity
    message: str
    effect: str
    file: Path
    image_id: int | None
    annotation_id: int | None
    category_id: int | None
    fixable: bool
    needs: str | None = None

    @classmethod
    def of(cls, rule: Rule, finding: Finding) -> Problem:
        """What a rule's finding looks like to the outside."""
        return cls(
            rule=rule.name,
            severity=rule.severity,
            message=finding.message,
            effect=rule.effect,
            file=finding.document.path,
            image_id=finding.image_id,
            annotation_id=finding.annotation_id,
            category_id=finding.category_id,
            fixable=bool(finding.edits),
            needs=finding.needs,
        )


def each_document(check: Callable[[Document], Iterator[Finding]]) -> Callable[[Dataset], Iterator[Finding]]:
    """A check of one file as a check of a dataset: every file on its own."""

    def check_all(dataset: Dataset) -> Iterator[Finding]:
        for document in dataset.documents:
            yield from check(document)

    return check_all


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
