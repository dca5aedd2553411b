"""The model file: one self-describing safetensors file. Nothing in it is unpickled or executed.

Its metadata holds two strings: ``finemask``, the JSON of a ``ModelHeader``, and ``finemask_checksum``, the
SHA-256 of that JSON and of the table of tensors. The header in turn holds the SHA-256 of the tensor bytes, so
that one flipped bit anywhere is found.
"""

import hashlib
import json
from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError

from finemask.config.moved_targets import with_present_targets
from finemask.errors import FinemaskError, ModelFileError
from finemask.model_header import FORMAT_VERSION, ModelHeader, header_from_json, header_to_json
from finemask.model_hub import download, hub_address
from finemask.ops.files.atomic_files import atomic_path
from finemask.ops.files.run_folders import MODEL_FILE, find_in_run

if TYPE_CHECKING:  # a header is read without torch
    from torch import Tensor, nn

HEADER_KEY, CHECKSUM_KEY = "finemask", "finemask_checksum"
MAX_HEADER_BYTES = 100_000_000  # safetensors' own limit
_A_MODEL_FILE = (
    "Give the model.safetensors of a run. To start training from other weights use finemask train model.weights=PATH."
)
_DAMAGED = "Copy or download it again, or save the model anew."


def save_model_file(path: Path | str, state_dict: Mapping[str, "Tensor"], header: ModelHeader) -> ModelHeader:
    """Writes a model file, whole or not at all.

    Args:
        path: where to; conventionally ``model.safetensors``.
        state_dict: the weights, on any device; tensors that share memory are written out one by one.
        header: what the file says of itself; its ``sha256`` is filled in here.

    Returns:
        The header as written.

    Raises:
        ModelFileError: the state_dict holds something that is not a tensor.
    """
    from safetensors.torch import save
    from torch import Tensor

    for name, value in state_dict.items():
        if not isinstance(value, Tensor):
            raise ModelFileError(
                f"the entry '{name}' is a {type(value).__name__}, not a tensor",
                where=path,
                remedy="A model file holds tensors and JSON only.",
            )
    encoded = memoryview(save({name: _plain(value) for name, value in state_dict.items()}))
    start = 8 + int.from_bytes(encoded[:8], "little")
    table = json.loads(bytes(encoded[8:start]))
    table.pop("__metadata__", None)
    written = replace(header, sha256=hashlib.sha256(encoded[start:]).hexdigest())
    text = json.dumps(header_to_json(written), allow_nan=False, ensure_ascii=False)
    metadata = {HEADER_KEY: text, CHECKSUM_KEY: _checksum(text, table)}
    front = json.dumps({"__metadata__": metadata, **table}, ensure_ascii=False).encode()
    front += b" " * (-len(front) % 8)  # the tensors stay aligned
    with atomic_path(Path(path)) as temporary, temporary.open("wb") as file:
        file.write(len(front).to_bytes(8, "little"))
        file.write(front)
        file.write(encoded[start:])
    return written


def find_model_file(path: Path | str) -> Path:
    """Finds a model file: a file, or ``model.safetensors`` of a run, of the newest run of a name, or of a repository.

    Args:
        path: ``FILE``, ``runs/NAME/DATE_TIME``, ``runs/NAME``, or ``runs/NAME/latest`` where no links can be made, too;
            or ``hf://OWNER/NAME[@REVISION][/FILE]`` on the Hugging Face Hub, which is downloaded.

    Returns:
        ``path`` as it is where there is none: whoever opens it says so.

    Raises:
        FinemaskError: an address on the Hub that cannot be had.
    """
    address = hub_address(path)
    return find_in_run(path, MODEL_FILE) if address is None else download(address, MODEL_FILE)


def verify_model_file(path: Path | str) -> ModelHeader:
    """The header of a model file, once every byte of its tensors has been found to be the one recorded.

    Raises:
        ModelFileError: it is missing, foreign, truncated, altered or damaged.
    """
    path = find_model_file(path)
    header, start = _open(path)
    with path.open("rb") as file:
        file.seek(start)
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != header.sha256:
        raise ModelFileError(
            "the weights are damaged: their SHA-256 is not the one recorded", where=path, remedy=_DAMAGED
        )
    return header


def read_header(path: Path | str) -> ModelHeader:
    """The header of a model file, without reading its tensors.

    Args:
        path: see ``find_model_file``.

    Raises:
        ModelFileError: it is missing, foreign, truncated, or its header was altered.
    """
    return _open(find_model_file(path))[0]


