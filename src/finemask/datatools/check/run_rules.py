"""Running the rules: on files for ``finemask data check``, and the fast ones before training."""

import shlex
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from finemask.coco.entries import whole
from finemask.datatools.check import (
    box_rules,
    category_rules,
    duplicate_rules,
    id_rules,
    image_file_rules,
    image_rules,
    mask_rules,
    segmentation_rules,
    structure_rules,
    training_rules,
)
from finemask.datatools.check.document import LIST_NAMES, Document
from finemask.datatools.check.problems import (
    CheckSettings,
    Dataset,
    Finding,
    ListName,
    Problem,
    RemoveEntry,
    Rule,
    SetValue,
    Severity,
)
from finemask.errors import DataError
from finemask.ops.files.documents import parse_json, read_bytes

RULES: tuple[Rule, ...] = (
    *structure_rules.RULES,
    *id_rules.RULES,
    *image_rules.RULES,
    *category_rules.RULES,
    *segmentation_rules.RULES,
    *mask_rules.RULES,
    *box_rules.RULES,
    *image_file_rules.RULES,
    *duplicate_rules.RULES,
    *training_rules.RULES,
)
"""Every rule, in the order in which they are asked and repaired: what others build on comes first."""

# Rules that draw conclusions from a file as a whole, and those whose findings make such conclusions worthless.
_WHOLE_FILE_RULES = {"categories-differ", *(rule.name for rule in training_rules.RULES)}
_UNDERMINING_RULES = {
    "json-broken",
    "json-not-coco",
    "list-empty",
    "category-id-invalid",
    "category-name-invalid",
    "category-ids-shifted",
    "crowd-only",
}

REMOVE = "remove=true"
"""What has to be said for a repair to take out the last annotations of an image or a class, or half of a list."""

_MOST = 10  # entries that a rule may always have removed, however short the list is
_WHAT = "a COCO annotation file"


def load_document(path: Path, images_dir: Path | None = None) -> Document:
    """Reads an annotation file, whatever is in it.

    Args:
        path: the file.
        images_dir: folder that its file names are relative to; None: found if it lies where it usually does.

    Raises:
        DataError: there is no such file, or it may not be read; or there is no such folder.
    """
    if images_dir is not None and not Path(images_dir).is_dir():
        raise DataError("there is no such folder of images", where=images_dir, remedy="Check images=")
    content = read_bytes(Path(path), _WHAT, "Check annotations=")
    try:
        raw = parse_json(content, path, _WHAT)
    except DataError as error:
        return Document(Path(path), None, images_dir, broken=error.what)
    except ValueError as error:  # a number of more digits than Python converts
        return Document(Path(path), None, images_dir, broken=f"broken JSON: {error}".partition(";")[0])
    document = Document(Path(path), raw, images_dir)
    if images_dir is None and (found := _usual_folder(document)) is not None:
        return Document(Path(path), raw, found)
    return document


def _usual_folder(document: Document) -> Path | None:
    """Where the first image lies: in ``images`` beside the file or up to two folders above, or beside the file."""
    if not document.images:
        return None
    here = document.path.parent
    candidates = (here / "images", here.parent / "images", here.parent.parent / "images", here, here.parent)
    return next((folder for folder in candidates if (folder / document.images[0].file_name).is_file()), None)


def run_rule(rule: Rule, dataset: Dataset) -> list[Finding]:
    """What one rule finds; findings whose repair would take too much away come without it."""
    settings = dataset.settings
    asked = settings.remove or (rule.name == "mask-missing" and settings.boxes == "drop")
    return without_emptying(list(rule.check(dataset)), dataset, asked=asked)


def findings_of(
    dataset: Dataset, rules: Sequence[Rule] = RULES, started: Callable[[Rule], None] | None = None
) -> Iterator[tuple[Rule, Finding]]:
    """What the rules find, rule by rule.

    Where a file is broken as a whole, rules that draw conclusions from the whole are left out.

    Args:
        dataset: what is checked.
        rules: which ones.
        started: called with each rule before it runs.
    """
    undermined = False
    for rule in rules:
        if undermined and rule.name in _WHOLE_FILE_RULES:
            continue
        if started is not None:
            started(rule)
        for finding in run_rule(rule, dataset):
            undermined = undermined or rule.name in _UNDERMINING_RULES
            yield rule, finding


def check_before_training(
    train: Path,
    val: Path | None,
    images_dir: Path,
    settings: CheckSettings | None = None,
    largest_bytes: int = 50_000_000,
) -> list[Problem]:
    """The rules that need no image opened and that finemask itself would suffer from; errors first.

    Args:
        train: annotation file of training.
        val: annotation file of validation, if any.
        images_dir: folder that both name their images from.
        settings: the training to come.
        largest_bytes: with a file larger than this nothing is checked, because it would take minutes and gigabytes;
            the only problem is then a warning that says so.

    Raises:
        DataError: a file is not there, or the folder.
    """
    paths = [train] if val is None else [train, val]
    large = [path for path in paths if path.is_file() and path.stat().st_size > largest_bytes]
    if large:
        return [_not_checked(path) for path in large]
    dataset = Dataset(tuple(load_document(path, images_dir) for path in paths), settings or CheckSettings())
    rules = [rule for rule in RULES if rule.fast and not rule.harmless_here]
    return problems_of(findings_of(dataset, rules))


def _not_checked(path: Path) -> Problem:
    message = (
        f"{path.stat().st_size / 1e6:,.0f} MB take too long to check each time; once is enough: "
        f"finemask data check {shlex.quote(f'annotations={path}')}"
    )
    effect = "What is wrong with masks, boxes and areas shows only in the results."
    return Problem("not-checked", Severity.WARNING, message, effect, path, None, None, None, False)


def problems_of(found: Iterable[tuple[Rule, Finding]]) -> list[Problem]:
    """Findings as they are reported: errors before warnings, otherwise in the order found."""
    problems = [Problem.of(rule, finding) for rule, finding in found]
    return sorted(problems, key=lambda problem: problem.severity is not Severity.ERROR)


def without_emptying(found: list[Finding], dataset: Dataset, *, asked: bool) -> list[Finding]:
    """The findings of one rule; those that would empty an image, a class or a file have lost their edits.

    An image whose labels are gone is background to learn, a class without any is a class nobody learns, and where more
    than half of a list is concerned there is one cause, which a person can find.

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
