"""The formats of an export: what each is called, how it is written, and how it is opened again."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from finemask.export.onnx_file import write_onnx
from finemask.export.openvino_file import lower_openvino, write_openvino
from finemask.export.plain_model import check_exportable, check_header
from finemask.export.torch_export_file import TorchExportModel, write_torch_export
from finemask.export.torchscript_file import TorchScriptModel, write_torchscript
from finemask.export.torchvision_file import check_torchvision, open_torchvision, write_torchvision
from finemask.inference.exported_model import ExportedModel, load_exported
from finemask.model.mask_rcnn import MaskRCNN
from finemask.model_header import ModelHeader


@dataclass(frozen=True, slots=True)
class ExportFormat:
    """A format.

    Args:
        suffix: of the file that ``output=`` names.
        check: raises ``ConfigError`` before any work, where a model cannot be written in this format.
        write: writes the file; what else belongs to it, it writes into the same folder.
        open: what it wrote, in the place of the model, to be compared with it; it is given the header of the model
            file, for formats that hold none.
        lower: writes what ``write`` wrote once more, in a lower precision: source, file, precision, score threshold,
            images to calibrate by; None where the format has one precision only.
        check_header: raises ``ConfigError`` as far as the header of the model file tells, before weights are read.
        packages: besides torch's, those whose versions the certificate states.
        note: what whoever asks for it should know.
    """

    suffix: str
    check: Callable[[MaskRCNN], None]
    write: Callable[[MaskRCNN, ModelHeader, Path], None]
    open: Callable[[Path, ModelHeader], ExportedModel] = lambda path, _: load_exported(path)
    lower: Callable[[Path, Path, str, float, Sequence[Tensor]], None] | None = None
    check_header: Callable[[ModelHeader], None] = lambda _: None
    packages: tuple[str, ...] = ()
    note: str = ""


FORMATS = {
    "onnx": ExportFormat(
        ".onnx",
        check_exportable,
        write_onnx,
        check_header=check_header,
        packages=("onnx", "onnxscript", "onnxruntime"),
    ),
    "openvino": ExportFormat(
        ".xml",
        check_exportable,
        write_openvino,
        lower=lower_openvino,
        check_header=check_header,
        packages=("onnx", "onnxscript", "openvino"),
    ),
    "torch_export": ExportFormat(
        ".pt2", check_exportable, write_torch_export, TorchExportModel, check_header=check_header
    ),
    "torchscript": ExportFormat(
        ".torchscript",
        check_torchvision,
        write_torchscript,
        TorchScriptModel,
        note="torch has deprecated TorchScript: for new programs take format=onnx or format=torch_export",
    ),
    "torchvision": ExportFormat(".pth", check_torchvision, write_torchvision, open_torchvision),
}
