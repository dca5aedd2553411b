"""Exporting a model file: written, compared with the model, and kept only if both agree."""

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from finemask.config import verb_options
from finemask.errors import ConfigError, FinemaskError
from finemask.export.certificate import PROBE_SIZES_HW, Agreement, Certificate, certify
from finemask.export.formats import FORMATS, ExportFormat
from finemask.inference.read_ahead import read_images
from finemask.inference.sources import NamedImage, Unread, list_items
from finemask.model.mask_rcnn import MaskRCNN
from finemask.model_file import find_model_file, load_model_file
from finemask.model_hub import hub_address
from finemask.ops.files import sha256_of, write_json
from finemask.ops.images.image_reading import ImageReading
from finemask.ops.terminal import Progress

_COMPARED = 20  # of the user's images, spread evenly over all
_NAMED = 3


@dataclass(frozen=True, slots=True)
class Exported:
    """What an export wrote.

    Args:
        path: the exported file.
        beside: other files that belong to it.
        parity: ``PATH.parity.json``.
        certificate: the comparison.
        megabytes: of the exported file and those beside it.
        note: what is to be known of the format.
    """

    path: Path
    beside: tuple[Path, ...]
    parity: Path
    certificate: Certificate
    megabytes: float
    note: str = ""


def export(
    model: str | Path,
    output: str | Path,
    *,
    format: str = "onnx",
    images: str | Path | Sequence[str | Path] | None = None,
    overrides: Sequence[str] = (),
) -> Exported:
    """What ``finemask export`` does: ``export("model.safetensors", "model.onnx", images="photos/")``.

    Args:
        model: a model file or a run.
        output: the file to write.
        format: ``onnx``, ``openvino``, ``torch_export``, ``torchscript`` or ``torchvision``.
        images: images to compare on, as for ``predict``.
        overrides: as on the command line.

    Raises:
        FinemaskError: the model cannot be exported, or the exported file does not agree with it.
    """
    given = {"model": model, "output": output, "format": format, "images": images}
    return export_model(verb_options("export", given, overrides))


def export_model(options: Mapping[str, Any]) -> Exported:
    """Exports and compares. What does not agree is not written.

    Args:
        options: as in ``configs/export.yaml``.

    Raises:
        FinemaskError: the model cannot be exported, or the exported file does not agree with it.
    """
    form = FORMATS[options["format"]]
    file = find_model_file(options["model"])
    place = file if hub_address(options["model"]) is None else Path(file.name)  # a cache is no place to write to
    path = place.with_suffix(form.suffix) if options["output"] is None else Path(options["output"])
    if path.suffix.lower() != form.suffix:
        raise ConfigError(
            f"output={path} does not end in {form.suffix}",
            remedy=f"format={options['format']} writes a file {form.suffix}.",
        )
    if path.is_dir():
        raise ConfigError(f"output={path} is a folder", remedy="Give a file.")
    model, header = load_model_file(file, options["trust"])
    assert isinstance(model, MaskRCNN)
    form.check(model)
    images = _images(options["images"], ImageReading.of(None, header.reading))
    path.parent.mkdir(parents=True, exist_ok=True)
    # Beside its place, so that it comes there in one step once it has been found to agree.
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.stem}-") as folder:
        written = Path(folder) / path.name
        with Progress("exporting", 1, "file") as progress:
            form.write(model, header, written)
            progress.advance()
        with Progress("comparing", len(images) + len(PROBE_SIZES_HW), "images") as progress:
            certificate = certify(model, form.open(written, header), images, progress.advance)
        refuse(certificate, path)
        others = sorted(other for other in written.parent.iterdir() if other != written)
        size = sum(each.stat().st_size for each in (written, *others))
        parity = path.with_name(f"{path.name}.parity.json")
        content = {
            "format": options["format"],
            "file": path.name,
            "sha256": sha256_of(written),
            "beside": {other.name: sha256_of(other) for other in others},
            "model": str(file),
            "model_sha256": header.sha256,
            "versions": _versions(form),
        }
        write_json(parity, content | certificate.to_json())
        beside = tuple(other.replace(path.with_name(other.name)) for other in others)
        written.replace(path)
    return Exported(path, beside, parity, certificate, size / 2**20, form.note)


def refuse(certificate: Certificate, path: Path) -> None:
    """Raises where the exported file does not agree, or where too little was seen to say that it does.

    Raises:
        FinemaskError: it says on which images.
    """
    if faults := certificate.faults:
        named = "; ".join(_fault_in_words(fault) for fault in faults[:_NAMED])
        more = f"; and {len(faults) - _NAMED} more" if len(faults) > _NAMED else ""
        raise FinemaskError(
            f"the exported file does not find what the model finds, and was not written: {named}{more}",
            where=path,
            remedy="finemask.load(FILE) runs the model file; other versions of the packages may export it.",
        )
    if missing := [name for name, number in certificate.counted().items() if not number]:
        raise FinemaskError(
            f"no image was seen with {' and '.join(missing)} found, so that agreement there is not known; nothing was "
            "written",
            where=path,
            remedy="Give images that hold objects of the model's classes: images=FOLDER.",
        )


def _fault_in_words(fault: Agreement) -> str:
    height, width = fault.size_hw
    return f"{fault.image} ({width} × {height} px, score threshold {fault.score_thresh:.3g}): {fault.fault}"


def _images(source: Any, reading: ImageReading) -> dict[str, Tensor]:
    """The user's images as tensors uint8 [3, H, W] by name; ``_COMPARED`` of them at most."""
    if source is None:
        return {}
    items = [item for item in list_items(source) if not item.is_video]
    step = max(1, len(items) / _COMPARED)
    chosen = [items[int(number * step)] for number in range(min(len(items), _COMPARED))]
    if not chosen:
        raise ConfigError(f"images={source} holds no images", remedy="Give a folder of images, or leave it out.")
    found = {}
    for one in read_images(chosen, reading):
        if isinstance(one, Unread):
            raise one.error
        assert isinstance(one, NamedImage)
        found[one.name] = torch.tensor(one.image).permute(2, 0, 1).contiguous()
    return found


def _versions(form: ExportFormat) -> dict[str, str]:
    from importlib.metadata import version

    return {name: version(name) for name in ("finemask", "torch", "torchvision", *form.packages)}
