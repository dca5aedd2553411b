"""What may be said of a difference: *better* and *worse* only with an interval that leaves out zero."""

from collections.abc import Mapping
from typing import Any

from finemask.evaluation.bootstrap import Difference
from finemask.ops.wording import count, plural

NO_DIFFERENCE = "no difference can be shown"


def verdict(found: Difference) -> str:
    """One of three: ``b is better by 0.031 (0.011 to 0.052)``, the same with *worse*, or ``NO_DIFFERENCE``."""
    if not found.is_shown:
        return NO_DIFFERENCE
    low, high = sorted(abs(end) for end in found.interval)
    word = "better" if found.interval[0] > 0 else "worse"
    return f"b is {word} by {abs(found.value):.3f} ({low:.3f} to {high:.3f})"


def difference_text(row: Mapping[str, Any]) -> str:
    """``+0.031 (+0.011 to +0.052)``, of a row of ``compare.json``."""
    value = f"{row['difference']:+.3f}"
    return value if row["interval"] is None else f"{value} ({row['interval'][0]:+.3f} to {row['interval'][1]:+.3f})"


def p_text(p_value: float | None) -> str:
    """A p-value as one writes it."""
    if p_value is None:
        return "–"
    return "< 0.001" if p_value < 0.001 else f"{p_value:.3f}"


def summary(what: str, row: Mapping[str, Any] | None, images: int) -> str:
    """A sentence or two on one number.

    Args:
        what: its name, such as ``"AP of masks"``.
        row: of ``compare.json``; None where it does not exist.
        images: in the set.
    """
    if row is None:
        return f"{what}: it does not exist, because there is nothing to find."
    if row["interval"] is None:
        return f"{what}: {row['verdict']}, because objects are in too few images."
    p_value = p_text(row["p_value"])
    p_value = f"p {p_value}" if p_value.startswith("<") else f"p = {p_value}"
    if row["smallest_detectable"] == 0:
        return f"{what}: {row['verdict']}: no draw of the images shows one."
    these = "This image" if images == 1 else f"These {count(images)} images"
    smallest = f"{these} can show a difference of about {row['smallest_detectable']:.3f} or more."
    if row["verdict"] == NO_DIFFERENCE:
        return f"{what}: {row['verdict']}: {difference_text(row)}, {p_value}. {smallest}"
    return f"{what}: {row['verdict']}, {p_value}. {smallest}"


def wins_text(counts: Mapping[str, int]) -> str:
    """How the classes are divided."""
    total = sum(counts.values())
    expected = 0.05 * total
    text = f"of {plural(total, 'class', 'classes')}, a leads in {counts['a']}, b in {counts['b']}; "
    text += f"in {counts['undecided']} {NO_DIFFERENCE}"
    if counts["a"] + counts["b"] and total > 1:
        text += f" (chance alone would give about {expected:.1f} leads)"
    return text
