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
from finemask.export.onnx_file import write_onnx
from finemask.export.plain_model import check_exportable
from finemask.inference.exported_model import load_exported
from finemask.inference.sources import list_items, read_images
from finemask.model.mask_rcnn import MaskRCNN
from finemask.model_file import find_model_file, load_model_file
from finemask.ops.files import sha256_of, write_json
from finemask.ops.images.image_reading import ImageReading
from finemask.ops.terminal import Progress

SUFFIX_OF = {"onnx": ".onnx"}
_COMPARED = 20  # of the user's images, spread evenly over all
_NAMED = 3


@dataclass(frozen=True, slots=True)
class Exported:
    """What an export wrote.

    Args:
        path: the exported file.
        parity: ``PATH.parity.json``.
        certificate: the comparison.
        megabytes: of the exported file.
    """

    path: Path
    parity: Path
    certificate: Certificate
    megabytes: float


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
        format: ``onnx``.
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
    suffix = SUFFIX_OF[options["format"]]
    file = find_model_file(options["model"])
    path = file.with_suffix(suffix) if options["output"] is None else Path(options["output"])
    if path.suffix.lower() != suffix:
        raise ConfigError(
            f"output={path} does not end in {suffix}", remedy=f"format={options['format']} writes a file {suffix}."
        )
    if path.is_dir():
        raise ConfigError(f"output={path} is a folder", remedy="Give a file.")
    model, header = load_model_file(file, options["trust"])
    assert isinstance(model, MaskRCNN)
    check_exportable(model)
    images = _images(options["images"], ImageReading.of(None, header.reading))
    path.parent.mkdir(parents=True, exist_ok=True)
    # Beside its place, so that it comes there in one step once it has been found to agree.
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.stem}-") as folder:
        written = Path(folder) / path.name
        with Progress("exporting", 1, "file") as progress:
            write_onnx(model, header, written)
            progress.advance()
        with Progress("comparing", len(images) + len(PROBE_SIZES_HW), "images") as progress:
            certificate = certify(model, load_exported(written), images, progress.advance)
        refuse(certificate, path)
        parity = path.with_name(f"{path.name}.parity.json")
        content = {
            "format": options["format"],
            "file": path.name,
            "sha256": sha256_of(written),
            "model": str(file),
            "model_sha256": header.sha256,
            "versions": _versions(options["format"]),
        }
        write_json(parity, content | certificate.to_json())
        written.replace(path)
    return Exported(path, parity, certificate, path.stat().st_size / 2**20)


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
            remedy="finemask.load(FILE) runs the model file; other versions of torch or onnxruntime may export it.",
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
    found = (named for named in read_images(chosen, None, reading) if named is not None)
    return {named.name: torch.tensor(named.image).permute(2, 0, 1).contiguous() for named in found}


def _versions(format: str) -> dict[str, str]:
    from importlib.metadata import version

    packages = {"onnx": ("finemask", "torch", "torchvision", "onnx", "onnxscript", "onnxruntime")}
    return {name: version(name) for name in packages[format]}
