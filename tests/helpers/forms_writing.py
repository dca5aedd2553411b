"""What a form of labels is."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from scenes import Scene


@dataclass(frozen=True)
class Form:
    """A way in which labels or images are written.

    Args:
        what: the form, for the table; Markdown.
        who: tools and habits that write it.
        spoil: writes labels or images of a scene so.
        asked: keys that ``fix=`` and convert are given besides, such as ``crowds`` with ``"objects"``.
        harmless_too: whether rules that finemask itself does not need belong into the table.
        sound: labels that are in this form without being spoilt.
        chosen: what training has to be told of the images, as it is typed behind ``data.image.``.
    """

    what: str
    who: str
    spoil: Callable[[Scene], None]
    asked: Mapping[str, Any] = field(default_factory=dict)
    harmless_too: bool = False
    sound: int = 0
    chosen: str = ""
