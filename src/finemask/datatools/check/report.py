"""What was found, for a person and for a program."""

import shlex
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from textwrap import fill, indent
from typing import Any

from rich.console import Console
from rich.text import Text

from finemask.coco.entries import crowds_in_words
from finemask.datatools.check.document import LIST_NAMES, Document
from finemask.datatools.check.mask_rules import crowds_by_class
from finemask.datatools.check.problems import Problem, Rule, Severity
from finemask.datatools.check.repair import Repaired, log_path
from finemask.datatools.check.run_rules import REMOVE
from finemask.ops.terminal import say
from finemask.ops.wording import plural

_EXAMPLES = 3
_NOT_UNASKED = "because an image or a class would lose its last annotation, or more than half of a list would go"
_STYLES = {Severity.ERROR: "bold red", Severity.WARNING: "bold yellow"}


def print_problems(console: Console, problems: Sequence[Problem], rules: Sequence[Rule]) -> None:
    """Prints problems grouped by rule, errors first: how many, the first of them, what comes of it, what to do.

    Args:
        console: where to.
        problems: in any order.
        rules: those that were asked; their order is kept.
    """
    names = {rule.name: rule for rule in rules}
    several = len({problem.file for problem in problems}) > 1
    for name, group in _grouped(problems, list(names)).items():
        rule = names[name]
        heading = Text.assemble(
            (rule.severity, _STYLES[rule.severity]), " ", (rule.name, "bold"), f"  {_times(len(group))}"
        )
        console.print(heading)
        _print(console, f"effect: {rule.effect}")
        _print(console, f"fix=: {_what_fix_does(rule, group)}")
        for problem in group[:_EXAMPLES]:
            say(console, f"    · {_place(problem, several)}{problem.message}")
        if len(group) > _EXAMPLES:
            say(console, f"    · … and {len(group) - _EXAMPLES:,} more")


def _print(console: Console, text: str) -> None:
    say(console, indent(fill(text, max(console.width - 4, 20)), "    "))


def _grouped(problems: Sequence[Problem], order: list[str]) -> dict[str, list[Problem]]:
    groups: dict[str, list[Problem]] = defaultdict(list)
    for problem in problems:
        groups[problem.rule].append(problem)
    names = sorted(groups, key=lambda name: (groups[name][0].severity is not Severity.ERROR, order.index(name)))
    return {name: groups[name] for name in names}


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count:,} times"


def _what_fix_does(rule: Rule, group: Sequence[Problem]) -> str:
    if rule.harmless_here and rule.repair is None:
        return "nothing; finemask needs nothing here"
    fixable = sum(problem.fixable for problem in group)
    asked = [problem.needs for problem in group if problem.needs is not None]
    if rule.repair is None or fixable + len(asked) == 0:
        return "nothing; a person has to decide"
    if not asked:
        if fixable == len(group):
            return rule.repair
        return f"{rule.repair} ({fixable:,} of {len(group):,}; the others need a person)"
    if asked[0] != REMOVE:
        return f"nothing unasked; {rule.repair}"
    if fixable == 0:
        return f"nothing, {_NOT_UNASKED}; with {REMOVE} it {rule.repair}"
    return f"{rule.repair} ({fixable:,} of {len(group):,}); the others only with {REMOVE}, {_NOT_UNASKED}"


def _place(problem: Problem, several: bool) -> str:
    parts = [problem.file.name] if several else []
    if problem.image_id is not None:
        parts.append(f"image {problem.image_id}")
    if problem.annotation_id is not None:
        parts.append(f"annotation {problem.annotation_id}")
    elif problem.image_id is None and problem.category_id is not None:
        parts.append(f"category {problem.category_id}")
    return f"{', '.join(parts)}: " if parts else ""


def print_contents(console: Console, documents: Sequence[Document]) -> None:
    """Prints what was looked at: a line for each file."""
    for document in documents:
        folder = f"images in {document.images_dir}" if document.images_dir is not None else "image files not looked at"
        say(console, f"{document.path}: {contents(document)}; {folder}")
        if (said := crowds_in_words(crowds_by_class(document))) is not None:
            _print(console, said)


