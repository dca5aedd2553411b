"""Packed annotations on disk, so that a large file is parsed once.

A cache file is found by the SHA-256 of the annotation file and by what packed it, so an edited file, or another
finemask, never meets the arrays of before. Any file of the folder may be deleted at any time.
"""

import hashlib
import json
import logging
import mmap
import os
import re
import time
from collections.abc import Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from finemask import __version__
from finemask.coco.coco_file import read_coco_json
from finemask.coco.columns import PackedCoco
from finemask.ops.files.atomic_files import atomic_path
from finemask.ops.files.documents import sha256_of
from finemask.types import Category

FORMAT = 3  # counts up whenever packing or the form of the file changes
_KEY = "finemask_annotations"
_DTYPES = {"U8": "<u1", "BOOL": "?", "I16": "<i2", "I32": "<i4", "I64": "<i8", "F32": "<f4", "F64": "<f8"}
_ALIGNMENT = 64


def version() -> dict[str, Any]:
    """What wrote a file; one written by anything else is not used."""
    return {"format": FORMAT, "finemask": __version__}


def write_packed(path: Path, packed: PackedCoco) -> None:
    """Writes packed annotations, whole or not at all.

    Args:
        path: where to.
        packed: the annotations.

    Raises:
        OSError: it cannot be written.
    """
    table: dict[str, Any] = {}
    arrays = {name: np.ascontiguousarray(array) for name, array in packed.arrays().items()}
    codes = {np.dtype(code): name for name, code in _DTYPES.items()}
    end = 0
    # the widest first: so each array is aligned without gaps, which the format does not allow
    for name, array in sorted(arrays.items(), key=lambda item: (-item[1].itemsize, item[0])):
        begin, end = end, end + array.nbytes
        table[name] = {"dtype": codes[array.dtype], "shape": list(array.shape), "data_offsets": [begin, end]}
    about = {**version(), "fingerprint": packed.fingerprint, "categories": [list(c) for c in packed.categories]}
    digest = hashlib.sha256(_canonical(table, about))
    for name in table:
        digest.update(_bytes(arrays[name]))
    metadata = {_KEY: json.dumps(about), "sha256": digest.hexdigest()}
    head = json.dumps({"__metadata__": metadata, **table}).encode()
    head += b" " * (-(len(head) + 8) % _ALIGNMENT)
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        file.write(len(head).to_bytes(8, "little") + head)
        for name in table:
            file.write(_bytes(arrays[name]))


def map_packed(path: Path, fingerprint: str, *, verify: bool = True) -> PackedCoco:
    """Opens such a file; the arrays are read-only views of it.

    Args:
        path: the file.
        fingerprint: SHA-256 of the annotation file it must have been made from.
        verify: compare the checksum. Without it the file must be one that this run has written or verified.

    Raises:
        OSError: it cannot be read.
        ValueError: it is damaged, of another version, or no such file at all.
    """
    with path.open("rb") as file:
        content = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    try:
        start = 8 + int.from_bytes(content[:8], "little")
        table = json.loads(bytes(content[8:start]))
        metadata = table.pop("__metadata__")
        about = json.loads(metadata[_KEY])
        if any(about.get(key) != value for key, value in {**version(), "fingerprint": fingerprint}.items()):
            raise ValueError("made from something else, or by another version")
        if verify:
            digest = hashlib.sha256(_canonical(table, about))
            digest.update(content[start:])
            if digest.hexdigest() != metadata["sha256"]:
                raise ValueError("the checksum is wrong")
        arrays = {name: _view(content[start:], **entry) for name, entry in table.items()}
        return PackedCoco.of_arrays(arrays, [Category(*entry) for entry in about["categories"]], fingerprint)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise ValueError(f"damaged or foreign: {error}") from None


def _view(content: memoryview, dtype: str, shape: list[int], data_offsets: list[int]) -> NDArray[Any]:
    begin, end = data_offsets
    return np.frombuffer(content[begin:end], _DTYPES[dtype]).reshape(shape)


def _bytes(array: NDArray[Any]) -> memoryview:
    return memoryview(array.reshape(-1).view(np.uint8))  # type: ignore[arg-type]  # its stubs lack the buffer protocol


def _canonical(table: Mapping[str, Any], about: Mapping[str, Any]) -> bytes:
    return json.dumps([table, about], sort_keys=True).encode()


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
        return _read(annotations), None
    try:
        fingerprint = sha256_of(annotations)
    except OSError:
        return _read(annotations), None  # which says what is wrong
    try:
        folder = default_folder() if folder == "auto" else Path(folder)
    except RuntimeError as error:  # a container without a home
        _say_once(f"Annotations are not kept ({error}); set XDG_CACHE_HOME, or each start parses them anew")
        return _read(annotations), None
    path = _cache_file(folder, fingerprint)
    if (packed := _read_cached(path, fingerprint)) is not None:
        return packed, path
    log.info("Reading %s, %.0f MB, for the first time; it is then kept in %s", annotations, size / 1e6, folder)
    packed = _read(annotations)
    path = _cache_file(folder, packed.fingerprint)  # the file may have changed since
    try:
        _remove_unused(folder)
        write_packed(path, packed)
        return map_packed(path, packed.fingerprint, verify=False), path
    except (OSError, ValueError) as error:
        _say_once(f"Annotations cannot be kept in {folder} ({_reason(error)}); each start parses them anew")
        return packed, None


def _read(annotations: Path) -> PackedCoco:
    file = read_coco_json(annotations)
    file.raise_first_fault()
    return file.columns


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
