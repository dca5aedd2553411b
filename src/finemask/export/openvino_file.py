"""OpenVINO: an .xml with the graph and the model file's header, and beside it a .bin with the weights."""

import json
import logging
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from finemask.errors import FinemaskError, MissingExtraError
from finemask.export.onnx_file import onnx_graph, quietly
from finemask.model.mask_rcnn import MaskRCNN
from finemask.model_file import HEADER_KEY
from finemask.model_header import ModelHeader, header_to_json

_NOT_ROUNDED = ("Add", "Subtract", "Multiply", "Divide", "Interpolate", "ROIAlign", "Concat", "Softmax", "Sigmoid")


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
        import openvino  # noqa: F401 (before the minute that the graph takes)
    except ImportError as error:
        raise MissingExtraError("openvino", "openvino", needed_for="format=openvino") from error
    save_openvino(onnx_graph(model, "openvino"), header, path)


def save_openvino(graph: Any, header: ModelHeader, path: Path) -> None:
    """Writes what ``onnx_graph`` made of a model, with its header; see ``write_openvino``.

    Raises:
        FinemaskError: OpenVINO cannot read it.
    """
    import openvino
    from openvino.passes import ConstantFolding, Manager

    try:
        content = openvino.Core().read_model(graph.SerializeToString())
        manager = Manager()
        manager.register_pass(ConstantFolding())  # weights that are reshaped in the graph; INT8 needs to see them
        manager.run_passes(content)
    except Exception as error:  # its errors have no common parent that it documents
        raise FinemaskError(f"OpenVINO cannot read this model as ONNX ({error})") from error
    content.set_rt_info(json.dumps(header_to_json(header), allow_nan=False), HEADER_KEY)
    save(content, path)


def lower_openvino(source: Path, path: Path, precision: str, thresh: float, images: Sequence[Tensor]) -> None:
    """Writes a file of ``write_openvino`` once more, with numbers of fewer bits.

    Args:
        source: the .xml.
        path: of the .xml to write.
        precision: ``fp16``: weights of 16 bits, computed with in float32; ``int8``: convolutions and matrix products of
            8 bits, whose ranges are those that the images show.
        thresh: what scores no more is left out, while ranges are looked for.
        images: uint8 [3, H, W], for ``int8``.

    Raises:
        MissingExtraError: a package is not installed.
    """
    import openvino

    content = openvino.Core().read_model(source)
    if precision == "fp16":
        save(content, path, half_weights=True)
        return
    os.environ.setdefault("NNCF_CI", "1")  # it would tell its makers that it was used
    logger_class = logging.getLoggerClass()
    try:
        import nncf
    except ImportError as error:
        raise MissingExtraError("nncf", "openvino", needed_for="precision=int8") from error
    finally:
        logging.setLoggerClass(logger_class)  # it puts its own in the place of everybody's, which drops warnings

    def given(image: Tensor) -> dict[str, Any]:
        pixels = np.ascontiguousarray(image.permute(1, 2, 0).numpy())
        return {"image": pixels, "score_thresh": np.array(thresh, dtype=np.float32)}

    nncf.set_log_level(logging.ERROR)
    with quietly():
        rounded = nncf.quantize(
            content,
            nncf.Dataset(list(images), given),
            subset_size=len(images),
            # Pixels, boxes and scores are computed with in float32: they are cheap, and 8 bits are too few for them.
            # So are the layers whose numbers they are made of.
            ignored_scope=nncf.IgnoredScope(names=last_layers(content), types=list(_NOT_ROUNDED), validate=False),
        )
    save(rounded, path)


def last_layers(content: Any) -> list[str]:
    """Names of the matrix products of an OpenVINO model that no ReLU follows: they give logits and codes of boxes."""

    def followers(node: Any) -> list[Any]:
        return [given.get_node() for output in node.outputs() for given in output.get_target_inputs()]

    products = [node for node in content.get_ops() if node.get_type_name() == "MatMul"]
    names = []
    for product in products:
        after = followers(product)
        while after and {node.get_type_name() for node in after} <= {"Multiply", "Add", "Reshape", "Transpose"}:
            after = [later for node in after for later in followers(node)]
        if not {node.get_type_name() for node in after} & {"Relu", "Clamp"}:
            names.append(product.get_friendly_name())
    return names


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
