"""The space of a search: keys of ``finemask train`` and what each may be, read off YAML."""

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from omegaconf import DictConfig, OmegaConf

from finemask.config import arguments, plain
from finemask.errors import ConfigError

_OF_A_RANGE = frozenset({"low", "high", "log", "step", "times", "choices"})
_FORMS = "It is a list of values, {low: 1, high: 8} (with log: true or step: 2), or {times: [0.2, 5.0]}."
Value = bool | int | float | str


@dataclass(frozen=True)
class Dimension:
    """One key and what it may be.

    Args:
        key: dotted, as it is typed.
        choices: values; empty for a range.
        low: least value of a range.
        high: greatest value.
        log: values lie evenly on a logarithmic scale.
        step: between values; None: any.
        whole: whole numbers.
        default: value of the settings as they are, where it lies in the space; else None.
    """

    key: str
    choices: tuple[Value, ...] = ()
    low: float = 0.0
    high: float = 0.0
    log: bool = False
    step: float | None = None
    whole: bool = False
    default: Value | None = None

    @property
    def is_range(self) -> bool:
        """Whether it is one of numbers, with two ends."""
        return not self.choices

    def holds(self, value: Any) -> bool:
        """Whether it may be this value."""
        if not self.is_range:
            return any(
                value == choice and isinstance(value, bool) == isinstance(choice, bool) for choice in self.choices
            )
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if not is_number or not self.low <= value <= self.high:
            return False
        steps = 0.0 if self.step is None else (value - self.low) / self.step
        return abs(steps - round(steps)) < 1e-9 and (not self.whole or float(value).is_integer())

    def samples(self) -> list[Value]:
        """Values that have to be possible for all to be: every choice, the ends of a range."""
        ends = (int(self.low), int(self.high)) if self.whole else (self.low, self.high)
        return list(ends if self.is_range else self.choices)


def word_of(key: str, value: Value) -> str:
    """``key=value`` for the command line."""
    if isinstance(value, str) and re.fullmatch(r"[A-Za-z][\w.+-]*", value):
        return f"{key}={value}"  # quoted, the name of a group's option would be a text
    return arguments({key: value})[0]


def read_space(
    space: Mapping[str, Any], base: DictConfig, composed: Callable[[Sequence[str]], DictConfig]
) -> list[Dimension]:
    """The keys of a space, in its order, each tried before anything is trained.

    Args:
        space: the section of the configuration.
        base: configuration of ``train`` without any of it.
        composed: the configuration with further words; raises ConfigError where it does not exist.

    Raises:
        ConfigError: a form that there is not, a key or a value that ``train`` does not take, or nothing to search.
    """
    found = []
    for key, node in _leaves(space, ""):
        dimension = _read_dimension(key, node, base)
        configs = {value: composed([word_of(key, value)]) for value in dimension.samples()}
        found.append(replace(dimension, default=_default(dimension, base, configs)))
    if not found:
        raise ConfigError("the space is empty", where="space", remedy="finemask config show space/default shows one.")
    return found


def _leaves(node: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for name, value in node.items():
        key = f"{prefix}{name}"
        if isinstance(value, Mapping) and not _OF_A_RANGE & set(value):
            yield from _leaves(value, f"{key}.")
        elif value is not None:
            yield key, value


def _read_dimension(key: str, node: Any, base: DictConfig) -> Dimension:
    if isinstance(node, list):
        node = {"choices": node}
    where = f"space.{key}"
    if not isinstance(node, Mapping):
        raise ConfigError(f"{node} is no range and no list", where=where, remedy=_FORMS)
    kinds = {frozenset(kind) for kind in ({"choices"}, {"times"}, {"low", "high"}) if set(kind) <= set(node)}
    unknown = set(node) - _OF_A_RANGE
    if len(kinds) != 1 or unknown:
        raise ConfigError(f"{plain_text(node)} cannot be read", where=where, remedy=_FORMS)
    if "choices" in node:
        return Dimension(key, choices=_checked_choices(node["choices"], where))
    if "times" in node:
        return _around(key, node["times"], base, where)
    low, high, step = node["low"], node["high"], node.get("step")
    numbers = [value for value in (low, high, step) if value is not None]
    if not all(isinstance(value, int | float) and not isinstance(value, bool) for value in numbers) or not low < high:
        raise ConfigError(f"{plain_text(node)} is no range", where=where, remedy=_FORMS)
    log = bool(node.get("log", False))
    if log and (low <= 0 or step is not None):
        raise ConfigError(f"{plain_text(node)}: log needs low above 0, and no step", where=where, remedy=_FORMS)
    whole = all(isinstance(value, int) for value in numbers)
    return Dimension(key, low=float(low), high=float(high), log=log, step=step, whole=whole)


def plain_text(node: Any) -> str:
    """A piece of a space as one would type it."""
    return str(dict(node) if isinstance(node, Mapping) else node).replace("'", "")


def _checked_choices(choices: Any, where: str) -> tuple[Value, ...]:
    if (
        not isinstance(choices, list)
        or len(set(map(repr, choices))) < 2
        or not all(isinstance(choice, bool | int | float | str) for choice in choices)
    ):
        raise ConfigError(f"{choices} are not two values or more", where=where, remedy=_FORMS)
    return tuple(choices)


def _around(key: str, times: Any, base: DictConfig, where: str) -> Dimension:
    value = OmegaConf.select(base, key)
    is_number = isinstance(value, int | float) and not isinstance(value, bool) and value > 0
    if not is_number:
        raise ConfigError(
            f"times is about the value of {key}, which is {value}", where=where, remedy="Give low and high."
        )
    if (
        not isinstance(times, list)
        or len(times) != 2
        or not all(isinstance(factor, int | float) and 0 < factor < math.inf for factor in times)
        or not times[0] < times[1]
    ):
        raise ConfigError(f"times is {times}", where=where, remedy="It is two factors, as in [0.2, 5.0].")
    low, high = (float(value) * factor for factor in times)
    return Dimension(key, low=low, high=high, log=True)


def _default(dimension: Dimension, base: DictConfig, composed: Mapping[Value, DictConfig]) -> Value | None:
    """What the settings as they are have: of a group, the option that changes nothing."""
    if dimension.is_range:
        value = OmegaConf.select(base, dimension.key)
        return value if dimension.holds(value) else None
    unchanged = plain(base)
    return next((value for value, cfg in composed.items() if plain(cfg) == unchanged), None)


def joined_words(words: Sequence[str], more: Sequence[str]) -> list[str]:
    """Words of a command line and those that take the place of some: what is searched may have been typed as well."""
    replaced = {key_of_word(word) for word in more}
    return [*(word for word in words if key_of_word(word) not in replaced), *more]


def short_words(words: Sequence[str]) -> str:
    """Words with numbers of three digits: what is typed exactly stands in the experiment that is written."""
    short = []
    for word in words:
        key, _, value = word.partition("=")
        try:
            short.append(f"{key}={float(value):.3g}")
        except ValueError:
            short.append(word)
    return " ".join(short)


def key_of_word(word: str) -> str:
    """The dotted key that a word of the command line sets."""
    return word.lstrip("+~").partition("=")[0].replace("/", ".")
