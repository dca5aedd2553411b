"""What a value may be: a small language for the kinds of keys, and the check of a composed configuration.

The tables in ``keys`` beside this file are written in it. A kind is one or more alternatives:

    auto            that word                           1..         a whole number of at least 1
    null, -1        that value                          0..255      a whole number in that range
    flag            true or false                       0.0..1.0    a number in that range, never NaN
    text, path      letters; a number is taken as such  >0.0..      a number above 0
    pattern         a regular expression                [KIND]      a list with one element at least
    device          auto, cpu, cuda, cuda:1, mps        [KIND]*     a list that may be empty
    time_span       20min, 1h30min, 90s, 2d
    duration        DD:HH:MM:SS                         [KIND]3     a list of three
    keys            a section with keys of its own      any         whatever the part called makes of it
    number          any number that is finite
    scores          {NAME: a number from 0 to 1}

Nothing heavy is imported, so that a value that can never work is refused at once.
"""

import math
import re
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from typing import Any

from finemask.config.keys import KINDS
from finemask.errors import ConfigError

_RANGE = re.compile(r"(?P<above>>?)(?P<least>-?[\d.]*?)\.\.(?P<most>-?[\d.]*)")
_LIST = re.compile(r"\[(?P<each>.+)\](?P<count>\*|\d+)?")
_MOST = 2**31 - 1  # of a whole number without a bound of its own: what counts and sizes are stored in
_OURS = ("finemask.", "torch.", "pytorch_lightning.")

Fits = Callable[[Any], bool]


def check_values(values: Mapping[str, Any], verb: str) -> dict[str, Any]:
    """Refuses values that can never work.

    Args:
        values: the composed configuration, with references filled in.
        verb: as typed, for example ``data synth``.

    Returns:
        Texts that were read as numbers, by key: a folder may be called 2024.

    Raises:
        ConfigError: a key of the verb is missing, or holds what it cannot be.
    """
    texts: dict[str, Any] = {}
    for key, kind, holder in _kinds_of(values, verb, ""):
        name = key.rpartition(".")[2]
        if name not in holder:
            if kind.endswith("!"):
                raise ConfigError(
                    f"the key {key} is missing", remedy=f"It is {describe_kind(kind)}. It cannot be left out."
                )
        elif not is_of_kind(kind, holder[name]):
            raise ConfigError(f"{key} cannot be {_display_value(holder[name])}", remedy=f"It is {describe_kind(kind)}.")
        elif (text := _as_text(kind, holder[name])) is not None:
            texts[key] = text
    return texts


def kind_of(values: Mapping[str, Any], verb: str, key: str) -> str | None:
    """The kind of a key of a composed configuration; None where a part of somebody else decides."""
    return next((kind.rstrip("!") for name, kind, _ in _kinds_of(values, verb, "") if name == key), None)


def _kinds_of(node: Mapping[str, Any], verb: str, prefix: str) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    """Every key that the tables know below a node: its dotted name, its kind, and the mapping that it stands in."""
    target = node.get("_target_")
    if target is None:
        holder = verb.replace(" ", "_") + (f".{prefix}" if prefix else "")
        table = {**KINDS.get(f".{prefix}", {}), **KINDS.get(holder, {})}
    else:
        own = isinstance(target, str) and target.startswith(_OURS)
        table = KINDS.get(f"{target.rpartition('.')[2]}()", {}) if own else {}
    for name, kind in table.items():
        yield f"{prefix}.{name}".lstrip("."), kind, node
    for name, value in node.items():
        inner = f"{prefix}.{name}".lstrip(".")
        for number, item in enumerate(value if isinstance(value, list) else [value]):
            if isinstance(item, dict):
                yield from _kinds_of(item, verb, f"{inner}.{number}" if isinstance(value, list) else inner)


def is_of_kind(kind: str, value: Any) -> bool:
    """Whether a value is of a kind."""
    return any(fitting(value) for fitting in _read(kind))


@cache
def _read(kind: str) -> tuple[Fits, ...]:
    return tuple(_alternative(text) for text in _alternatives(kind))


def _alternatives(kind: str) -> list[str]:
    return re.split(r" \| (?![^\[]*\])", kind.rstrip("!"))


