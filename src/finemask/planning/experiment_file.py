"""The plan as an experiment file: what was typed and what was decided, with the reason above each."""

import hashlib
import re
import shlex
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from finemask.config.overrides import parse_override
from finemask.errors import ConfigError
from finemask.ops.files.atomic_files import write_text
from finemask.planning.decision import Decision

_WIDTH = 110
_TYPED = "typed"
_SEAL = "# As finemask plan wrote it: "  # what stands below it is edited where the sum is another


def experiment_text(
    decisions: Sequence[Decision],
    words: Sequence[str],
    groups: Sequence[str],
    about: Sequence[str],
    command: Sequence[str],
) -> str:
    """The file.

    Args:
        decisions: of the plan.
        words: that were typed, of those that a file can hold; see ``words_of_a_file``.
        groups: all there are.
        about: lines on what was looked at.
        command: that trains with it.
    """
    options: list[tuple[str, Any, str]] = []
    keys: dict[str, Any] = {"plan": ("none", "all is decided; auto would decide again what this file leaves open")}
    for word in words:
        override = parse_override(word)
        name, value = override.key_or_group, override.value()
        if name in groups or name.replace(".", "/") in groups:
            options.append((name.replace(".", "/"), value, _TYPED))
        else:
            _put(keys, name, value, _TYPED)
    for decision in decisions:
        comment = _comment(decision)
        for key, value in () if decision.kept else decision.changes:
            if key in groups:
                options.append((key, value, comment))
            else:
                _put(keys, key, value, comment)
            comment = ""
    head = [*(f"# {line}" for line in about), f"# {shlex.join(command)}"]
    unchanged = (f"Not changed: {_reason(decision)}" for decision in decisions if decision.kept)
    kept = [line for comment in unchanged for line in _wrapped(comment, "")]
    chosen = []
    for group, value, comment in options:
        chosen += [*_wrapped(comment, "  "), f"  - override /{group}: {_value(value)}"]
    lines = [*head, *kept, *(["defaults:", *chosen] if chosen else []), "", *_lines(keys, "")]
    body = "\n".join(lines) + "\n"
    return f"# @package _global_\n{_SEAL}{_sum(body)}\n{body}"


def words_of_a_file(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """The words that a file can hold, and those that stay with the command: deleted keys, other experiments.

    Args:
        words: as typed, without ``output=``.
    """
    held: list[str] = []
    left: list[str] = []
    for word in words:
        override = parse_override(word)
        stays = override.is_delete() or override.key_or_group in ("experiment", "plan")
        (left if stays or override.key_or_group.startswith("hydra") else held).append(word)
    return held, [word for word in left if not word.startswith("plan=")]


def write_experiment(path: Path, text: str) -> None:
    """Writes it, whole or not at all, and never over a file that somebody has edited.

    Raises:
        ConfigError: there is such a file.
    """
    if path.exists() and not _is_untouched(path):
        raise ConfigError(
            "there is a file, and it is no plan as it was written",
            where=path,
            remedy="Choose another place with output=FILE.yaml, or move the file.",
        )
    write_text(path, text)


def train_command(path: Path, words: Sequence[str]) -> list[str]:
    """What trains with the file.

    Args:
        path: of it.
        words: that a file cannot hold.
    """
    others = [word for word in words if not word.startswith("experiment=")]
    chosen = [word.partition("=")[2].strip("[]") for word in words if word.startswith("experiment=")]
    name = str(path)
    return ["finemask", "train", f"experiment={f'[{name},{chosen[0]}]' if chosen else name}", *others]


def _is_untouched(path: Path) -> bool:
    try:
        _, _, rest = path.read_text(encoding="utf-8").partition(_SEAL)
    except (OSError, UnicodeDecodeError):
        return False
    seal, _, body = rest.partition("\n")
    return bool(rest) and seal == _sum(body)


def _sum(body: str) -> str:
    return hashlib.sha256(body.encode()).hexdigest()[:12]


def _put(tree: dict[str, Any], key: str, value: Any, comment: str) -> None:
    *sections, last = key.split(".")
    for section in sections:
        inner = tree.setdefault(section, {})
        tree = inner if isinstance(inner, dict) else tree
    tree[last] = (value, comment)


def _lines(tree: Mapping[str, Any], indent: str) -> Iterator[str]:
    for key, node in tree.items():
        if isinstance(node, dict):
            yield f"{indent}{key}:"
            yield from _lines(node, f"{indent}  ")
        else:
            value, comment = node
            yield from _wrapped(comment, indent)
            yield f"{indent}{key}: {_value(value)}"


def _value(value: Any) -> str:
    """In one line of YAML."""
    text = yaml.safe_dump(value, default_flow_style=True, allow_unicode=True, width=2**20)
    return text.removesuffix("...\n").strip()


def _comment(decision: Decision) -> str:
    values = [word.partition("=")[2] for word in decision.instead]
    instead = f" Instead of {', '.join(values)}." if values else ""
    return f"{_reason(decision)}{instead}"


def _reason(decision: Decision) -> str:
    why = decision.why[:1].upper() + decision.why[1:]
    return f"{why}. ({decision.source})"


def _wrapped(comment: str, indent: str) -> list[str]:
    text = re.sub(r"\s+", " ", comment)
    return [f"{indent}# {line}" for line in textwrap.wrap(text, _WIDTH - len(indent), break_long_words=False)]
