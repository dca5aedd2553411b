"""Files below a folder, and those that a pattern matches; links to folders are not followed, for they may lead back."""

import fnmatch
import glob
import logging
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

log = logging.getLogger(__name__)


def walk(folder: Path) -> Iterator[Path]:
    """All that is below a folder and is none itself; links to folders are not followed, for they may lead back."""
    for place, inner, names in os.walk(folder, onerror=_say_unlisted):
        inner[:] = [name for name in inner if not name.startswith(".")]
        yield from (Path(place, name) for name in names)


def _say_unlisted(error: OSError) -> None:
    log.warning("Left out, for it cannot be listed: %s (%s)", error.filename, error.strerror)


def matching(pattern: Path) -> Iterator[Path]:
    """What a pattern matches. ``**`` is any folders, but no links to folders: ``glob`` would go round and round."""
    parts = pattern.parts
    if "**" not in parts:
        # Path.glob would refuse patterns such as "**.jpg".
        yield from (Path(name) for name in glob.glob(str(pattern)))  # noqa: PTH207
        return
    first = parts.index("**")
    above = str(Path(*parts[:first])) if first else "."
    for start in glob.glob(above) if glob.has_magic(above) else [above]:  # noqa: PTH207
        yield from (path for path in walk(Path(start)) if _fits(path.relative_to(start).parts, parts[first:]))


def _fits(parts: Sequence[str], patterns: Sequence[str]) -> bool:
    if not (parts and patterns):
        return not parts and set(patterns) <= {"**"}
    if patterns[0] == "**":
        return _fits(parts, patterns[1:]) or _fits(parts[1:], patterns)
    return fnmatch.fnmatch(parts[0], patterns[0]) and _fits(parts[1:], patterns[1:])
