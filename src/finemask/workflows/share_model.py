"""Sharing a model: its file, a card that says how far to trust it, a preview; in a folder or on the Hub."""

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from PIL import Image
from safetensors.torch import load_file

from finemask.config import verb_options
from finemask.errors import ConfigError
from finemask.export.model_card import write_card
from finemask.model_file import find_model_file, save_model_file, verify_model_file
from finemask.model_header import ModelHeader
from finemask.model_hub import HubAddress, hub_address, upload
from finemask.ops.files.atomic_files import atomic_path, write_text
from finemask.ops.files.run_folders import MODEL_FILE

CARD, PREVIEW = "README.md", "preview.jpg"
_OURS = frozenset({MODEL_FILE, CARD, PREVIEW})
_CELL_PX = 420
_SHOWN = 6  # pictures in a preview


@dataclass(frozen=True, slots=True)
class Shared:
    """What was shared.

    Args:
        paths: of the files in a folder; none where they went to the Hub.
        page: address of the page on the Hub; None for a folder.
    """

    paths: list[Path]
    page: str | None


def share(model: str | Path, to: str | Path, overrides: Sequence[str] = ()) -> Shared:
    """What ``finemask share`` does: ``share("model.safetensors", "hf://me/bottles", ["license=apache-2.0"])``.

    Args:
        model: a model file or a run.
        to: ``hf://OWNER/NAME``, or a folder.
        overrides: as on the command line.

    Raises:
        FinemaskError: as of ``share_model``.
    """
    return share_model(verb_options("share", {"model": model, "to": to}, overrides))


def share_model(options: Mapping[str, Any]) -> Shared:
    """Writes the model file, its card and a preview.

    Args:
        options: as in ``configs/share.yaml``.

    Raises:
        FinemaskError: the model file cannot be used, the folder holds something else, or the Hub refuses.
    """
    address = hub_address(options["to"])
    if address is not None and address.file is not None:
        raise ConfigError("to= names a file", where=address, remedy="Give the repository: hf://OWNER/NAME.")
    file = find_model_file(options["model"])
    header = verify_model_file(file)
    if address is None:
        folder = Path(options["to"])
        _refuse_others_files(folder)
        return Shared(_write(folder, file, header, options, None), None)
    with tempfile.TemporaryDirectory() as temporary:
        _write(Path(temporary), file, header, options, address)
        return Shared([], upload(Path(temporary), address, private=options["private"]))


def without_places(header: ModelHeader) -> ModelHeader:
    """The header without paths of the machine that it was made on: those are nobody else's business.

    File names stay. Neither building the model nor predicting needs what is left out.
    """
    model = dict(header.model)
    weights = str(model.get("weights", ""))
    if "weights" in model and hub_address(weights) is None:
        model["weights"] = Path(weights.replace("\\", "/")).name
    return replace(
        header, model=model, metrics={key: value for key, value in header.metrics.items() if key != "source"}
    )


def _write(
    folder: Path, file: Path, header: ModelHeader, options: Mapping[str, Any], address: HubAddress | None
) -> list[Path]:
    shared = folder / MODEL_FILE
    preview = None
    if options["pictures"] is not None:
        preview = _preview(file, options["pictures"], options["trust"])
    header = save_model_file(shared, load_file(file), without_places(header))
    if preview is not None:
        with atomic_path(folder / PREVIEW) as temporary:
            preview.save(temporary, quality=88)
    name = folder.resolve().name if address is None else address.repo.rpartition("/")[2]
    text = write_card(
        header,
        shared,
        name=name,
        address=None if address is None else str(address),
        license=options["license"],
        preview=None if preview is None else PREVIEW,
    )
    write_text(folder / CARD, text)
    return [shared, folder / CARD, *([folder / PREVIEW] if preview is not None else [])]


def _refuse_others_files(folder: Path) -> None:
    if folder.is_file():
        raise ConfigError("this is a file", where=f"to={folder}", remedy="Give a folder, or hf://OWNER/NAME.")
    foreign = sorted(path.name for path in folder.iterdir() if path.name not in _OURS) if folder.is_dir() else []
    if foreign:
        raise ConfigError(
            f"this folder holds other files, such as {foreign[0]}",
            where=f"to={folder}",
            remedy="Give a new folder, or one that finemask share has written.",
        )


def _preview(file: Path, pictures: Any, trust: Any) -> Image.Image:
    """What the model finds in the first few pictures, side by side."""
    from finemask.inference.predictor import load
    from finemask.inference.sources import list_items
    from finemask.pages.contact_sheet import Cell, contact_sheet

    items = list_items(pictures)[:_SHOWN]
    cells = []
    for instances in load(file, "cpu", trust).stream(items, batch_size=1):
        picture = instances.draw()
        picture.thumbnail((_CELL_PX, _CELL_PX))
        cells.append(Cell(picture, repr(instances).partition(": ")[2].rstrip(")") or "nothing found", ""))
    return contact_sheet(
        [[cell] for cell in cells],
        cell_wh=(_CELL_PX, _CELL_PX),
        columns=3,
        title="What the model finds",
        subtitle="at its own thresholds",
    )
