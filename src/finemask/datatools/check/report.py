"""What was found, for a person and for a program."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict
from textwrap import wrap
from typing import Any

from rich.console import Console
from rich.text import Text

from finemask.coco.index import crowds_in_words
from finemask.datatools.check.document import LIST_NAMES, Document
from finemask.datatools.check.mask_rules import crowds_by_class
from finemask.datatools.check.problems import Problem, Rule, Severity
from finemask.datatools.check.run_rules import REMOVE
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
            console.print(Text(f"    · {_place(problem, several)}{problem.message}"), soft_wrap=True)
        if len(group) > _EXAMPLES:
            console.print(Text(f"    · … and {len(group) - _EXAMPLES:,} more"), soft_wrap=True)


def _print(console: Console, text: str) -> None:
    lines = wrap(text, max(console.width - 4, 20))
    console.print(Text("\n".join(f"    {line}" for line in lines)), soft_wrap=True)


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
        console.print(Text(f"{document.path}: {contents(document)}; {folder}"), soft_wrap=True)
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
