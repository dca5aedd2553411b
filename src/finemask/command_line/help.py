"""What ``finemask --help`` and ``finemask VERB --help`` print, with nothing heavy imported."""

import re
import shutil
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from finemask.config import config_files
from finemask.config.config_files import ConfigText, Key, find_config, group_options, groups, read_config_text

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
    return "\n".join(
        [
            f"finemask {version}: fine-tune Mask R-CNN on your own labelled images",
            "",
            "usage: finemask VERB key=value …",
            "",
            *_listed(verbs),
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
    usage = f"usage: finemask {family} VERB key=value …"
    return "\n".join([usage, "", *_listed(verbs), "", f"finemask {family} VERB --help lists the keys of a verb."])


def _listed(verbs: Mapping[str, str]) -> list[str]:
    width = max(map(len, verbs)) + 2
    return [f"  {name:<{width}}{summary}" for name, summary in verbs.items()]


def verb_page(verb: str, usage: str, folders: Sequence[Path] | None = None) -> str:
    """The page of ``finemask VERB --help``, read from the comments of the verb's configuration.

    Args:
        verb: as typed, for example ``data synth``.
        usage: what follows ``usage:``.
        folders: where configurations are searched; the shipped ones by default.
    """
    searched = list(folders or [config_files.config_dir()])
    path = find_config(verb.replace(" ", "_"), searched)
    assert path is not None, "every verb has a configuration"
    text = _with_base(read_config_text(path), searched)
    width = min(shutil.get_terminal_size((110, 24)).columns, 120)
    parts = [f"usage: {usage}", text.description]
    if text.examples:
        parts.append("examples:\n" + "\n".join(f"  {line}" for line in text.examples))
    sections = list(_group_keys(text, searched)) if text.defaults else []
    options = list(_group_rows(text, searched)) if text.defaults else []
    if text.first:
        known = {row.key: row for row in [*_rows(text.keys), *options, *(row for _, rows in sections for row in rows)]}
        parts.append(
            "what most people set:\n"
            + "\n".join(_table([_with_default(known[key], known) for key in text.first], width))
        )
    if text.keys:
        parts.append("keys:\n" + "\n".join(_table(list(_rows(text.keys)), width)))
    if options:
        parts.append("groups, set with GROUP=OPTION:\n" + "\n".join(_table(options, width)))
    parts.extend(f"{title}:\n" + "\n".join(_table(rows, width)) for title, rows in sections)
    parts.append("flags:\n" + "\n".join(_table([_Row(flag, flag, what) for flag, what in _FLAGS.items()], width)))
    return "\n\n".join(part for part in parts if part)


def _with_base(text: ConfigText, folders: Sequence[Path]) -> ConfigText:
    """A verb whose file begins with that of another, ``defaults: [train]``, has its keys and groups, too."""
    for name in text.inherited:
        path = find_config(name, folders)
        assert path is not None, "it would not compose either"
        base = _with_base(read_config_text(path), folders)
        own = {key.name for key in text.keys}
        keys = [*text.keys, *(key for key in base.keys if key.name not in own)]
        text = replace(text, defaults=base.defaults | text.defaults, keys=keys)
    return text


class _Row(NamedTuple):
    key: str
    typed: str  # as it can be typed
    says: str


def _rows(keys: Sequence[Key]) -> Iterator[_Row]:
    for key in keys:
        if key.value in ("", "???") and not key.comment:
            if key.value:
                yield _Row(key.name, f"{key.name}=…", "must be given")
            continue
        needed = "must be given" if key.value == "???" else ""
        shown = "…" if key.value == "???" else key.value
        typed = _quoted(f"{key.name}={shown}") if key.value else key.name
        yield _Row(key.name, typed, "; ".join(filter(None, [key.comment, needed])))


def _with_default(row: _Row, known: Mapping[str, _Row]) -> _Row:
    """A row with the default that its value refers to, ``data.batch_size=${preset.batch_size}``, in its place."""
    referred = re.search(r"\$\{([\w.]+)\}", row.typed)
    if referred is None or referred[1] not in known:
        return row
    return row._replace(typed=f"{row.key}={known[referred[1]].typed.partition('=')[2]}")


def _quoted(word: str) -> str:
    """A word as every shell takes it: bash, zsh, PowerShell, cmd."""
    if "[" in word:
        word = re.sub(r"\s*,\s+", ",", word)
    if re.fullmatch(r"[\w./:=,+@…-]+", word):
        return word
    return f"'{word}'" if '"' in word or "$" in word else f'"{word}"'


def _group_rows(text: ConfigText, folders: Sequence[Path]) -> Iterator[_Row]:
    chosen = {**_nested_defaults(text, folders), **text.defaults}
    for group in groups(folders):
        if group.partition("/")[0] not in text.defaults:
            continue  # of another verb
        default = chosen.get(group, "null")
        others = [option for option in group_options(group, folders) if option != default]
        yield _Row(group, f"{group}={default}", f"or {', '.join(others)}" if others else "the only one")


def _nested_defaults(text: ConfigText, folders: Sequence[Path]) -> dict[str, str]:
    """Options that a chosen option of a group chooses in turn: ``model/box_loss`` by ``model/light.yaml``."""
    found: dict[str, str] = {}
    for group, option in text.defaults.items():
        for inner in _chain(group, option, folders):
            found |= {name if "/" in name else f"{group}/{name}": value for name, value in inner.defaults.items()}
    return found


def _chain(group: str, option: str, folders: Sequence[Path]) -> Iterator[ConfigText]:
    """The file of an option, preceded by those it builds on."""
    path = find_config(f"{group}/{option}", folders)
    if path is None:
        return
    text = read_config_text(path)
    for base in text.inherited:
        yield from _chain(group, base, folders)
    yield text


def _group_keys(text: ConfigText, folders: Sequence[Path]) -> Iterator[tuple[str, list[_Row]]]:
    for group, option in text.defaults.items():
        keys: dict[str, Key] = {}
        for file in _chain(group, option, folders):
            prefix = "" if file.is_global else group.replace("/", ".") + "."
            for key in file.keys:
                name = prefix + key.name
                inherited = keys[name].comment if name in keys else ""
                keys[name] = Key(name, key.value, key.comment or inherited)
        if rows := list(_rows(list(keys.values()))):
            yield f"{group}={option}", rows


def _table(rows: Sequence[_Row], width: int) -> list[str]:
    column = min(max((len(row.typed) for row in rows), default=0), 34) + 4
    lines: list[str] = []
    for _, typed, says in rows:
        head = f"  {typed}"
        wrapped = textwrap.wrap(says, max(width - column, 30)) or [""]
        if len(head) > column - 2 and says:
            lines.append(head)
            head = ""
        lines.append(f"{head:<{column}}{wrapped[0]}".rstrip())
        lines.extend(" " * column + line for line in wrapped[1:])
    return lines
