"""ONNX: one file from a uint8 image of any size to detections in its pixels, with the model file's header in it."""

import inspect
import json
import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from finemask.errors import FinemaskError, MissingExtraError
from finemask.export import onnx_runner
from finemask.export.plain_model import PlainMaskRCNN, check_exportable
from finemask.export.preprocessing_graph import IR_VERSION, OPSET, preprocessing_graph
from finemask.model.mask_rcnn import MaskRCNN
from finemask.model_file import HEADER_KEY
from finemask.model_header import ModelHeader, header_to_json
from finemask.ops.files.atomic_files import atomic_path, python_beside, write_text

_EXAMPLE_HW = (96, 160)  # padded; two sides that differ, and neither is the smallest
_LARGEST_SIDE = 2**15
_TALKATIVE = ("torch.onnx", "torch.fx.experimental.symbolic_shapes", "onnxscript", "onnx_ir")  # loggers

_AFTER = """
<ir_version: {ir}, opset_import: ["" : {opset}]>
after (float[detections, 4] found, float[4] back_in, float[4] limits_in) => (float[detections, 4] boxes)
<float least = {{0.0}}>
{{
  scaled_back = Mul(found, back_in)
  not_before = Max(scaled_back, least)
  boxes = Min(not_before, limits_in)
}}
"""


def write_onnx(model: MaskRCNN, header: ModelHeader, path: Path) -> None:
    """Writes a model as ONNX: see ``onnx_graph``. ``score_thresh`` need not be given: it is the model's own by default.

    The metadata holds the header of the model file, as JSON, under ``finemask``. Beside the file stands a Python
    program, ``NAME_runner.py``, which runs it without torch and finemask.

    Args:
        model: in evaluation mode on the CPU.
        header: of its model file.
        path: of the file to write.

    Raises:
        MissingExtraError: a package is not installed.
        ConfigError: a part of the model cannot be exported.
        FinemaskError: the exporter gave up.
    """
    save_onnx(onnx_graph(model), model, header, path)


def save_onnx(graph: Any, model: MaskRCNN, header: ModelHeader, path: Path) -> None:
    """Writes what ``onnx_graph`` made of the model, to which threshold and header are added; see ``write_onnx``."""
    import onnx

    own = np.array(model.roi_heads.score_thresh, dtype=np.float32)
    graph.graph.initializer.append(onnx.numpy_helper.from_array(own, "score_thresh"))
    text = json.dumps(header_to_json(header), allow_nan=False, ensure_ascii=False)
    onnx.helper.set_model_props(graph, {HEADER_KEY: text})
    onnx.checker.check_model(graph)
    with atomic_path(path) as temporary:
        onnx.save_model(graph, temporary)
    runner = inspect.getsource(onnx_runner).replace('"model.onnx"', repr(path.name))
    write_text(python_beside(path, "runner"), runner)


def onnx_graph(model: MaskRCNN, extra: str = "onnx") -> Any:
    """A model as ONNX, without a default threshold and without metadata.

    Its inputs are ``image``, uint8 [H, W, 3] RGB of any size, and ``score_thresh``, float32 []: what scores no more is
    left out. Its outputs are ``boxes`` float32 [N, 4], xyxy px of that image, ``labels`` int64 [N], ``scores`` float32
    [N], best first, and ``masks`` float32 [N, M, M], the probabilities inside each box.

    Args:
        model: in evaluation mode on the CPU.
        extra: what to install where a package is missing.

    Raises:
        MissingExtraError: a package is not installed.
        ConfigError: a part of the model cannot be exported.
        FinemaskError: the exporter gave up.
    """
    check_exportable(model)
    try:
        import onnx  # noqa: F401
        import onnxscript  # noqa: F401 (torch's exporter is made of it)
        from onnx import compose, parser
    except ImportError as error:
        raise MissingExtraError("onnx", extra, needed_for=f"format={extra}") from error
    core = _core(model)
    fold_norms(core.graph)
    before = preprocessing_graph(model.preprocessing)
    after = parser.parse_model(_AFTER.format(ir=IR_VERSION, opset=OPSET))
    core.ir_version = IR_VERSION
    whole = compose.merge_models(
        compose.add_prefix(before, "before/", rename_inputs=False, rename_outputs=False),
        core,
        io_map=[("batch", "batch"), ("size_hw", "size_hw")],
    )
    whole = compose.merge_models(
        whole,
        compose.add_prefix(after, "after/", rename_inputs=False, rename_outputs=False),
        io_map=[("found", "found"), ("back", "back_in"), ("limits", "limits_in")],
    )
    outputs = {value.name: value for value in whole.graph.output}
    del whole.graph.output[:]
    whole.graph.output.extend(outputs[name] for name in ("boxes", "labels", "scores", "masks"))
    whole.graph.name = "finemask"
    whole.producer_name = "finemask"
    del whole.metadata_props[:]
    return whole


