"""Packed annotations on disk, so that a large file is parsed once.

A cache file is found by the SHA-256 of the annotation file and by what packed it, so an edited file, or another
finemask, never meets the arrays of before. Any file of the folder may be deleted at any time.
"""

import hashlib
import json
import logging
import os
import re
import time
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Literal, TypeAlias

from finemask.data.coco_json import read_coco_json
from finemask.data.packed_file import map_packed, version, write_packed
from finemask.data.packing import PackedCoco
from finemask.ops.files import sha256_of

log = logging.getLogger(__name__)

CacheFolder: TypeAlias = Path | Literal["auto"] | None
"""A folder; ``"auto"`` for ``default_folder()``; None to do without."""

MIN_BYTES = 4_000_000  # smaller annotation files are parsed in no time and would only litter the folder
_UNUSED_DAYS = 60
_NAME = re.compile(r"[0-9a-f]{32}-[0-9a-f]{8}\.safetensors")


def default_folder() -> Path:
    """``finemask/annotations`` in the user's cache folder, ``$XDG_CACHE_HOME`` or ``~/.cache``."""
    home = os.environ.get("XDG_CACHE_HOME")
    return (Path(home) if home else Path.home() / ".cache") / "finemask" / "annotations"


def read_packed(annotations: Path, folder: CacheFolder = "auto") -> tuple[PackedCoco, Path | None]:
    """Packed annotations, from the cache if they are there, otherwise from the file, and then into the cache.

    Args:
        annotations: COCO file.
        folder: of the cache.

    Returns:
        The annotations, and the cache file that their arrays are mapped from, or None if they are in memory.

    Raises:
        DataError: the annotation file cannot be used.
    """
    size = annotations.stat().st_size if annotations.is_file() else 0
    if folder is None or size < MIN_BYTES:
        return read_coco_json(annotations), None
    try:
        fingerprint = sha256_of(annotations)
    except OSError:
        return read_coco_json(annotations), None  # which says what is wrong
    try:
        folder = default_folder() if folder == "auto" else Path(folder)
    except RuntimeError as error:  # a container without a home
        _say_once(f"Annotations are not kept ({error}); set XDG_CACHE_HOME, or each start parses them anew")
        return read_coco_json(annotations), None
    path = _cache_file(folder, fingerprint)
    if (packed := _read_cached(path, fingerprint)) is not None:
        return packed, path
    log.info("Reading %s, %.0f MB, for the first time; it is then kept in %s", annotations, size / 1e6, folder)
    packed = read_coco_json(annotations)
    path = _cache_file(folder, packed.fingerprint)  # the file may have changed since
    try:
        _remove_unused(folder)
        write_packed(path, packed)
        return map_packed(path, packed.fingerprint, verify=False), path
    except (OSError, ValueError) as error:
        _say_once(f"Annotations cannot be kept in {folder} ({_reason(error)}); each start parses them anew")
        return packed, None


def _read_cached(path: Path, fingerprint: str) -> PackedCoco | None:
    try:
        packed = map_packed(path, fingerprint)
        with suppress(PermissionError):
            os.utime(path)  # used today
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        log.warning("The annotation cache %s is made anew: %s", path, _reason(error))
        return None
    return packed


def _cache_file(folder: Path, fingerprint: str) -> Path:
    writer = hashlib.sha256(json.dumps(version()).encode()).hexdigest()
    return folder / f"{fingerprint[:32]}-{writer[:8]}.safetensors"


def _remove_unused(folder: Path) -> None:
    """Deletes cache files that no run has opened for two months."""
    for path in folder.glob("*-*.safetensors"):
        if _NAME.fullmatch(path.name) and path.stat().st_mtime < time.time() - _UNUSED_DAYS * 86400:
            path.unlink(missing_ok=True)


def _reason(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)


@cache
def _say_once(message: str) -> None:
    log.warning(message)
