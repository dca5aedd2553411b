"""``finemask data check``: what is wrong with a dataset, and a repaired copy of it."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from omegaconf import DictConfig
from rich.console import Console

from finemask.config import plain
from finemask.datatools.check.document import Document
from finemask.datatools.check.problems import CheckSettings, Dataset, Rule, Severity
from finemask.datatools.check.repair import Change, output_paths, repair, write_repaired
from finemask.datatools.check.report import (
    as_json,
    print_contents,
    print_problems,
    print_repaired,
    repair_commands,
    repaired_as_json,
    totals,
)
from finemask.datatools.check.run_rules import RULES, findings_of, load_document, problems_of
from finemask.datatools.suspects.suspects_list import apply_accepted, read_accepted
from finemask.errors import ConfigError
from finemask.ops.files.atomic_files import write_json
from finemask.ops.images.image_reading import ImageReading
from finemask.ops.terminal import Progress, say
from finemask.ops.wording import plural


def main(cfg: DictConfig) -> int:
    """Runs the verb: keys as in ``configs/data_check.yaml``.

    Returns:
        0 when there is no error (with ``fix``: none left), else 2; with ``strict`` warnings count as errors.

    Raises:
        ConfigError: keys that contradict one another.
        DataError: a file is not there, or would be overwritten.
    """
    options = plain(cfg)
    console = Console(highlight=False, soft_wrap=False)
    inputs = [Path(path) for path in _listed(options["annotations"])]
    folders = _folders(options["images"], len(inputs))
    outputs = output_paths(inputs, options["fix"]) if options["fix"] is not None else []
    cap = None if options["detection_cap"] == "auto" else options["detection_cap"]
    asked = {key: options[key] for key in ("remove", "crowds", "boxes")}
    reading = ImageReading.of(options["image"])
    settings = CheckSettings(options["min_size"], options["max_size"], cap, reading=reading, **asked)
    rules = [rule for rule in RULES if rule.fast or options["open_images"]]
    documents = tuple(load_document(path, folder) for path, folder in zip(inputs, folders, strict=True))
    print_contents(console, documents)
    corrected, corrections = documents, list[Change]()
    if options["suspects"] is not None:
        corrected, corrections = _with_accepted(options, documents)
        say(console, f"{plural(len(corrections), 'change')} from accepted entries of {options['suspects']}")
    with Progress("checking") as progress:

        def begins(rule: Rule) -> None:
            progress.update(0, None, rule.name)

        dataset = Dataset(corrected, settings, lambda what, done, total: progress.update(done, total, what))
        found = list(findings_of(dataset, rules, begins))
        repaired = repair(dataset, found, rules, begins) if _can_be_repaired(options, dataset) else None
    problems = problems_of(found)
    if problems:
        console.print()
        print_problems(console, problems, rules)
    report = as_json(problems, rules, documents)
    console.print()
    say(console, f"{totals(problems)} by {len(rules)} rules")
    left = problems
    if repaired is not None:
        repaired = replace(repaired, changes=[*corrections, *repaired.changes])
        left = problems_of(repaired.left)
        write_repaired(repaired, outputs)
        report["fixed"] = repaired_as_json(repaired, outputs, left)
        print_repaired(console, repaired, documents, outputs, left, rules)
    else:
        for line in repair_commands(options, inputs, problems):
            say(console, line)
    if options["report"] is not None:
        write_json(Path(options["report"]), report)
        say(console, f"Every problem: {options['report']}")
    bad = [problem for problem in left if options["strict"] or problem.severity is Severity.ERROR]
    return 2 if bad else 0


def _listed(value: Any) -> list[str]:
    values = value if isinstance(value, list) else [value]
    if not values or not all(isinstance(item, str) and item for item in values):
        raise ConfigError(f"annotations={value} is neither a file nor a list of files")
    return values


def _folders(value: Any, count: int) -> list[Path | None]:
    folders = value if isinstance(value, list) else [value] * count
    if len(folders) != count:
        raise ConfigError(f"images= names {len(folders)} folders for {count} files", remedy="Give one, or as many")
    return [None if folder is None else Path(str(folder)) for folder in folders]


def _with_accepted(options: dict[str, Any], documents: Sequence[Document]) -> tuple[tuple[Document, ...], list[Change]]:
    if options["fix"] is None or len(documents) > 1:
        raise ConfigError("suspects= corrects one file", remedy="Give one file with annotations=, and fix=OUT.json.")
    source = Path(options["suspects"])
    document, changes = apply_accepted(documents[0], read_accepted(source), source)
    return (document,), changes


def _can_be_repaired(options: dict[str, Any], dataset: Dataset) -> bool:
    return options["fix"] is not None and all(isinstance(document.raw, dict) for document in dataset.documents)
