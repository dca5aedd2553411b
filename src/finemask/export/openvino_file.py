"""OpenVINO: an .xml with the graph and the model file's header, and beside it a .bin with the weights."""

import json
import tempfile
from pathlib import Path
from typing import Any

from finemask.errors import FinemaskError, MissingExtraError
from finemask.export.onnx_file import onnx_graph
from finemask.model.mask_rcnn import MaskRCNN
from finemask.model_file import HEADER_KEY
from finemask.model_header import ModelHeader, header_to_json


def write_openvino(model: MaskRCNN, header: ModelHeader, path: Path) -> None:
    """Writes a model as OpenVINO IR in float32: ``onnx_graph``, as OpenVINO reads it.

    Inputs and outputs are those of ``onnx_graph``; ``score_thresh`` has to be given, because OpenVINO knows no default
    values. The header of the model file stands in the model's rt_info as JSON, under ``finemask``.

    Args:
        model: in evaluation mode on the CPU.
        header: of its model file.
        path: of the .xml to write; the weights are written beside it, with the suffix .bin.

    Raises:
        MissingExtraError: a package is not installed.
        ConfigError: a part of the model cannot be exported.
        FinemaskError: the exporter gave up.
    """
    try:
        import openvino
    except ImportError as error:
        raise MissingExtraError("openvino", "openvino", needed_for="format=openvino") from error
    graph = onnx_graph(model, "openvino")
    try:
        content = openvino.Core().read_model(graph.SerializeToString())
    except Exception as error:  # its errors have no common parent that it documents
        raise FinemaskError(f"OpenVINO cannot read this model as ONNX ({error})") from error
    content.set_rt_info(json.dumps(header_to_json(header), allow_nan=False), HEADER_KEY)
    save(content, path)


def save(content: Any, path: Path, *, half_weights: bool = False) -> None:
    """Writes the .xml and the .bin of an OpenVINO model, both or neither.

    Args:
        content: the model.
        path: of the .xml.
        half_weights: weights as float16; they are computed with in float32.
    """
    import openvino

    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.stem}-") as folder:
        written = Path(folder) / path.name
        openvino.save_model(content, written, compress_to_fp16=half_weights)
        for suffix in (".bin", ".xml"):
            written.with_suffix(suffix).replace(path.with_suffix(suffix))
