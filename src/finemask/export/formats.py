"""The formats of an export: what each is called, how it is written, and how it is opened again."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from finemask.export.onnx_file import write_onnx
from finemask.export.openvino_file import write_openvino
from finemask.export.plain_model import check_exportable
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
        open: what it wrote, in the place of the model, to be compared with it.
        packages: besides torch's, those whose versions the certificate states.
    """

    suffix: str
    check: Callable[[MaskRCNN], None]
    write: Callable[[MaskRCNN, ModelHeader, Path], None]
    open: Callable[[Path], ExportedModel] = load_exported
    packages: tuple[str, ...] = ()


FORMATS = {
    "onnx": ExportFormat(".onnx", check_exportable, write_onnx, packages=("onnx", "onnxscript", "onnxruntime")),
    "openvino": ExportFormat(".xml", check_exportable, write_openvino, packages=("onnx", "onnxscript", "openvino")),
}
