"""Preprocessing in the graph against the model's own, in each runtime that is installed."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from finemask.export.preprocessing_graph import preprocessing_graph
from finemask.model.mask_rcnn import ImageTransform
from finemask.types import Preprocessing

onnx = pytest.importorskip("onnx")


def in_onnxruntime(content: bytes) -> Callable[[dict[str, Any]], list[Any]]:
    onnxruntime = pytest.importorskip("onnxruntime")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(content, options)
    return lambda given: session.run(None, given)


def in_openvino(content: bytes) -> Callable[[dict[str, Any]], list[Any]]:
    core = pytest.importorskip("openvino").Core()
    compiled = core.compile_model(core.read_model(content), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return lambda given: list(compiled(given).values())


RUNTIMES = pytest.mark.parametrize("runtime", [in_onnxruntime, in_openvino])


def preprocessing(shorter: int, longer: int) -> Preprocessing:
    return Preprocessing((shorter,), longer, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


@RUNTIMES
@pytest.mark.parametrize("shorter", [128, 320, 480])
def test_the_graph_prepares_images_as_the_model_does(runtime, shorter: int) -> None:
    transform = ImageTransform(preprocessing(shorter, 512)).eval()
    run = runtime(preprocessing_graph(preprocessing(shorter, 512)).SerializeToString())
    rng = np.random.default_rng(0)
    for height, width in ((1, 1), (77, 154), (44, 88), (320, 320), (61, 700), (700, 61), (96, 128)):
        image = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
        batch, size_hw, back, limits = run({"image": image})
        wanted, _ = transform([torch.from_numpy(image).permute(2, 0, 1)])
        assert tuple(size_hw) == wanted.image_sizes[0], (height, width)
        np.testing.assert_allclose(batch, wanted.tensors.numpy(), atol=1e-3)  # noise: a hair to the side counts
        np.testing.assert_allclose(back * np.tile(size_hw[::-1], 2), limits)
        assert limits.tolist() == [width, height, width, height]


@RUNTIMES
@pytest.mark.parametrize(("shorter", "longer"), [(128, 192), (320, 512), (800, 1333)])
def test_sizes_are_those_of_double_precision(runtime, shorter: int, longer: int) -> None:
    """77 px to 128 become 127, as in the model: what is rounded is a hair below 128 in double precision only."""
    graph = preprocessing_graph(preprocessing(shorter, longer))
    nodes = list(graph.graph.node)
    last = next(number for number, node in enumerate(nodes) if node.output[0] == "size_hw")
    del graph.graph.node[:], graph.graph.input[:], graph.graph.output[:]
    graph.graph.node.extend(nodes[1 : last + 1])  # from the shape on: no image has to be made
    graph.graph.input.append(onnx.helper.make_tensor_value_info("shape", onnx.TensorProto.INT64, [3]))
    graph.graph.output.append(onnx.helper.make_tensor_value_info("size_hw", onnx.TensorProto.INT64, [2]))
    run = runtime(graph.SerializeToString())
    transform = ImageTransform(preprocessing(shorter, longer)).eval()
    rng = np.random.default_rng(0)
    sizes = [(side, side) for side in range(1, 300)] + [(4 * k, 3 * k) for k in range(1, 200)]
    sizes += [(k, 2 * k) for k in range(1, 200)] + [(int(h), int(w)) for h, w in rng.integers(1, 6000, (200, 2))]
    wanted = [transform.resized_size(size) for size in sizes]
    assert [tuple(run({"shape": np.array([*size, 3])})[0].tolist()) for size in sizes] == wanted
    whole = [(size, found) for size, found in zip(sizes, wanted, strict=True) if size[0] == size[1]]
    assert any(found[0] < min(shorter, longer) for _, found in whole)  # the case is among them
