"""Numbers and plurals, written one way on the terminal, in pages and in logs."""

from collections.abc import Sequence


def plural(number: int, one: str, many: str = "") -> str:
    """``1 object``, ``2 objects``; the number with the word that goes with it."""
    return f"{number:,} {word(number, one, many)}"


def word(number: int, one: str, many: str = "") -> str:
    """``object`` or ``objects``: the word alone, where something stands between it and the number."""
    return one if number == 1 else many or f"{one}s"


def fraction(value: float | None) -> str:
    """0.4123 is 0.412; a dash for nothing."""
    return "–" if value is None else f"{value:.3f}"


def percent(fraction: float) -> str:
    """``84 %``, with a digit more near both ends."""
    near_an_end = 0 < fraction < 0.095 or 0.99 < fraction < 1
    return f"{100 * fraction:.1f} %" if near_an_end else f"{100 * fraction:.0f} %"


def listed(numbers: Sequence[float]) -> str:
    """``[8,16,32]``, as the command line takes it."""
    return "[" + ",".join(f"{number:g}" for number in numbers) + "]"


def names(chosen: Sequence[str], most: int = 5) -> str:
    """The first few of them, and how many more there are."""
    more = len(chosen) - most
    return ", ".join(chosen[:most]) + (f" and {more:,} more" if more > 0 else "")