def load_model_file(path: Path | str, trust: str | Collection[str] = ()) -> "tuple[nn.Module, ModelHeader]":
    """Builds the model a file describes and gives it the file's weights.

    Losses and the sampler are not needed to predict: where their code is not there, or not trusted, the model has a
    stand-in that refuses to train.

    Args:
        path: see ``find_model_file``.
        trust: parts of your own that the file may name, besides finemask's: see ``allowed_targets``.

    Returns:
        The model in evaluation mode on the CPU, and the header.

    Raises:
        ModelFileError: the file is missing, foreign, damaged, names a builder that is not allowed, or its
            weights do not fit the architecture it describes.
    """
    import torch
    from safetensors.torch import load_file

    from finemask.config.config_files import allowed_targets
    from finemask.model.build import build_model, build_unfilled_model

    path = find_model_file(path)
    header = verify_model_file(path)
    try:
        weights = load_file(path)
    except (SafetensorError, OSError, ValueError, KeyError) as error:
        raise ModelFileError(f"the tensors cannot be read ({_line(error)})", where=path, remedy=_DAMAGED) from error
    try:
        # The caller's random state stays as it was. What somebody else's parts draw may be more than their weights.
        build = build_model if trust else build_unfilled_model
        with torch.random.fork_rng(devices=[]):
            model = build(header.model, num_classes=len(header.categories) + 1, allowed=allowed_targets(trust))
        model.load_state_dict(weights, strict=True)
    except FinemaskError as error:
        raise ModelFileError(error.what, where=path, remedy=error.remedy) from error
    except Exception as error:  # whatever a foreign configuration does to a builder, the file is at fault
        raise ModelFileError(
            f"the model it describes cannot be rebuilt ({_line(error)})",
            where=path,
            remedy=f"It was written by finemask {header.versions.get('finemask', '?')}; try that version.",
        ) from error
    return model.eval(), header


def _open(path: Path) -> tuple[ModelHeader, int]:
    """The header, checked, and the position of the first tensor byte."""
    metadata, table, start = _read_front(path)
    text, checksum = metadata.get(HEADER_KEY), metadata.get(CHECKSUM_KEY)
    if not isinstance(text, str):
        raise ModelFileError(
            "a safetensors file, but not a finemask model file: its metadata lacks the key 'finemask'",
            where=path,
            remedy=_A_MODEL_FILE,
        )
    try:
        content = json.loads(text)
        version = content.get("format_version")
    except (ValueError, RecursionError, AttributeError) as error:
        raise ModelFileError("its header is not JSON", where=path, remedy=_DAMAGED) from error
    if isinstance(version, int) and version > FORMAT_VERSION:
        raise ModelFileError(
            f"format version {version}; this finemask reads up to {FORMAT_VERSION}",
            where=path,
            remedy="Upgrade with: pip install --upgrade finemask",
        )
    if checksum != _checksum(text, table):
        raise ModelFileError(
            "its header was altered or damaged: the checksum does not fit", where=path, remedy=_DAMAGED
        )
    try:
        header = header_from_json(content)
        return replace(header, model=with_present_targets(header.model)), start
    except (ValueError, KeyError, TypeError, OverflowError) as error:
        raise ModelFileError(
            f"its header is not a finemask one ({_line(error)})", where=path, remedy=_DAMAGED
        ) from error


def _read_front(path: Path) -> tuple[dict[str, Any], dict[str, Any], int]:
    """Metadata, table of tensors, position of the first tensor byte; the file's length is checked."""
    if not path.is_file():
        what = f"a folder without a {MODEL_FILE}, and without a run that has one"
        raise ModelFileError(
            what if path.is_dir() else "no such model file",
            where=path,
            remedy=f"Give the {MODEL_FILE} of a run, or the folder of a finished one.",
        )
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if size < 10 or length > MAX_HEADER_BYTES:
            raise _foreign(path)
        if 8 + length > size:
            raise ModelFileError("not a safetensors file, or only the beginning of one", where=path, remedy=_DAMAGED)
        front = file.read(length)
    try:
        table = json.loads(front)
        metadata = table.pop("__metadata__", {})
        ends = [int(entry["data_offsets"][1]) for entry in table.values()]
        metadata.get(HEADER_KEY)
    except (ValueError, RecursionError, AttributeError, KeyError, TypeError, IndexError, OverflowError) as error:
        raise _foreign(path) from error
    expected = 8 + length + max(ends, default=0)
    if size != expected:
        what = "truncated" if size < expected else "followed by bytes that do not belong to it"
        raise ModelFileError(f"{what}: {size} bytes instead of {expected}", where=path, remedy=_DAMAGED)
    return metadata, table, 8 + length


def _foreign(path: Path) -> ModelFileError:
    with path.open("rb") as file:
        beginning = file.read(2)
    kind = " but a PyTorch checkpoint or another zip file" if beginning == b"PK" else ""
    return ModelFileError(
        f"not a model file{kind}",
        where=path,
        remedy=_A_MODEL_FILE,
    )


def _checksum(header_text: str, table: Mapping[str, Any]) -> str:
    canonical = json.dumps(table, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(f"{header_text}\n{canonical}".encode()).hexdigest()


def _plain(tensor: "Tensor") -> "Tensor":
    # A copy each: safetensors refuses tensors that share memory, as tied or sliced weights do.
    return tensor.detach().to("cpu", copy=True).contiguous()


def _line(error: Exception) -> str:
    text = next(iter(str(error).strip().splitlines()), "")
    return f"{type(error).__name__}: {text[:200]}"