def contents(document: Document) -> str:
    """``21 images, 111 annotations, 80 classes``."""
    images, annotations, categories = (sum(1 for _ in document.entries(name)) for name in LIST_NAMES)
    return f"{_some(images, 'image')}, {_some(annotations, 'annotation')}, {plural(categories, 'class', 'classes')}"


def totals(problems: Sequence[Problem]) -> str:
    """``3 errors and 1 warning``."""
    errors = sum(problem.severity is Severity.ERROR for problem in problems)
    return f"{_some(errors, 'error')} and {_some(len(problems) - errors, 'warning')}"


def _some(number: int, one: str) -> str:
    """``no errors``, ``1 error``, ``2 errors``."""
    return plural(number, one) if number else f"no {one}s"


def as_json(problems: Sequence[Problem], rules: Sequence[Rule], documents: Sequence[Document]) -> dict[str, Any]:
    """The report as a program reads it.

    Args:
        problems: what was found.
        rules: those that were asked.
        documents: the files.
    """
    counts: dict[str, int] = defaultdict(int)
    for problem in problems:
        counts[problem.rule] += 1
    errors = sum(problem.severity is Severity.ERROR for problem in problems)
    return {
        "files": [str(document.path) for document in documents],
        "errors": errors,
        "warnings": len(problems) - errors,
        "crowds": {str(document.path): crowds_by_class(document) for document in documents},
        "rules": {
            rule.name: {"severity": str(rule.severity), "count": counts[rule.name], "effect": rule.effect}
            for rule in rules
        },
        "problems": [problem_as_json(problem) for problem in problems],
    }


def problem_as_json(problem: Problem) -> dict[str, Any]:
    """A problem as plain JSON values."""
    return asdict(problem) | {"severity": str(problem.severity), "file": str(problem.file)}


def print_repaired(
    console: Console,
    repaired: Repaired,
    before: Sequence[Document],
    outputs: Sequence[Path],
    left: Sequence[Problem],
    rules: Sequence[Rule],
) -> None:
    """Prints what was written, and which errors are left.

    Args:
        console: where to.
        repaired: the files after it.
        before: the files as they were.
        outputs: where each was written.
        left: what the rules still find.
        rules: those that were asked.
    """
    for path, old, new in zip(outputs, before, repaired.dataset.documents, strict=True):
        changes = plural(sum(change.file == old.path for change in repaired.changes), "change")
        first, last = contents(old), contents(new)
        rest = f"; {first} before, {last} now" if first != last else ""
        say(console, f"{path}: {changes}{rest}; see {log_path(path)}")
    say(console, f"Left after repairing: {totals(left)}")
    errors = [problem for problem in left if problem.severity is Severity.ERROR]
    if errors:
        print_problems(console, errors, rules)


def repaired_as_json(repaired: Repaired, outputs: Sequence[Path], left: Sequence[Problem]) -> dict[str, Any]:
    """What was written and what is left, as a program reads it."""
    return {
        "files": [str(path) for path in outputs],
        "logs": [str(log_path(path)) for path in outputs],
        "changes": len(repaired.changes),
        "problems": [problem_as_json(problem) for problem in left],
    }


def repair_commands(options: dict[str, Any], inputs: Sequence[Path], problems: Sequence[Problem]) -> list[str]:
    """What to type to have it repaired: the same command with ``fix``, and with each key that more would need."""
    keys = list(dict.fromkeys(problem.needs for problem in problems if problem.needs is not None))
    lines = [f"To repair: {_command(options, inputs)}"] if any(problem.fixable for problem in problems) else []
    for key in keys:
        lines.append(f"{f'With {key} as well' if lines else 'To repair'}: {_command(options, inputs, key)}")
    return lines


def _command(options: dict[str, Any], inputs: Sequence[Path], *keys: str) -> str:
    words = ["finemask", "data", "check"]
    for key in ("annotations", "images"):
        if options[key] is not None:
            value = options[key] if isinstance(options[key], str) else f"[{','.join(map(str, options[key]))}]"
            words.append(f"{key}={value}")
    single = inputs[0].with_name(f"{inputs[0].stem}_fixed.json")
    words.append(f"fix={single}" if len(inputs) == 1 else f"fix={inputs[0].parent / 'fixed'}/")
    return shlex.join([*words, *keys])
