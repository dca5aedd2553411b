"""``finemask doctor``: what this machine has, what is wrong with it, what it suggests."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig
from rich.console import Console
from rich.text import Text

from finemask.machine.conflicts import Problem, dependency_names, diagnose, installed_versions, own_requirements
from finemask.machine.hardware import Suggestion, cores, facts, gpus, suggest
from finemask.ops.terminal import say, table


def main(cfg: DictConfig) -> int:
    """Runs the verb: ``json`` as in ``configs/doctor.yaml``.

    Returns:
        0, or 2 when something is broken.
    """
    requirements, installed = own_requirements(), installed_versions()
    machine = facts(Path.cwd())
    versions = {name: installed.get(name) for name in ["finemask", *dependency_names(requirements)]}
    problems = diagnose(requirements, installed)
    suggestion = suggest(gpus(), cores())
    if cfg.json:
        print(json.dumps(report(machine, versions, problems, suggestion), indent=1, ensure_ascii=False))
    else:
        show(Console(), machine, versions, problems, suggestion)
    return 2 if problems else 0


def report(
    machine: Mapping[str, Any],
    versions: Mapping[str, str | None],
    problems: Sequence[Problem],
    suggestion: Suggestion,
) -> dict[str, Any]:
    """All findings as one JSON object."""
    return {
        "machine": dict(machine),
        "versions": dict(versions),
        "problems": [{"what": problem.what, "remedy": problem.remedy} for problem in problems],
        "suggestion": suggestion.overrides(),
    }


def show(
    console: Console,
    machine: Mapping[str, Any],
    versions: Mapping[str, str | None],
    problems: Sequence[Problem],
    suggestion: Suggestion,
) -> None:
    """Prints all findings as tables."""
    found = [(name, version or Text.from_markup("[red]missing[/red]")) for name, version in versions.items()]
    for headings, rows in ((("this machine", ""), machine_rows(machine)), (("package", "version"), found)):
        console.print(table(headings, rows, words=headings, box=None))
        console.print()
    if problems:
        console.print(f"[bold red]{len(problems)} problem{'s' if len(problems) > 1 else ''}[/bold red]")
        for problem in problems:
            console.print(f"  {problem.what}", markup=False, highlight=False)
            say(console, f"    → {problem.remedy}")
    else:
        console.print("[green]nothing wrong was found[/green]")
    console.print("\nto start with:")
    words = " ".join(suggestion.overrides())
    say(console, f"  finemask train data.root=DIR {words}")


def machine_rows(machine: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The facts in words, one row each."""
    memory = "unknown"
    if machine["memory_total_gib"] is not None:
        memory = f"{machine['memory_total_gib']} GiB, {machine['memory_available_gib']} GiB free"
    rows = [
        ("Python", machine["python"]),
        ("system", machine["system"]),
        ("CPU cores", str(machine["cores"])),
        ("memory", memory),
        ("disk here", f"{machine['disk_free_gib']} GiB free"),
        ("NVIDIA driver", machine["nvidia_driver"] or "none"),
    ]
    for number, gpu in enumerate(machine["gpus"]):
        capability = f"compute capability {gpu['capability']}"
        rows.append((f"GPU {number}", f"{gpu['name']}, {gpu['memory_gib']} GiB, {capability}"))
    return rows if machine["gpus"] else [*rows, ("GPU", "none that torch can use")]
