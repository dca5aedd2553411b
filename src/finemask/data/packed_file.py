"""Packed annotations as a file that is mapped into memory, not read.

It is a safetensors file: a JSON table, then the plain bytes of the arrays. All processes that map it share the same
pages. Its metadata says what it was made from, and has the SHA-256 of everything else, which is compared before
anything is believed; nothing is ever unpickled.
"""

import hashlib
import json
import mmap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from finemask import __version__
from finemask.data.packing import PackedCoco
from finemask.ops.files import atomic_path
from finemask.types import Category

FORMAT = 2  # counts up whenever packing or the form of the file changes
_KEY = "finemask_annotations"
_DTYPES = {"U8": "<u1", "BOOL": "?", "I16": "<i2", "I32": "<i4", "I64": "<i8", "F32": "<f4"}
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
