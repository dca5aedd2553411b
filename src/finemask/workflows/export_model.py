"""Exporting a model file: written, compared with the model, and kept only if both agree."""

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from finemask.coco.index import CocoIndex
from finemask.config import verb_options
from finemask.errors import ConfigError, DataError, FinemaskError
from finemask.evaluation.evaluator import CocoEvaluator
from finemask.evaluation.ground_truth import ground_truth_of
from finemask.evaluation.results import iou_types_of
from finemask.export.agreement import Agreement
from finemask.export.certificate import AP, PROBE_SIZES_HW, Certificate, certify, probe_images
from finemask.export.formats import FORMATS, ExportFormat
from finemask.export.rounding import LEAST_FOUND_ALIKE, Rounding, compare_rounded
from finemask.inference.exported_model import ExportedModel
from finemask.inference.read_ahead import read_images
from finemask.inference.sources import NamedImage, Unread, list_items
from finemask.model.mask_rcnn import MaskRCNN
from finemask.model_file import find_model_file, load_model_file, read_header
from finemask.model_header import ModelHeader
from finemask.model_hub import hub_address
from finemask.ops.files.atomic_files import made_folder, write_json
from finemask.ops.files.documents import sha256_of
from finemask.ops.images.image_reading import ImageReading
from finemask.ops.terminal import Progress
from finemask.ops.wording import fraction, percent, plural
from finemask.workflows.detect_split import detect_split, split_paths

_COMPARED = 20  # of the user's images, spread evenly over all
_CALIBRATED_ON = 200  # of the images that INT8 is calibrated by, likewise
_NAMED = 3


@dataclass(frozen=True, slots=True)
class Split:
    """A split of a dataset, opened.

    Args:
        name: ``train``, ``val`` or ``test``.
        index: of its images.
        annotations: its file.
    """

    name: str
    index: CocoIndex
    annotations: Path

    @classmethod
    def open(cls, data: Mapping[str, Any], name: str, header: ModelHeader) -> "Split":
        """Opens a split of the group ``data``, with the categories of a model file.

        Raises:
            FinemaskError: there is no such split, it cannot be read, or has no images.
        """
        annotations, images_dir = split_paths(data, name)
        reading = ImageReading.of(data["image"], header.reading)
        index = CocoIndex.read(annotations, images_dir, categories=header.categories, reading=reading)
        if not len(index):
            raise DataError("no images", where=annotations)
        return cls(name, index, annotations)

    def images(self, most: int) -> dict[str, Tensor]:
        """Images uint8 [3, H, W] by name, spread evenly over all.

        Raises:
            DataError: one cannot be read.
        """
        count = min(most, len(self.index))
        chosen = [number * len(self.index) // count for number in range(count)]
        pixels = {self.index.image_path(i).name: self.index.read_image(i) for i in chosen}
        return {name: torch.from_numpy(image).permute(2, 0, 1).contiguous() for name, image in pixels.items()}

    def average_precision(self, models: Mapping[str, nn.Module]) -> dict[str, dict[str, float | None]]:
        """``segm_AP`` and ``bbox_AP`` of each model, by its name; without masks in the ground truth, of boxes only.

        Raises:
            DataError: an image cannot be read, or is not of the size that the annotations state.
        """
        truth = ground_truth_of(self.index.columns, str(self.annotations))
        found = {}
        for name, model in models.items():
            evaluator = CocoEvaluator(truth, self.index.category_ids, iou_types=iou_types_of([], truth))
            detect_split(model, self.index, evaluator, torch.device("cpu"), 1, "auto")
            metrics = evaluator.compute()
            found[name] = {f"{iou_type}_AP": metrics[iou_type]["AP"] for iou_type in evaluator.iou_types}
        return found


@dataclass(frozen=True, slots=True)
class Exported:
    """What an export wrote.

    Args:
        path: the exported file.
        beside: other files that belong to it.
        parity: ``PATH.parity.json``.
        certificate: the comparison; of a lower precision, that of the file that it was made of.
        rounding: what the lower precision changed; None without one.
        megabytes: of the exported file and those beside it.
        note: what is to be known of the format.
    """

    path: Path
    beside: tuple[Path, ...]
    parity: Path
    certificate: Certificate
    rounding: Rounding | None
    megabytes: float
    note: str = ""


def export(
    model: str | Path,
    output: str | Path,
    *,
    format: str = "onnx",
    images: str | Path | Sequence[str | Path] | None = None,
    data_root: str | Path | None = None,
    overrides: Sequence[str] = (),
) -> Exported:
    """What ``finemask export`` does: ``export("model.safetensors", "model.onnx", images="photos/")``.

    Args:
        model: a model file or a run.
        output: the file to write.
        format: ``onnx``, ``openvino``, ``torch_export``, ``torchscript`` or ``torchvision``.
        images: images to compare on, as for ``predict``.
        data_root: folder of a dataset, to state the AP of both.
        overrides: as on the command line.

    Raises:
        FinemaskError: the model cannot be exported, or the exported file does not agree with it.
    """
    given = {"model": model, "output": output, "format": format, "images": images, "data.root": data_root}
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
    precision = options["precision"]
    if precision != "fp32" and form.lower is None:
        raise ConfigError(
            f"precision={precision} is not for format={options['format']}",
            remedy="There is format=openvino precision=fp16 and precision=int8.",
        )
    form.check_header(read_header(file))
    model, header = load_model_file(file, options["trust"])
    assert isinstance(model, MaskRCNN)
    form.check(model)
    data = options["data"]
    split = None if data["root"] is None else Split.open(data, options["split"], header)
    images = _images(options["images"], header, _COMPARED)
    if not images and split is not None:
        images = split.images(_COMPARED)
    calibration = _calibration(options, header) if precision == "int8" else []
    # Beside its place, so that it comes there in one step once it has been found to agree.
    parent, prefix = path.parent, f".{path.stem}-"
    with made_folder(parent), tempfile.TemporaryDirectory(dir=parent, prefix=prefix) as folder:
        written = Path(folder) / path.name
        with Progress("exporting", 1, "file") as progress:
            form.write(model, header, written)
            progress.advance()
        with Progress("comparing", len(images) + len(PROBE_SIZES_HW), "images") as progress:
            certificate = certify(model, form.open(written, header), images, progress.advance)
        refuse(certificate, path)
        rounding = None
        if form.lower is not None and precision != "fp32":
            source, written = written, Path(folder) / precision / path.name
            with Progress("rounding", 1, "file") as progress:
                form.lower(source, written, precision, model.roi_heads.score_thresh, calibration)
                progress.advance()
            rounding = _rounding(model, form.open(written, header), images, precision, len(calibration), header)
        if split is not None:
            exported = form.open(written, header)
            certificate.average_precision = split.average_precision({"model": model, "exported": exported})
            if rounding is None:
                refuse_ap(certificate, split.name, path)
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
            "split": None if split is None else {"annotations": str(split.annotations), "images": len(split.index)},
            "rounding": None if rounding is None else rounding.to_json(),
            "versions": _versions(form),
        }
        compared = written.with_name(parity.name)
        write_json(compared, content | certificate.to_json())
        # Nothing is written any more, only renamed: the file itself comes last.
        beside = tuple(other.replace(path.with_name(other.name)) for other in others)
        compared.replace(parity)
        written.replace(path)
    return Exported(path, beside, parity, certificate, rounding, size / 2**20, form.note)


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


