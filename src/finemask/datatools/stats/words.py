"""Numbers as people read them."""

from collections.abc import Sequence


def listed(numbers: Sequence[float]) -> str:
    """``[8,16,32]``, as the command line takes it."""
    return "[" + ",".join(f"{number:g}" for number in numbers) + "]"


def percent(fraction: float) -> str:
    """``84 %``, with a digit more near both ends."""
    near_an_end = 0 < fraction < 0.095 or 0.99 < fraction < 1
    return f"{100 * fraction:.1f} %" if near_an_end else f"{100 * fraction:.0f} %"


def plural(number: int, one: str, many: str = "") -> str:
    """``1 object``, ``2 objects``; the number with the word that goes with it."""
    return f"{count(number)} {one if number == 1 else many or f'{one}s'}"


def count(number: int) -> str:
    """``20 082``, with narrow spaces that do not break."""
    return f"{number:,}".replace(",", "\N{NARROW NO-BREAK SPACE}")


def names(chosen: Sequence[str], most: int = 5) -> str:
    """The first few of them, and how many more there are."""
    more = len(chosen) - most
    return ", ".join(chosen[:most]) + (f" and {more} more" if more > 0 else "")
