"""One fault for every rule of ``finemask data check``.

``FAULTS`` maps the name of a rule to a function that plants its fault into a ``Scene``; its docstring says what it
plants, for the table in the documentation.
"""

import copy
import inspect
from collections.abc import Callable, Iterator
from types import ModuleType

import faults_of_files
import faults_of_images
import faults_of_masks
from scenes import CLASSES, HEIGHT, WIDTH, Scene, clean_scene

__all__ = ["CLASSES", "FAULTS", "HEIGHT", "WIDTH", "Fault", "Scene", "clean_scene", "rules_table", "spoilt"]

Fault = Callable[[Scene], None]


def _faults_of(module: ModuleType) -> Iterator[tuple[str, Fault]]:
    """Every public function of a module, in its order: ``polygon_odd`` is the fault of the rule ``polygon-odd``."""
    for name, function in inspect.getmembers(module, inspect.isfunction):
        if not name.startswith("_") and function.__module__ == module.__name__:
            yield name.replace("_", "-"), function


FAULTS: dict[str, Fault] = {
    name: fault for module in (faults_of_files, faults_of_masks, faults_of_images) for name, fault in _faults_of(module)
}


def spoilt(scene: Scene, rule: str) -> Scene:
    """A copy of a scene with the fault of a rule; files on disk are spoilt in place."""
    scene = copy.deepcopy(scene)
    FAULTS[rule](scene)
    scene.write()
    return scene


def rules_table(rules) -> str:
    """The page of the documentation that lists every rule beside the fault that is planted for it."""
    lines = [
        "# Rules of finemask data check",
        "",
        "Each rule with the fault that the tests plant for it, in a small dataset made by code. Every fault is found",
        "by its own rule and by no other; every one that `fix=` repairs is gone afterwards. Rules marked ◦ open image",
        "files; the others run before training too, but for those marked *, which only other programs suffer from.",
        "",
        "| rule | severity | what should be | planted fault | `fix=` |",
        "|---|---|---|---|---|",
    ]
    for rule in rules:
        mark = " ◦" if not rule.fast else " *" if rule.harmless_here else ""
        cells = [
            f"`{rule.name}`{mark}",
            str(rule.severity),
            rule.summary,
            (FAULTS[rule.name].__doc__ or "").strip(),
            rule.repair or "–",
        ]
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    from finemask.datatools.check.run_rules import RULES

    print(rules_table(RULES), end="")
