"""Numbers as a page writes them."""

from collections.abc import Sequence

from finemask.ops.wording import count, plural


def fraction(value: float | None) -> str:
    """0.4123 is 0.412; a dash for nothing."""
    return "–" if value is None else f"{value:.3f}"


def percent(value: float | None) -> str:
    """0.4123 is 41.2 %; a dash for nothing."""
    return "–" if value is None else f"{100 * value:.1f}\N{NO-BREAK SPACE}%"


def percent_name(value: float | None) -> str:
    """0.95 is 95 %, as a level is called; nothing for nothing."""
    return "" if value is None else f"{100 * value:.4g}\N{NO-BREAK SPACE}%"


def interval(ends: Sequence[float | None] | None) -> str:
    """Both ends with three decimals; nothing where one is missing."""
    return "" if _is_open(ends) else f"{ends[0]:.3f} to {ends[1]:.3f}"  # type: ignore[index]


def percent_interval(ends: Sequence[float | None] | None) -> str:
    """Both ends in percent; nothing where one is missing."""
    return "" if _is_open(ends) else f"{100 * ends[0]:.1f} to {100 * ends[1]:.1f}\N{NO-BREAK SPACE}%"  # type: ignore[index,operator]


def _is_open(ends: Sequence[float | None] | None) -> bool:
    return not ends or ends[0] is None or ends[1] is None


FILTERS = {
    "fraction": fraction,
    "percent": percent,
    "percent_name": percent_name,
    "count": count,
    "plural": plural,
    "interval": interval,
    "percent_interval": percent_interval,
}
