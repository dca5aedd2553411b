"""ONNX: one file from a uint8 image of any size to detections in its pixels, with the model file's header in it."""

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
from finemask.export.plain_model import PlainMaskRCNN, check_exportable
from finemask.model.mask_rcnn import MaskRCNN
from finemask.model_file import HEADER_KEY
from finemask.model_header import ModelHeader, header_to_json
from finemask.ops.files import atomic_path
from finemask.types import Preprocessing

OPSET = 20  # what torch's exporter, ONNX Runtime 1.17 and OpenVINO 2024 all know
_IR_VERSION = 10
_FORMAT: dict[str, Any] = {"ir": _IR_VERSION, "opset": OPSET}
_EXAMPLE_HW = (96, 160)  # padded; two sides that differ, and neither is the smallest
_LARGEST_SIDE = 2**15
_TALKATIVE = ("torch.onnx", "torch.fx.experimental.symbolic_shapes", "onnxscript", "onnx_ir")  # loggers

# Exactly what ImageTransform does, its floor in double precision included: a float would round other sizes down.
_BEFORE = """
<ir_version: {ir}, opset_import: ["" : {opset}]>
before (uint8[height, width, 3] image) => (float[1, 3, padded_height, padded_width] batch, int64[2] size_hw,
                                           float[4] back, float[4] limits)
<double[1] min_size = {{{min_size}}}, double[1] max_size = {{{max_size}}}, double[1] one = {{1.0}},
 float[3, 1, 1] mean = {{{mean}}}, float[3, 1, 1] factor = {{{factor}}},
 int64[1] from = {{0}}, int64[1] until = {{2}}, int64[1] in_front = {{0}}, int64[2] of_one = {{1, 3}},
 int64[1] stride = {{32}}, int64[1] almost = {{31}}, int64[6] nothing = {{0, 0, 0, 0, 0, 0}},
 int64[4] as_xyxy = {{1, 0, 1, 0}}>
{{
  shape = Shape(image)
  image_hw = Slice(shape, from, until)
  sides = Cast<to = 11>(image_hw)
  shorter = ReduceMin<keepdims = 1>(sides)
  longer = ReduceMax<keepdims = 1>(sides)
  by_shorter = Div(min_size, shorter)
  by_longer = Div(max_size, longer)
  scale = Min(by_shorter, by_longer)
  scaled = Mul(sides, scale)
  whole = Floor(scaled)
  resized_sides = Max(whole, one)
  size_hw = Cast<to = 7>(resized_sides)
  planes = Transpose<perm = [2, 0, 1]>(image)
  values = Cast<to = 1>(planes)
  centred = Sub(values, mean)
  normalised = Mul(centred, factor)
  single = Unsqueeze(normalised, in_front)
  wanted = Concat<axis = 0>(of_one, size_hw)
  resized = Resize<mode = "linear", coordinate_transformation_mode = "half_pixel">(single, , , wanted)
  reached = Add(size_hw, almost)
  strides = Div(reached, stride)
  padded_hw = Mul(strides, stride)
  missing = Sub(padded_hw, size_hw)
  pads = Concat<axis = 0>(nothing, missing)
  batch = Pad(resized, pads)
  image_sides = Cast<to = 1>(image_hw)
  batch_sides = Cast<to = 1>(size_hw)
  ratios = Div(image_sides, batch_sides)
  back = Gather(ratios, as_xyxy)
  limits = Gather(image_sides, as_xyxy)
}}
"""
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
    """Writes a model as ONNX.

    Its input is ``image``, uint8 [H, W, 3] RGB of any size; its outputs are ``boxes`` float32 [N, 4], xyxy px of that
    image, ``labels`` int64 [N], ``scores`` float32 [N], best first, and ``masks`` float32 [N, M, M], the probabilities
    inside each box. A second input, ``score_thresh``, need not be given: what scores no more is left out; it is the
    model's own by default. The metadata holds the header of the model file, as JSON, under ``finemask``.

    Args:
        model: in evaluation mode on the CPU.
        header: of its model file.
        path: of the file to write.

    Raises:
        MissingExtraError: a package is not installed.
        ConfigError: a part of the model cannot be exported.
        FinemaskError: the exporter gave up.
    """
    check_exportable(model)
    try:
        import onnx
        import onnxscript  # noqa: F401 (torch's exporter is made of it)
        from onnx import compose, parser
    except ImportError as error:
        raise MissingExtraError("onnx", "onnx", needed_for="format=onnx") from error
    core = _core(model)
    before = preprocessing_graph(model.preprocessing)
    after = parser.parse_model(_AFTER.format(**_FORMAT))
    core.ir_version = _IR_VERSION
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
    whole.graph.initializer.append(
        onnx.numpy_helper.from_array(np.array(model.roi_heads.score_thresh, dtype=np.float32), "score_thresh")
    )
    whole.graph.name = "finemask"
    whole.producer_name = "finemask"
    del whole.metadata_props[:]
    text = json.dumps(header_to_json(header), allow_nan=False, ensure_ascii=False)
    onnx.helper.set_model_props(whole, {HEADER_KEY: text})
    onnx.checker.check_model(whole)
    with atomic_path(path) as temporary:
        onnx.save_model(whole, temporary)


