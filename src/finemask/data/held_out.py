"""Parts of the training images that a model is kept from, so that it can judge labels it has not learned."""

import hashlib
import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from finemask.errors import ConfigError


def checked_part(text: object) -> tuple[int, int]:
    """``"2/3"`` as (2, 3): the second of three parts.

    Raises:
        ConfigError: it is no such thing.
    """
    found = re.fullmatch(r"(\d+)/(\d+)", text) if isinstance(text, str) else None
    part, parts = (int(number) for number in found.groups()) if found else (0, 0)
    if not 1 <= part <= parts or parts < 2:
        raise ConfigError(
            f"data.held_out is {text!r}",
            remedy="Give a part of several: data.held_out=1/2 is the first half of the training images.",
        )
    return part, parts


def held_out(image_ids: Sequence[int] | NDArray[np.int64], part: str) -> NDArray[np.bool_]:
    """Which images belong to a part.

    Parts are of equal size up to one image, and depend on nothing but the ids: not on the order of the file, so that a
    file with other labels for the same images has the same parts.

    Args:
        image_ids: of the file, all different.
        part: such as ``"1/2"``.

    Returns:
        bool [n].

    Raises:
        ConfigError: ``part`` is no part.
    """
    number, parts = checked_part(part)
    digests = [hashlib.sha256(str(int(id_)).encode()).digest() for id_ in image_ids]
    order = sorted(range(len(digests)), key=digests.__getitem__)
    found = np.zeros(len(digests), dtype=np.bool_)
    found[order[number - 1 :: parts]] = True
    return found
