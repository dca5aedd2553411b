"""Hydra's override grammar, one word at a time: ``key=value``, ``+key=value``, ``~key``, ``key=a,b``."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Glob, Override
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from finemask.config import config_files
from finemask.config.config_files import group_options
from finemask.errors import ConfigError


def parse_override(text: str) -> Override:
    """Reads one override.

    A value with characters that Hydra's grammar has no place for (é, &, #, a bracket in a file name) is taken
    literally, and a leading ``~/`` is the home folder: shells do not expand it after ``key=``.

    Args:
        text: as typed.

    Raises:
        ConfigError: not of the form ``key=value``, or an unbalanced list, mapping or quote.
    """
    key, equals, value = text.partition("=")
    if not (equals or text.startswith("~")) or not key.strip("+~ "):
        raise ConfigError(
            f"'{text}' is not of the form key=value",
            remedy="A value that holds spaces needs quotes in the shell: key='two words'.",
        )
    if value == "~" or value.startswith("~/"):
        value = str(Path(value).expanduser())
    if equals and not value.strip():
        name = key.strip("+ ")
        raise ConfigError(
            f"{name}= is empty", remedy=f"Is it a variable of the shell that is not set? {name}=null means none."
        )
    parser = OverridesParser.create()
    try:
        return parser.parse_overrides([f"{key}{equals}{value}"])[0]
    except HydraException as error:
        if value[:1] in ("[", "{", "'", '"'):
            raise ConfigError(
                f"the value of '{text}' cannot be read",
                remedy="A list is [a,b], a mapping {a: 1}; text with special characters stands in quotes.",
            ) from error
    try:
        return parser.parse_overrides([f"{key}={quoted(value)}"])[0]
    except HydraException as error:
        raise ConfigError(f"'{text}' cannot be read: {one_line(error)}") from error


def expand_sweeps(overrides: Sequence[str], folders: Sequence[Path] | None = None) -> list[list[str]]:
    """The command lines of a multirun: the product of all values of all overrides, the last varying fastest.

    Args:
        overrides: Hydra's sweep grammar, ``key=a,b``, ``key=range(1,4)``, ``group=glob(*)``.
        folders: where ``glob`` looks for options; the shipped configurations by default.

    Raises:
        ConfigError: an override that cannot be read.
    """
    searched = list(folders or [config_files.config_dir()])
    runs: list[list[str]] = [[]]
    for text in overrides:
        override = parse_override(text)
        if override.is_sweep_override():
            key, group = override.get_key_element(), override.key_or_group
            value: Any = override.value()
            if isinstance(value, Glob):
                values = iter(value.filter(group_options(group, searched)))
            else:
                values = override.sweep_string_iterator()
            choices = [f"{key}={value}" for value in values]
            if not choices:
                raise ConfigError(f"'{text}' matches nothing", remedy=options_remedy(group, searched))
        else:
            choices = [str(override.input_line)]
        runs = [[*run, choice] for run in runs for choice in choices]
    return runs


def options_remedy(group: str, folders: Sequence[Path]) -> str:
    """A sentence with the options of a group."""
    return f"There are: {', '.join(group_options(group, folders)) or 'none'}."


def one_line(error: Exception) -> str:
    """The first line of an exception's message: Hydra's further lines are advice on its own command line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__


def quoted(value: str) -> str:
    """A value as Hydra's grammar quotes it: backslashes count only before a quote, also the closing one."""
    return re.sub(r"(\\*)('|$)", lambda match: match[1] * 2 + ("\\'" if match[2] else ""), value).join("''")


def arguments(values: Mapping[str, object]) -> list[str]:
    """``key=value`` words of Python's own values, as ``compose`` takes them; those that are None are left out.

    Args:
        values: by key: texts and paths, which arrive as they are, numbers, truth values, and lists of these.
    """
    return [f"{key}={_word(value)}" for key, value in values.items() if value is not None]


def _word(value: object) -> str:
    if isinstance(value, list | tuple):
        return f"[{','.join(map(_word, value))}]"
    return quoted(str(value)) if isinstance(value, str | Path) else str(value).lower()


def apply_overrides(cfg: DictConfig, overrides: Sequence[Override]) -> None:
    """Sets, adds and deletes keys of a configuration as Hydra does.

    Raises:
        ConfigError: a key to add is there, one to delete has another value than was named, or one is inside a value.
    """
    for override in overrides:
        key, value = override.key_or_group.replace("/", "."), override.value()
        present = OmegaConf.select(cfg, key, throw_on_missing=False)
        if override.is_delete():
            if value not in (None, present):
                raise ConfigError(f"'{key}' is {present}, not {value}", remedy=f"~{key} deletes it whatever it is.")
            parent, _, last = key.rpartition(".")
            with open_dict(cfg):
                (OmegaConf.select(cfg, parent) if parent else cfg).pop(last)
            continue
        if override.is_add() and present is not None and not isinstance(value, dict | list):
            raise ConfigError(f"there is a key '{key}' already", remedy=f"Without its + it is set: {key}={value}.")
        try:
            OmegaConf.update(cfg, key, value, merge=True, force_add=override.is_add() or override.is_force_add())
        except OmegaConfBaseException as error:
            raise ConfigError(one_line(error), where=override.input_line) from error
