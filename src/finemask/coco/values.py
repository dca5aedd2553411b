"""Judging single JSON values, and showing them in messages whatever they are."""

import math
import re
from typing import Any, TypeGuard

ID_LIMIT = 2**63
"""Whole numbers from this on, or below minus this, fit no 64-bit column."""

_EXACT_FLOATS = 2**53  # a larger whole number written as a float may have been another


def is_id(value: Any) -> TypeGuard[int]:
    """A whole number of 64 bits, written as such: not 1.0, not true."""
    return type(value) is int and -ID_LIMIT <= value < ID_LIMIT


def is_number(value: Any) -> TypeGuard[float]:
    """A finite int of 64 bits or a finite float; a bool is none."""
    return is_id(value) or (isinstance(value, float) and math.isfinite(value))


def whole(value: Any) -> int | None:
    """A whole number, also when it is written as 3.0; None for anything else."""
    if is_id(value):
        return value
    return int(value) if type(value) is float and abs(value) < _EXACT_FLOATS and value == int(value) else None


def whole_in_text(value: Any) -> int | None:
    """A whole number written as a number or as text, ``"12"``; None for anything else."""
    if isinstance(value, str) and len(value) < 17 and value.strip().isascii() and value.strip().isdigit():
        return int(value)
    return whole(value)


def number_in_text(value: str) -> int | float | None:
    """The finite number that text spells, ``"54.4"``; None for any other text."""
    try:
        number = float(value) if len(value) <= 40 and "_" not in value else math.nan
    except ValueError:
        return None
    if not is_number(number):
        return None
    return int(number) if re.fullmatch(r"\s*[+-]?\d+\s*", value, re.ASCII) else number


def is_text(value: Any) -> TypeGuard[str]:
    """A string with something in it that every file and terminal can hold."""
    return isinstance(value, str) and bool(value.strip()) and is_encodable(value)


def is_encodable(text: str) -> bool:
    """No lone surrogate, which JSON can spell and UTF-8 cannot."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def show(value: Any) -> str:
    """A value for a message: short, in one line, printable."""
    if isinstance(value, list):
        if len(value) <= 6 and all(item is None or isinstance(item, int | float) for item in value):
            return f"[{', '.join(_scalar(item) for item in value)}]"
        return f"a list of {len(value)}"
    if isinstance(value, float) and value == value // 1 and abs(value) < 1e15:
        return f"{value:.1f}"  # that it is no whole number by type may be the point
    return "an object" if isinstance(value, dict) else _scalar(value)


def _scalar(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, int):  # Python refuses to write the digits of very long ones
        return str(value) if value.bit_length() < 80 else f"a number of {value.bit_length()} bits"
    text = f"{value:g}" if isinstance(value, float) else repr(value)
    return text if len(text) <= 60 else f"{text[:57]}…{text[-1]}"
