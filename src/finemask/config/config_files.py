"""The YAML files of the configurations, read as text: where they are, what their comments say.

Help is printed from here, so that neither torch nor Hydra is imported for it.
"""

import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from finemask.errors import ConfigError

_ENTRY = re.compile(
    r"^(?P<indent> *)(?P<key>[A-Za-z_][\w.-]*):(?:\s+(?P<value>[^#\s].*?))?(?:\s+#\s*(?P<comment>.*))?\s*$"
)
_DEFAULT = re.compile(r"^\s*-\s+(?:override\s+|optional\s+)?/?(?P<group>[\w/]+)(?:@[\w.]+)?:\s*(?P<option>[^#\s]+)")
_TARGET = re.compile(r"^\s*_target_:\s*([\w.]+)", re.MULTILINE)
_INHERITED = re.compile(r"^\s*-\s+(?P<option>[\w/]+)\s*(?:#.*)?$")


@dataclass(frozen=True, slots=True)
class Key:
    """One line ``key: value  # comment`` of a configuration."""

    name: str  # dotted
    value: str  # as written; empty for a key that only holds others
    comment: str  # the comments above it and on its line


@dataclass(frozen=True, slots=True)
class ConfigText:
    """What the text of a configuration says to a person."""

    description: str  # header comment without its examples
    examples: list[str]  # command lines
    first: list[str]  # keys that most people set, where the header names them: "first: data.root name"
    defaults: dict[str, str]  # group -> option chosen
    inherited: list[str]  # options of the same group that this file builds on
    keys: list[Key]
    is_global: bool  # ``@package _global_``: keys stand at the root, not under the group's name


def config_dir() -> Path:
    """The shipped configurations: inside an installed package, at the top of a source tree."""
    installed = Path(__file__).parents[1] / "configs"
    return installed if installed.is_dir() else Path(__file__).resolve().parents[3] / "configs"


@cache
def shipped_targets(group: str) -> frozenset[str]:
    """Every ``_target_`` that the shipped files of a group and of the groups inside it name."""
    files = (config_dir() / group).rglob("*.yaml")
    return frozenset(name for path in files for name in _TARGET.findall(path.read_text(encoding="utf-8")))


def allowed_targets(trust: str | Collection[str] = ()) -> frozenset[str]:
    """What a model file or checkpoint may name as code: the parts that ship, and what its reader trusts.

    A file that was found somewhere must not choose what runs.

    Args:
        trust: dotted names, ``mylab.nets.Backbone``, or packages, ``mylab.*``; one or several.
    """
    return shipped_targets("model") | frozenset([trust] if isinstance(trust, str) else trust)


def search_path(folder: Path | str | None) -> list[Path]:
    """The folders in which configurations are searched; the first to hold a file wins.

    The user's own come first: a shipped file that was copied and edited must not be ignored without a word.

    Args:
        folder: the user's own, or None.

    Raises:
        ConfigError: there is no such folder.
    """
    if folder is None:
        return [config_dir()]
    own = Path(folder).expanduser().absolute()
    if not own.is_dir():
        raise ConfigError("there is no such folder", where=f"--config-dir {folder}")
    return [own, config_dir()]


def config_names(folders: Sequence[Path]) -> list[str]:
    """``train``, ``model/light``, …: every YAML file of the folders, at most two deep, those at the top first.

    A user's folder may hold a whole dataset besides, so it is not searched any deeper.
    """
    found = {
        path.relative_to(folder).with_suffix("").as_posix()
        for folder in folders
        for depth in ("*.yaml", "*/*.yaml", "*/*/*.yaml")
        for path in folder.glob(depth)
    }
    return sorted(found, key=lambda name: ("/" in name, name))


def find_config(name: str, folders: Sequence[Path]) -> Path | None:
    """The file of a configuration: that of the first folder to hold one; None where none does."""
    return next((path for folder in folders if (path := folder / f"{name}.yaml").is_file()), None)


def groups(folders: Sequence[Path]) -> list[str]:
    """All groups, ``model`` and ``model/box_loss`` alike: folders that hold configurations."""
    return sorted({name.rpartition("/")[0] for name in config_names(folders)} - {""})


def group_options(group: str, folders: Sequence[Path]) -> list[str]:
    """The options of a group, by name."""
    return sorted({path.stem for folder in folders for path in (folder / group).glob("*.yaml")})


def examples(verb: str) -> list[str]:
    """The example command lines in the header of a verb's configuration; none when there is no such file."""
    path = config_dir() / f"{verb.replace(' ', '_')}.yaml"
    return read_config_text(path).examples if path.is_file() else []


def read_config_text(path: Path) -> ConfigText:
    """Reads header, defaults, keys and comments off a YAML file of the usual block layout."""
    lines = path.read_text(encoding="utf-8").splitlines()
    header: list[str] = []
    while lines and (lines[0].startswith("#") or not lines[0].strip()):
        line = lines.pop(0)
        if not line and header:
            break
        header.append(line.removeprefix("#").removeprefix(" "))
    is_global = any(line.startswith("@package _global_") for line in header)
    first = [word for line in header if line.startswith("first: ") for word in line.split()[1:]]
    shown = [line for line in header if not line.startswith(("@package", "first: "))]
    commands = [line.strip() for line in shown if re.match(r"\s*(finemask|python) ", line)]
    prose = [line for line in shown if line.strip() not in commands]
    listed = list(_defaults_block(lines))
    return ConfigText(
        description="\n".join(prose).strip("\n"),
        examples=commands,
        first=first,
        defaults={m["group"]: m["option"] for m in map(_DEFAULT.match, listed) if m},
        inherited=[m["option"] for m in map(_INHERITED.match, listed) if m and m["option"] != "_self_"],
        keys=list(_keys(lines)),
        is_global=is_global,
    )


def _defaults_block(lines: Sequence[str]) -> Iterator[str]:
    inside = False
    for line in lines:
        if re.match(r"^\S", line) and not line.startswith(("-", "#")):
            inside = line.startswith("defaults:")
        elif inside:
            yield line


def _keys(lines: Sequence[str]) -> Iterator[Key]:
    parents: list[tuple[int, str]] = []
    above: list[str] = []
    inside: int | None = None  # indentation of a list, or of a block that is not listed
    last: Key | None = None
    column = -1  # of the comment beside the last key
    for line in lines:
        stripped = line.strip()
        if stripped.startswith("#"):
            text = stripped.removeprefix("#").strip()
            if last is not None and line.index("#") == column:  # a comment that was too long for its line
                last = Key(last.name, last.value, f"{last.comment} {text}")
            else:
                above.append(text)
            continue
        if last is not None:
            yield last
            last = None
        comment, above = " ".join(above), []
        indent = len(line) - len(line.lstrip())
        if inside is not None and (indent > inside or not stripped):
            continue
        match = _ENTRY.match(line)
        inside = indent if stripped.startswith("- ") else None
        if match is None:
            continue
        key = match["key"]
        if indent == 0 and key in ("defaults", "hydra"):
            inside = indent
            continue
        while parents and parents[-1][0] >= indent:
            parents.pop()
        parents.append((indent, key))
        if key not in ("_target_", "_partial_", "_recursive_", "_convert_"):
            name = ".".join(part for _, part in parents)
            last = Key(name, match["value"] or "", f"{comment} {match['comment'] or ''}".strip())
            column = -1 if match["comment"] is None else match.start("comment") - len("# ")
    if last is not None:
        yield last
