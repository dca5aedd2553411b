"""Repairing what has one right repair; every change is logged, the input stays as it is."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from finemask.coco.coco_file import is_standard, save_coco, standard
from finemask.coco.entries import show, whole
from finemask.datatools.check.document import LIST_NAMES, Document
from finemask.datatools.check.problems import (
    AddEntry,
    Dataset,
    Edit,
    Finding,
    RemoveEntry,
    RemoveKey,
    Rule,
    SetTop,
    SetValue,
)
from finemask.datatools.check.run_rules import RULES, findings_of, run_rule
from finemask.errors import ConfigError, DataError
from finemask.ops.files.atomic_files import write_text

_MOST_ROUNDS = 20  # two or three are enough; this only makes sure that it ends


@dataclass(frozen=True, slots=True)
class Change:
    """One edit that was made.

    Args:
        file: the annotation file it concerns, as it was given.
        rule: the rule whose finding it mends.
        reason: what was wrong.
        edit: what was done to which entry, in words.
        loses_annotation: whether an annotation is gone with it.
    """

    file: Path
    rule: str
    reason: str
    edit: str
    loses_annotation: bool = False

    def __str__(self) -> str:
        return f"{self.edit} ({self.rule}: {self.reason})"


@dataclass(frozen=True, slots=True)
class Repaired:
    """What repairing led to.

    Args:
        dataset: the repaired files.
        changes: what was done, in order.
        left: what the rules still find.
    """

    dataset: Dataset
    changes: list[Change]
    left: list[tuple[Rule, Finding]]


def repair(
    dataset: Dataset,
    found: Sequence[tuple[Rule, Finding]] | None = None,
    rules: Sequence[Rule] = RULES,
    started: Callable[[Rule], None] | None = None,
) -> Repaired:
    """Applies the edits of findings until no rule has any more to offer.

    Rules that open images run once a round, and what they found is mended first, while positions are still those of
    the check. The others run one after the other, each on what the one before it has mended.

    Args:
        dataset: what was checked.
        found: what ``findings_of`` gave for it; found anew if None.
        rules: those that were asked.
        started: called with each rule before it runs.
    """
    left = list(findings_of(dataset, rules, started)) if found is None else list(found)
    fast = [rule for rule in rules if rule.fast and rule.repair is not None]
    changes: list[Change] = []
    for _ in range(_MOST_ROUNDS):
        if not any(finding.edits for _, finding in left):
            break
        slow = [(rule, finding) for rule, finding in left if not rule.fast]
        dataset = _apply(dataset, slow, changes)
        for _ in range(_MOST_ROUNDS):
            count = len(changes)
            for rule in fast:
                dataset = _apply(dataset, [(rule, finding) for finding in run_rule(rule, dataset)], changes)
            if len(changes) == count:
                break
        left = list(findings_of(dataset, rules, started))
    return Repaired(dataset, changes, left)


def _apply(dataset: Dataset, found: Sequence[tuple[Rule, Finding]], changes: list[Change]) -> Dataset:
    documents = []
    for document in dataset.documents:
        todo = [(rule.name, finding) for rule, finding in found if finding.document is document and finding.edits]
        documents.append(edited(document, todo, changes) if todo else document)
    return replace(dataset, documents=tuple(documents))


def edited(document: Document, found: Sequence[tuple[str, Finding]], changes: list[Change]) -> Document:
    """A document with the edits made. Entries that change are copied; removals come last, so positions stay true.

    Args:
        document: left as it is.
        found: findings in it, each with the name of its rule.
        changes: gets one more for each edit.
    """
    raw: dict[str, Any] = {**document.raw}
    for name in LIST_NAMES:
        if isinstance(raw.get(name), list):
            raw[name] = list(raw[name])
    removed: set[tuple[str, int]] = set()
    touched: set[tuple[str, int, str]] = set()
    added: list[AddEntry] = []
    for rule, finding in found:
        for edit in finding.edits:
            if isinstance(edit, RemoveEntry):
                if (edit.list_name, edit.position) in removed:
                    continue
                removed.add((edit.list_name, edit.position))
            elif isinstance(edit, SetValue | RemoveKey):
                place = (edit.list_name, edit.position, edit.key)
                if place in touched:
                    continue  # two findings about one value: what is left of the second shows in the next round
                touched.add(place)
            if isinstance(edit, AddEntry):
                added.append(edit)
            words = _in_words(document, raw, edit)
            if words is not None:
                lost = isinstance(edit, RemoveEntry) and edit.list_name == "annotations"
                changes.append(Change(document.path, rule, finding.message, words, lost))
                _make(raw, edit)
    for position, change in list(_left_behind(document, raw, removed)):
        removed.add(("annotations", position))
        changes.append(change)
    for name in LIST_NAMES:
        if any(list_name == name for list_name, _ in removed):
            raw[name] = [entry for position, entry in enumerate(raw[name]) if (name, position) not in removed]
    for edit in added:
        raw[edit.list_name].append(edit.value)
    return Document(document.path, raw, document.images_dir, outlines=document.outlines)


def _left_behind(
    document: Document, raw: dict[str, Any], removed: set[tuple[str, int]]
) -> Iterator[tuple[int, Change]]:
    """Annotations whose image is taken out, which go with it."""
    gone = {position for name, position in removed if name == "images"}
    ids = {number for number, positions in document.image_ids.items() if gone.issuperset(positions)}
    for position, entry in enumerate(raw["annotations"] if ids and isinstance(raw.get("annotations"), list) else ()):
        is_left = ("annotations", position) not in removed and isinstance(entry, dict)
        if is_left and whole(entry.get("image_id")) in ids:
            words = _in_words(document, raw, RemoveEntry("annotations", position))
            assert words is not None
            yield position, Change(document.path, "annotation-without-image", "its image is removed", words, True)


def _make(raw: dict[str, Any], edit: Edit) -> None:
    if isinstance(edit, SetTop):
        raw[edit.key] = edit.value
    elif isinstance(edit, SetValue):
        raw[edit.list_name][edit.position] = {**raw[edit.list_name][edit.position], edit.key: edit.value}
    elif isinstance(edit, RemoveKey):
        entry = raw[edit.list_name][edit.position]
        raw[edit.list_name][edit.position] = {key: value for key, value in entry.items() if key != edit.key}


def _in_words(document: Document, raw: dict[str, Any], edit: Edit) -> str | None:
    """What an edit does, naming the entry by the id it has in the input; None if it does nothing."""
    if isinstance(edit, SetTop):
        return f"{show(edit.key)} rewritten as proper JSON"
    if isinstance(edit, AddEntry):
        described = ", ".join(f"{key} {show(value)}" for key, value in edit.value.items())
        return f"{edit.list_name}: {described} added"
    original = document.raw[edit.list_name][edit.position]
    identity = original.get("id") if isinstance(original, dict) else None
    name = f"{edit.list_name.removesuffix('s') if edit.list_name != 'categories' else 'category'} {show(identity)}"
    if identity is None:
        name = f"entry {edit.position + 1} of {edit.list_name}"
    if edit.list_name == "annotations" and isinstance(original, dict) and "image_id" in original:
        name += f" on image {show(original['image_id'])}"
    if isinstance(edit, RemoveEntry):
        return f"{name}: removed"
    entry = raw[edit.list_name][edit.position]
    key = edit.key if edit.key.isidentifier() else show(edit.key)
    if isinstance(edit, RemoveKey):
        return f"{name}: {key} {show(entry[edit.key])} removed" if edit.key in entry else None
    if edit.key not in entry:
        return f"{name}: {key} {show(edit.value)} added"
    before = entry[edit.key]
    if before == edit.value and repr(before) == repr(edit.value):  # 1, 1.0 and true are equal, and not the same JSON
        return None
    return f"{name}: {key} {show(before)} → {show(edit.value)}"


def output_paths(inputs: Sequence[Path], fix: str | Sequence[str]) -> list[Path]:
    """Where each repaired file goes; decided before anything long starts.

    Args:
        inputs: the annotation files.
        fix: a file, or a list of as many; or a folder, in which the names are kept.

    Raises:
        ConfigError: the numbers do not agree, or two files would have one name.
        DataError: an input would be overwritten, or a file that no repair has written.
    """
    wanted = [fix] if isinstance(fix, str) else list(fix)
    if len(wanted) == 1 and (len(inputs) > 1 or wanted[0].endswith("/") or Path(wanted[0]).is_dir()):
        paths = [Path(wanted[0]) / path.name for path in inputs]
    else:
        paths = [Path(path) for path in wanted]
    if len(paths) != len(inputs):
        raise ConfigError(
            f"fix= names {len(paths)} files, annotations= {len(inputs)}", remedy="Give as many, or one folder"
        )
    if len({path.absolute() for path in paths}) < len(paths):
        raise ConfigError(
            f"several files would be written to {paths[0]}",
            remedy="Give fix= a list, one file for each of annotations=",
        )
    for path in paths:
        _refuse_overwriting(path, inputs)
    return paths


def log_path(path: Path) -> Path:
    """The log beside a repaired file: ``train_fixed.json`` has ``train_fixed.log``."""
    return path.with_suffix(".log")


def _refuse_overwriting(path: Path, inputs: Sequence[Path]) -> None:
    if path.suffix == ".log" or path.is_dir():
        raise ConfigError(f"fix={path} cannot be an annotation file", remedy="Give it a name that ends in .json")
    if not path.exists():
        return
    if any(other.exists() and path.samefile(other) for other in inputs):
        raise DataError("this is the file to be repaired; it is never overwritten", where=path, remedy="Change fix=")
    if not log_path(path).is_file():
        raise DataError(
            "there is a file here already, and no log beside it says that it is a repaired one",
            where=path,
            remedy="Choose another name with fix=, or remove it",
        )


def write_repaired(repaired: Repaired, paths: Sequence[Path]) -> None:
    """Writes each repaired file that can be one, and a log beside it with a line for each change.

    Args:
        repaired: from ``repair``.
        paths: from ``output_paths``.
    """
    for document, path in zip(repaired.dataset.documents, paths, strict=True):
        lines = "".join(f"{change}\n" for change in repaired.changes if change.file == document.path)
        raw = document.raw
        if not is_standard(raw):  # in what is still broken, or there would be a change for it
            raw = standard(raw)
            lines += "values that JSON cannot hold: null instead\n"
        save_coco(path, raw)
        write_text(log_path(path), lines)
