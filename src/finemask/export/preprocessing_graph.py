"""What ImageTransform does to an image, as ONNX: from uint8 [H, W, 3] to a padded batch of one."""

import math
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from finemask.types import Preprocessing

OPSET = 20  # what torch's exporter, ONNX Runtime 1.17 and OpenVINO 2024 all know
IR_VERSION = 10
_LARGEST_SIDE = 2**15  # of an image, px

# In whole numbers: ImageTransform rounds down what it computes in double precision, which some runtimes have not.
# Normalised once it has its size, which is nearly always less: the same but for rounding.
_GRAPH = """
<ir_version: {ir}, opset_import: ["" : {opset}]>
before (uint8[height, width, 3] image) => (float[1, 3, padded_height, padded_width] batch, int64[2] size_hw,
                                           float[4] back, float[4] limits)
<int64[1] min_size = {{{min_size}}}, int64[1] max_size = {{{max_size}}}, int64[1] largest = {{{largest}}},
 int64[1] nought = {{0}}, int64[1] one = {{1}},
 float[3, 1, 1] mean = {{{mean}}}, float[3, 1, 1] factor = {{{factor}}},
 int64[1] from = {{0}}, int64[1] until = {{2}}, int64[1] in_front = {{0}}, int64[2] of_one = {{1, 3}},
 int64[1] stride = {{32}}, int64[1] almost = {{31}}, int64[6] nothing = {{0, 0, 0, 0, 0, 0}},
 int64[4] as_xyxy = {{1, 0, 1, 0}}>
{{
  shape = Shape(image)
  image_hw = Slice(shape, from, until)
  shorter = ReduceMin<keepdims = 1>(image_hw)
  longer = ReduceMax<keepdims = 1>(image_hw)
  by_shorter = Mul(min_size, longer)
  by_longer = Mul(max_size, shorter)
  is_by_shorter = LessOrEqual(by_shorter, by_longer)
  size = Where(is_by_shorter, min_size, max_size)
  side = Where(is_by_shorter, shorter, longer)
  product = Mul(image_hw, size)
  estimate = Div(product, side)
  estimated = Mul(estimate, side)
  missed = Sub(product, estimated)
  is_under = GreaterOrEqual(missed, side)
  is_over = Less(missed, nought)
  under = Cast<to = 7>(is_under)
  over = Cast<to = 7>(is_over)
  raised = Add(estimate, under)
  exact = Sub(raised, over)
  reached_exactly = Mul(exact, side)
  is_whole = Equal(reached_exactly, product)
  known_side = Min(side, largest)
  short_by_shorter = Gather(short_of_min, known_side)
  short_by_longer = Gather(short_of_max, known_side)
  short_of = Where(is_by_shorter, short_by_shorter, short_by_longer)
  pixels = Cast<to = 1>(image_hw)
  shortage = Mul(short_of, pixels)
  tolerated = Gather(half_step, exact)
  is_short = Greater(shortage, tolerated)
  is_rounded_down = And(is_whole, is_short)
  rounded_down = Cast<to = 7>(is_rounded_down)
  floored = Sub(exact, rounded_down)
  size_hw = Max(floored, one)
  planes = Transpose<perm = [2, 0, 1]>(image)
  values = Cast<to = 1>(planes)
  single = Unsqueeze(values, in_front)
  wanted = Concat<axis = 0>(of_one, size_hw)
  resized = Resize<mode = "linear", coordinate_transformation_mode = "half_pixel">(single, , , wanted)
  centred = Sub(resized, mean)
  normalised = Mul(centred, factor)
  reached = Add(size_hw, almost)
  strides = Div(reached, stride)
  padded_hw = Mul(strides, stride)
  missing = Sub(padded_hw, size_hw)
  pads = Concat<axis = 0>(nothing, missing)
  batch = Pad(normalised, pads)
  batch_sides = Cast<to = 1>(size_hw)
  ratios = Div(pixels, batch_sides)
  back = Gather(ratios, as_xyxy)
  limits = Gather(pixels, as_xyxy)
}}
"""


def preprocessing_graph(preprocessing: Preprocessing) -> Any:
    """What ImageTransform does to an image, as an ONNX model of its own.

    Its input is ``image``, uint8 [H, W, 3]; its outputs are ``batch`` float32 [1, 3, H, W], ``size_hw`` int64 [2]
    without the padding, ``back`` float32 [4], which boxes are multiplied by, and ``limits`` float32 [4], which they are
    then clipped to.
    """
    from onnx import numpy_helper, parser

    mean = 255.0 * torch.tensor(preprocessing.image_mean)
    factor = 1.0 / (255.0 * torch.tensor(preprocessing.image_std))
    shorter, longer = preprocessing.min_size[-1], preprocessing.max_size
    text = _GRAPH.format(
        ir=IR_VERSION,
        opset=OPSET,
        min_size=shorter,
        max_size=longer,
        largest=_LARGEST_SIDE,
        mean=", ".join(repr(value) for value in mean.tolist()),
        factor=", ".join(repr(value) for value in factor.tolist()),
    )
    # Without its tables it is no valid graph, and the parser does not look.
    graph = parser.parse_model(text)
    tables = {"short_of_min": _short_of(shorter), "short_of_max": _short_of(longer), "half_step": _half_step(longer)}
    graph.graph.initializer.extend(numpy_helper.from_array(table, name) for name, table in tables.items())
    return graph


def _short_of(size: int) -> NDArray[np.float32]:
    """By how much size / side falls short in double precision, for each side; 0 where it does not. In units of 2⁻⁵³.

    Where a side is to become a whole number of pixels, ``floor(side * (size / other))`` is one less if this shortage,
    times the side, is more than half a step of double precision: 77 px to 128 give 127.
    """
    table = np.zeros(_LARGEST_SIDE + 1, dtype=np.float32)
    for side in range(1, _LARGEST_SIDE + 1):
        numerator, denominator = (size / side).as_integer_ratio()
        table[side] = max(0.0, (size * denominator - numerator * side) * 2**53 / (denominator * side))
    return table


def _half_step(longest: int) -> NDArray[np.float32]:
    """Half the distance from a whole number to the double below it, for each from 0 on. In units of 2⁻⁵³."""
    below = [(number - math.nextafter(number, 0)) * 2**52 for number in range(1, longest + 2)]
    return np.array([0.0, *below], dtype=np.float32)