def refuse_ap(certificate: Certificate, split: str, path: Path) -> None:
    """Raises where the APs of the model and of the exported file differ.

    Raises:
        FinemaskError: it says which.
    """
    if certificate.ap_difference() > AP:
        model, exported = (certificate.average_precision[name] for name in ("model", "exported"))
        named = "; ".join(f"{key} {fraction(model[key])} becomes {fraction(exported[key])}" for key in model)
        raise FinemaskError(
            f"the exported file is not as good as the model on {split}, and was not written: {named}", where=path
        )


def _rounding(
    model: MaskRCNN,
    rounded: ExportedModel,
    images: Mapping[str, Tensor],
    precision: str,
    calibrated_on: int,
    header: ModelHeader,
) -> Rounding:
    """What the lower precision changes, on the images, or on drawn ones where there are none.

    Raises:
        FinemaskError: the file finds something else.
    """
    threshold = float(header.thresholds.get("global", 0.5))
    shown = images or dict(probe_images())
    with Progress("comparing", len(shown), "images") as progress:
        done = compare_rounded(model, rounded, shown, precision, calibrated_on, threshold, progress.advance)
    if done.found_alike < LEAST_FOUND_ALIKE:
        raise FinemaskError(
            f"with precision={precision}, {percent(done.found_alike)} of the detections above score {threshold:.2f} "
            f"are found by both, on {plural(done.images, 'image')}; nothing was written",
            remedy=f"At least {percent(LEAST_FOUND_ALIKE)} are asked for. precision=fp32 finds what the model finds; "
            "INT8 needs images that look as those it will see.",
        )
    return done


def _calibration(options: Mapping[str, Any], header: ModelHeader) -> list[Tensor]:
    """Images that show INT8 the ranges of numbers: of training, or the user's.

    Raises:
        FinemaskError: there are none, or one cannot be read.
    """
    data = options["data"]
    if data["root"] is not None and data["train"] is not None:
        return list(Split.open(data, "train", header).images(_CALIBRATED_ON).values())
    if options["images"] is None:
        raise ConfigError(
            "precision=int8 needs images, to see what numbers occur",
            remedy="Give the dataset, data.root=DIR, whose training images are taken, or images=FOLDER.",
        )
    return list(_images(options["images"], header, _CALIBRATED_ON).values())


def _fault_in_words(fault: Agreement) -> str:
    height, width = fault.size_hw
    return f"{fault.image} ({width} × {height} px, score threshold {fault.score_thresh:.3g}): {fault.fault}"


def _images(source: Any, header: ModelHeader, most: int) -> dict[str, Tensor]:
    """The user's images as tensors uint8 [3, H, W] by name; so many at most, spread evenly over all."""
    if source is None:
        return {}
    items = [item for item in list_items(source) if not item.is_video]
    step = max(1, len(items) / most)
    chosen = [items[int(number * step)] for number in range(min(len(items), most))]
    if not chosen:
        raise ConfigError(f"images={source} holds no images", remedy="Give a folder of images, or leave it out.")
    found = {}
    for one in read_images(chosen, ImageReading.of(None, header.reading)):
        if isinstance(one, Unread):
            raise one.error
        assert isinstance(one, NamedImage)
        found[one.name] = torch.tensor(one.image).permute(2, 0, 1).contiguous()
    return found


def _versions(form: ExportFormat) -> dict[str, str]:
    from importlib.metadata import version

    return {name: version(name) for name in ("finemask", "torch", "torchvision", *form.packages)}
