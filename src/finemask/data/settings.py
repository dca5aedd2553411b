"""Settings of augmentations, checked: each function returns the value or says what it should have been."""

from collections.abc import Sequence
from typing import Any

from finemask.errors import ConfigError


def whole_number(value: Any, where: str, *, least: int = 1) -> int:
    """A whole number of at least ``least``.

    Raises:
        ConfigError: it is none.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ConfigError(f"{_shown(value)} is not a whole number of at least {least}", where=where, remedy="Set one")
    return value


def canvas_side(value: Any, where: str) -> int:
    """Side of a square of pixels.

    Raises:
        ConfigError: it is no whole number, or less than 32 px.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < 32:
        raise ConfigError(
            f"{_shown(value)} is not a number of px, at least 32",
            where=where,
            remedy="Set one; the shipped files take it from model.min_size, which must then be a single number",
        )
    return value


def fraction(value: Any, where: str) -> float:
    """A number from 0 to 1.

    Raises:
        ConfigError: it is none.
    """
    if not _is_number(value) or not 0 <= value <= 1:
        raise ConfigError(f"{_shown(value)} is not a number from 0 to 1", where=where, remedy="Set one")
    return float(value)


def positive(value: Any, where: str) -> float:
    """A number of at least 0.

    Raises:
        ConfigError: it is none.
    """
    if not _is_number(value) or not 0 <= value < float("inf"):
        raise ConfigError(f"{_shown(value)} is not a number of at least 0", where=where, remedy="Set one")
    return float(value)


def interval(value: Any, where: str, *, least: float, most: float = 1000.0) -> tuple[float, float]:
    """Two numbers between ``least`` and ``most``, the smaller first.

    Raises:
        ConfigError: they are not.
    """
    numbers = list(value) if isinstance(value, Sequence) and not isinstance(value, str) else []
    if len(numbers) != 2 or not all(map(_is_number, numbers)) or not least <= numbers[0] <= numbers[1] <= most:
        raise ConfigError(
            f"{_shown(value)} is not a range", where=where, remedy=f"Set [low, high] within {least:g} to {most:g}"
        )
    return float(numbers[0]), float(numbers[1])


def colour(value: Any, where: str) -> tuple[int, int, int]:
    """Red, green and blue, 0 to 255 each.

    Raises:
        ConfigError: it is no colour.
    """
    numbers = list(value) if isinstance(value, Sequence) and not isinstance(value, str) else []
    if len(numbers) != 3 or not all(isinstance(number, int) and 0 <= number <= 255 for number in numbers):
        raise ConfigError(f"{_shown(value)} is not a colour", where=where, remedy="Set [R, G, B], 0 to 255 each")
    return numbers[0], numbers[1], numbers[2]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _shown(value: Any) -> str:
    return str(value) if isinstance(value, Sequence) and not isinstance(value, str) else repr(value)
