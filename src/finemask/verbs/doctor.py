"""``finemask doctor``: what this machine has, what is wrong with it, what it suggests."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig
from rich.console import Console
from rich.table import Table

from finemask.machine.conflicts import Problem, dependency_names, diagnose, installed_versions, own_requirements
from finemask.machine.hardware import Suggestion, cores, facts, gpus, suggest


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
    table = Table("this machine", "", box=None, title_justify="left")
    for name, value in machine_rows(machine):
        table.add_row(name, value)
    console.print(table)
    console.print()
    table = Table("package", "version", box=None)
    for name, version in versions.items():
        table.add_row(name, version or "[red]missing[/red]")
    console.print(table)
    console.print()
    if problems:
        console.print(f"[bold red]{len(problems)} problem{'s' if len(problems) > 1 else ''}[/bold red]")
        for problem in problems:
            console.print(f"  {problem.what}", markup=False, highlight=False)
            console.print(f"    → {problem.remedy}", markup=False, highlight=False, soft_wrap=True)
    else:
        console.print("[green]nothing wrong was found[/green]")
    console.print("\nto start with:")
    words = " ".join(suggestion.overrides())
    console.print(f"  finemask train data.root=DIR {words}", markup=False, highlight=False, soft_wrap=True)


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