def preprocessing_graph(preprocessing: Preprocessing) -> Any:
    """What ImageTransform does to an image, as an ONNX model of its own.

    Its input is ``image``, uint8 [H, W, 3]; its outputs are ``batch`` float32 [1, 3, H, W], ``size_hw`` int64 [2]
    without the padding, ``back`` float32 [4], which boxes are multiplied by, and ``limits`` float32 [4], which they are
    then clipped to.
    """
    from onnx import parser

    mean = 255.0 * torch.tensor(preprocessing.image_mean)
    factor = 1.0 / (255.0 * torch.tensor(preprocessing.image_std))
    numbers = {
        "min_size": repr(float(preprocessing.min_size[-1])),
        "max_size": repr(float(preprocessing.max_size)),
        "mean": ", ".join(repr(value) for value in mean.tolist()),
        "factor": ", ".join(repr(value) for value in factor.tolist()),
    }
    return parser.parse_model(_BEFORE.format(**_FORMAT, **numbers))


def _core(model: MaskRCNN) -> Any:
    """Everything between the padded batch and the detections in it, as an ONNX model."""
    plain = PlainMaskRCNN(model).eval()
    example = torch.zeros(1, 3, *_EXAMPLE_HW)
    size_hw = torch.tensor([_EXAMPLE_HW[0] - 6, _EXAMPLE_HW[1] - 15])
    thresh = torch.tensor(model.roi_heads.score_thresh)
    strides = [32 * torch.export.Dim(name, min=1, max=_LARGEST_SIDE // 32) for name in ("rows", "columns")]
    try:
        with torch.no_grad(), _quietly():
            traced = torch.export.export(
                plain, (example, size_hw, thresh), dynamic_shapes=({2: strides[0], 3: strides[1]}, {}, {}), strict=False
            )
            program = torch.onnx.export(
                traced,
                dynamo=True,
                opset_version=OPSET,
                input_names=["batch", "size_hw", "score_thresh"],
                output_names=["found", "labels", "scores", "masks"],
                custom_translation_table={torch.ops.aten.sort.stable: _stable_sort()},
            )
    except Exception as error:  # whatever a part does when it is traced: the exporter's errors have no common parent
        raise FinemaskError(
            f"torch's exporter cannot follow this model ({type(error).__name__}: {_first_line(error)})",
            remedy="Parts of your own must be made of torch's operators, without branches on values.",
        ) from error
    assert program is not None
    return program.model_proto


def _stable_sort() -> Callable[..., Any]:
    """``aten::sort.stable`` in ONNX, whose TopK puts the first of equal values first."""
    from onnxscript import opset20

    op: Any = opset20

    def sort(self: Any, stable: bool | None = None, dim: int = -1, descending: bool = False) -> Any:
        length = op.Gather(op.Shape(self), op.Constant(value_ints=[dim]))
        return op.TopK(self, length, axis=dim, largest=int(descending), sorted=1)

    return sort


@contextmanager
def _quietly() -> Iterator[None]:
    """Without the exporter's own progress and its warnings about itself."""
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


def _first_line(error: Exception) -> str:
    return next(iter(str(error.__cause__ or error).strip().splitlines()), "")[:200]