def _core(model: MaskRCNN) -> Any:
    """Everything between the padded batch and the detections in it, as an ONNX model."""
    plain = PlainMaskRCNN(model).eval()
    example = torch.zeros(1, 3, *_EXAMPLE_HW)
    size_hw = torch.tensor([_EXAMPLE_HW[0] - 6, _EXAMPLE_HW[1] - 15])
    thresh = torch.tensor(model.roi_heads.score_thresh)
    strides = [32 * torch.export.Dim(name, min=1, max=_LARGEST_SIDE // 32) for name in ("rows", "columns")]
    try:
        with torch.no_grad(), quietly():
            traced = torch.export.export(
                plain, (example, size_hw, thresh), dynamic_shapes=({2: strides[0], 3: strides[1]}, {}, {}), strict=False
            )
            program = torch.onnx.export(
                traced,
                dynamo=True,
                opset_version=OPSET,
                input_names=["batch", "size_hw", "score_thresh"],
                output_names=["found", "labels", "scores", "masks"],
                custom_translation_table=translations(),
            )
    except Exception as error:  # whatever a part does when it is traced: the exporter's errors have no common parent
        raise FinemaskError(
            f"torch's exporter cannot follow this model ({type(error).__name__}: {first_line(error)})",
            remedy="Parts of your own must be made of torch's operators, without branches on values.",
        ) from error
    assert program is not None
    return program.model_proto


def fold_norms(graph: Any) -> int:
    """Puts a frozen normalisation, a factor and a summand for each channel, into the convolution before it.

    ONNX Runtime does so only where the summand comes second, and torch's exporter writes it first; between two
    convolutions it then puts every map into another order of numbers and back.

    Args:
        graph: of an ONNX model; changed in place.

    Returns:
        How many there were.
    """
    from onnx import numpy_helper

    tensors = {tensor.name: tensor for tensor in graph.initializer}
    used_by: dict[str, list[Any]] = {value.name: [None] for value in graph.output}  # which nothing may be taken from
    for node in graph.node:
        for name in node.input:
            used_by.setdefault(name, []).append(node)

    def follower(node: Any, kind: str, channels: int) -> tuple[Any, Any] | None:
        """The only node that takes what this one gives, and its numbers [C]; None if it is another kind of node."""
        following = used_by.get(node.output[0], [])
        if len(following) != 1 or following[0] is None or following[0].op_type != kind:
            return None
        shapes = ([channels, 1, 1], [1, channels, 1, 1])
        of_channels = [name for name in following[0].input if name in tensors and list(tensors[name].dims) in shapes]
        return (following[0], _numbers(tensors[of_channels[0]])) if len(of_channels) == 1 else None

    gone, freed = [], set()
    for conv in [node for node in graph.node if node.op_type == "Conv" and node.input[1] in tensors]:
        channels = tensors[conv.input[1]].dims[0]
        if (scaled := follower(conv, "Mul", channels)) is None:
            continue
        if (shifted := follower(scaled[0], "Add", channels)) is None:
            continue
        factor, summand = scaled[1].reshape(-1), shifted[1].reshape(-1)
        if len(conv.input) > 2:
            if conv.input[2] not in tensors:
                continue
            summand = summand + _numbers(tensors[conv.input[2]]) * factor
        weight = _numbers(tensors[conv.input[1]]) * factor.reshape(-1, 1, 1, 1)
        result = shifted[0].output[0]
        names = [f"{result}/weight", f"{result}/bias"]
        for name, value in zip(names, (weight, summand), strict=True):
            graph.initializer.append(numpy_helper.from_array(value.astype(np.float32), name))
        freed |= {*conv.input[1:], *scaled[0].input, *shifted[0].input}
        conv.input[:] = [conv.input[0], *names]
        conv.output[0] = result
        gone += [scaled[0], shifted[0]]
    for node in gone:
        graph.node.remove(node)
    freed -= {name for node in graph.node for name in node.input}
    for tensor in [tensor for tensor in graph.initializer if tensor.name in freed]:
        graph.initializer.remove(tensor)
    return len(gone) // 2


def _numbers(tensor: Any) -> Any:
    """The numbers of an initializer, float64."""
    from onnx import numpy_helper

    return numpy_helper.to_array(tensor).astype(np.float64)


def translations() -> dict[Callable[..., Any], Callable[..., Any]]:
    """Operators that torch's exporter does not know, or not for every number of rows, in ONNX."""
    aten = torch.ops.aten
    return {aten.sort.stable: _stable_sort(), aten.group_norm.default: _group_norm()}


def _stable_sort() -> Callable[..., Any]:
    """``aten::sort.stable`` in ONNX, whose TopK puts the first of equal values first."""
    from onnxscript import opset20

    op: Any = opset20

    def sort(self: Any, stable: bool | None = None, dim: int = -1, descending: bool = False) -> Any:
        length = op.Gather(op.Shape(self), op.Constant(value_ints=[dim]))
        return op.TopK(self, length, axis=dim, largest=int(descending), sorted=1)

    return sort


def _group_norm() -> Callable[..., Any]:
    """``aten::group_norm`` in ONNX, for any number of rows; torch's own fails in ONNX Runtime where none is.

    That is where nothing is detected and the mask head has a norm: a length that is to be reckoned from zero numbers.
    """
    from onnxscript import opset20

    op: Any = opset20

    def group_norm(
        self: Any, num_groups: int, weight: Any, bias: Any, eps: float = 1e-5, cudnn_enabled: bool = True
    ) -> Any:
        of_group = op.Constant(value_ints=[num_groups, self.shape[1] // num_groups])
        shape = op.Concat(op.Shape(self, start=0, end=1), of_group, op.Shape(self, start=2), axis=0)
        grouped = op.Reshape(self, shape, allowzero=1)
        axes = op.Constant(value_ints=list(range(2, len(self.shape) + 1)))
        centred = op.Sub(grouped, op.ReduceMean(grouped, axes))
        variance = op.ReduceMean(op.Mul(centred, centred), axes)
        normed = op.Div(centred, op.Sqrt(op.Add(variance, op.Constant(value_float=eps))))
        for_each = op.Constant(value_ints=[-1] + [1] * (len(self.shape) - 2))
        scaled = op.Mul(op.Reshape(normed, op.Shape(self), allowzero=1), op.Reshape(weight, for_each))
        return op.Add(scaled, op.Reshape(bias, for_each))

    return group_norm


@contextmanager
def quietly() -> Iterator[None]:
    """Without the progress that exporters show, and their warnings about themselves."""
    from contextlib import redirect_stderr, redirect_stdout
    from io import StringIO

    loggers = [logging.getLogger(name) for name in _TALKATIVE]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), redirect_stdout(StringIO()), redirect_stderr(StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def first_line(error: Exception) -> str:
    """The first line of what an exporter said, or of what it said that was behind it."""
    return next(iter(str(error.__cause__ or error).strip().splitlines()), "")[:200]