def _alternative(text: str) -> Fits:
    if found := _LIST.fullmatch(text):
        each, count = found["each"], found["count"]
        least = 0 if count == "*" else int(count or 1)
        most = int(count) if count not in (None, "*") else math.inf
        return lambda value: (
            isinstance(value, list) and least <= len(value) <= most and all(is_of_kind(each, item) for item in value)
        )
    if found := _RANGE.fullmatch(text):
        return _range(found["least"], found["most"], found["above"] == ">")
    if text in _NAMED:
        return _NAMED[text][0]
    if re.fullmatch(r"-?\d+", text):
        return lambda value: _is_whole(value) and value == int(text)
    return lambda value: isinstance(value, str) and value == text


def _range(least: str, most: str, above: bool) -> Fits:
    whole = "." not in least
    low, high = float(least or "-inf"), float(most or (_MOST if whole else "inf"))

    def inside(value: Any) -> bool:
        is_number = _is_whole(value) or (not whole and isinstance(value, float) and math.isfinite(value))
        return is_number and (low < value if above else low <= value) and value <= min(high, 1e300)

    return inside


def _as_text(kind: str, value: Any) -> Any:
    """What is a number only because it looks like one; None for all else."""
    alternatives = _alternatives(kind)
    if isinstance(value, list):
        each = next((found["each"] for text in alternatives if (found := _LIST.fullmatch(text))), "any")
        texts = [_as_text(each, item) for item in value]
        return [item if text is None else text for item, text in zip(value, texts, strict=True)] if any(texts) else None
    is_other = any(is_of_kind(text, value) for text in alternatives if text not in ("text", "path"))
    return str(value) if _is_whole(value) and not is_other and {"text", "path"} & set(alternatives) else None


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_text(value: Any) -> bool:
    return (isinstance(value, str) and value.strip() != "" and "\0" not in value) or _is_whole(value)


def _is_pattern(value: Any) -> bool:
    try:
        return isinstance(value, str) and bool(re.compile(value))
    except re.error:
        return False


def _matches(pattern: str) -> Fits:
    return lambda value: isinstance(value, str) and re.fullmatch(pattern, value) is not None


_NAMED: dict[str, tuple[Fits, str]] = {
    "null": (lambda value: value is None, "null"),
    "any": (lambda value: True, "anything"),
    "flag": (lambda value: isinstance(value, bool), "true or false"),
    "number": (lambda value: _is_whole(value) or (isinstance(value, float) and math.isfinite(value)), "a number"),
    "text": (_is_text, "text"),
    "path": (_is_text, "a path"),
    "pattern": (_is_pattern, "a regular expression"),
    "device": (_matches(r"auto|cpu|mps|(cuda|xpu)(:\d{1,3})?"), "auto, cpu, cuda, cuda:1 or mps"),
    "time_span": (_matches(r"(\d{1,6}(\.\d+)?(d|h|min|s))+"), "a time, as in 20min, 1h30min or 90s"),
    "duration": (_matches(r"\d{1,6}:\d\d:\d\d:\d\d"), "DAYS:HOURS:MINUTES:SECONDS, as in 00:02:30:00"),
    "scores": (
        lambda value: isinstance(value, dict) and all(is_of_kind("0.0..1.0", score) for score in value.values()),
        "numbers from 0 to 1 by class, as in {cat: 0.7}",
    ),
    "keys": (lambda value: isinstance(value, dict), "a section with keys of its own"),
}


def describe_kind(kind: str) -> str:
    """A kind in words: ``auto, or a whole number of at least 1``."""
    words = [_describe_alternative(text) for text in _alternatives(kind)]
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} or {words[-1]}"


def _describe_alternative(text: str) -> str:
    if found := _LIST.fullmatch(text):
        count = found["count"]
        several = f"{count} times" if count not in (None, "*") else "of one or more, each" if count is None else "of"
        return f"a list, {several} {describe_kind(found['each'])}"
    if found := _RANGE.fullmatch(text):
        least, most = found["least"], found["most"]
        noun = "a number" if "." in least else "a whole number"
        tidy = {text: f"{float(text):,g}" if "." in text else f"{int(text):,}" for text in (least, most) if text}
        if found["above"]:
            return f"{noun} above {tidy[least]}" + (f" and at most {tidy[most]}" if most else "")
        return f"{noun} from {tidy[least]} to {tidy[most]}" if most else f"{noun} of at least {tidy[least]}"
    return _NAMED[text][1] if text in _NAMED else text


def _display_value(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    text = f"'{value}'" if isinstance(value, str) else str(value).replace("'", "").replace(" ", "")
    return text if len(text) <= 60 else f"{text[:57]}…"
