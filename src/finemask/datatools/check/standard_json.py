"""Values that Python reads from JSON but no standard JSON can hold."""

import json
from typing import Any

_DEEPEST = 50


def is_standard(value: Any) -> bool:
    """Whether a value can be written as standard JSON in UTF-8: no NaN, infinity, broken text, or endless nesting."""
    try:
        json.dumps(value, allow_nan=False, ensure_ascii=False).encode()
    except (ValueError, RecursionError):  # a UnicodeEncodeError is a ValueError
        return False
    return True


def standard(value: Any, depth: int = 0) -> Any:
    """The value with null for what JSON has not, and with text that UTF-8 can hold.

    Args:
        value: what Python's parser made of JSON.
        depth: of lists and objects around it.
    """
    if isinstance(value, str):
        return value.encode(errors="replace").decode()
    if isinstance(value, list | dict) and depth > _DEEPEST:
        return None
    if isinstance(value, list):
        return [standard(item, depth + 1) for item in value]
    if isinstance(value, dict):
        return {standard(key): standard(item, depth + 1) for key, item in value.items()}
    return value if is_standard(value) else None
