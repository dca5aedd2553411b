"""What ``finemask --help`` and ``finemask VERB --help`` print, with nothing heavy imported."""

import shutil
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from finemask.config import files as config_files
from finemask.config.files import ConfigText, Key, group_options, groups, read_config_text

_FLAGS = {
    "--help, -h": "this page",
    "--cfg job": "print the composed configuration and stop; --resolve fills in its references",
    "--config-dir DIR": "search a folder of your own YAML files as well",
    "--config-name NAME": "compose NAME.yaml instead of the verb's own file: a run's config.yaml, say",
    "--multirun, -m": "one run for each combination of values: key=a,b other=1,2",
}


def overview(verbs: Mapping[str, str], version: str) -> str:
    """The page of ``finemask --help``: every verb with its line.

    Args:
        verbs: name of the verb to what it does.
        version: of finemask.
    """
    width = max(map(len, verbs)) + 2
    listed = [f"  {name:<{width}}{summary}" for name, summary in verbs.items()]
    return "\n".join(
        [
            f"finemask {version}: fine-tune Mask R-CNN on your own labelled images",
            "",
            "usage: finemask VERB key=value …",
            "",
            *listed,
            "",
            "finemask VERB --help lists the keys of a verb. To see it all at work, type:",
            "finemask train experiment=quickstart",
        ]
    )


def family_page(family: str, verbs: Mapping[str, str]) -> str:
    """The page of ``finemask data --help``: the verbs whose names begin alike.

    Args:
        family: the first word of their names.
        verbs: name of the verb to what it does.
    """
    width = max(map(len, verbs)) + 2
    listed = [f"  {name:<{width}}{summary}" for name, summary in verbs.items()]
    usage = f"usage: finemask {family} VERB key=value …"
    return "\n".join([usage, "", *listed, "", f"finemask {family} VERB --help lists the keys of a verb."])


def verb_page(verb: str, usage: str, folders: Sequence[Path] | None = None) -> str:
    """The page of ``finemask VERB --help``, read from the comments of the verb's configuration.

    Args:
        verb: as typed, for example ``data synth``.
        usage: what follows ``usage:``.
        folders: where configurations are searched; the shipped ones by default.
    """
    searched = list(folders or [config_files.config_dir()])
    text = read_config_text(searched[0] / f"{verb.replace(' ', '_')}.yaml")
    width = min(shutil.get_terminal_size((110, 24)).columns, 120)
    parts = [f"usage: {usage}", text.description]
    if text.examples:
        parts.append("examples:\n" + "\n".join(f"  {line}" for line in text.examples))
    if text.keys:
        parts.append("keys:\n" + "\n".join(_table(_rows(text.keys), width)))
    if text.defaults:
        parts.append("groups, set with GROUP=OPTION:\n" + "\n".join(_groups_table(text, searched, width)))
        parts.extend(_group_keys(text, searched, width))
    parts.append("flags:\n" + "\n".join(_table(_FLAGS.items(), width)))
    return "\n\n".join(part for part in parts if part)


def _rows(keys: Sequence[Key]) -> Iterator[tuple[str, str]]:
    for key in keys:
        if key.value in ("", "???") and not key.comment:
            if key.value:
                yield f"{key.name}=…", "must be given"
            continue
        needed = "must be given" if key.value == "???" else ""
        shown = "…" if key.value == "???" else key.value
        left = f"{key.name}={shown}" if key.value else key.name
        yield left, "; ".join(filter(None, [key.comment, needed]))


def _groups_table(text: ConfigText, folders: Sequence[Path], width: int) -> list[str]:
    chosen = {**_nested_defaults(text, folders), **text.defaults}
    rows = []
    for group in groups(folders):
        if group.partition("/")[0] not in text.defaults:
            continue  # of another verb
        default = chosen.get(group, "null")
        others = [option for option in group_options(group, folders) if option != default]
        rows.append((f"{group}={default}", f"or {', '.join(others)}" if others else "the only one"))
    return _table(rows, width)


def _nested_defaults(text: ConfigText, folders: Sequence[Path]) -> dict[str, str]:
    """Options that a chosen option of a group chooses in turn: ``model/box_loss`` by ``model/light.yaml``."""
    found: dict[str, str] = {}
    for group, option in text.defaults.items():
        for inner in _chain(group, option, folders):
            found |= {name if "/" in name else f"{group}/{name}": value for name, value in inner.defaults.items()}
    return found


def _chain(group: str, option: str, folders: Sequence[Path]) -> Iterator[ConfigText]:
    """The file of an option, preceded by those it builds on."""
    path = next((p for folder in folders if (p := folder / group / f"{option}.yaml").is_file()), None)
    if path is None:
        return
    text = read_config_text(path)
    for base in text.inherited:
        yield from _chain(group, base, folders)
    yield text


def _group_keys(text: ConfigText, folders: Sequence[Path], width: int) -> Iterator[str]:
    for group, option in text.defaults.items():
        keys: dict[str, Key] = {}
        for file in _chain(group, option, folders):
            prefix = "" if file.is_global else group.replace("/", ".") + "."
            for key in file.keys:
                name = prefix + key.name
                inherited = keys[name].comment if name in keys else ""
                keys[name] = Key(name, key.value, key.comment or inherited)
        if rows := list(_rows(list(keys.values()))):
            yield f"{group}={option}:\n" + "\n".join(_table(rows, width))


def _table(rows: Iterable[tuple[str, str]], width: int) -> list[str]:
    pairs = list(rows)
    column = min(max((len(left) for left, _ in pairs), default=0), 34) + 4
    lines: list[str] = []
    for left, right in pairs:
        head = f"  {left}"
        wrapped = textwrap.wrap(right, max(width - column, 30)) or [""]
        if len(head) > column - 2 and right:
            lines.append(head)
            head = ""
        lines.append(f"{head:<{column}}{wrapped[0]}".rstrip())
        lines.extend(" " * column + line for line in wrapped[1:])
    return lines
